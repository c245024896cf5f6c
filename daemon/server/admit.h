/* Who may do what. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "daemon/base/err.h"
#include "daemon/config/access.h"
#include "daemon/store/request.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

struct server;
struct session;

extern const char API_NAMESPACES_OF[];

struct access peer_access(const struct server *srv, int fd, uid_t uid, gid_t gid);
/* Whether the message may run now. If not, it has been answered, or will be (and perhaps run) when the database has
 * told what it is about. */
bool admitted(struct session *s, enum msg_id m, bool request, uint32_t id, const msgpack_object *params);
/* Whether the peer may send it about that namespace. 0 or -EACCES with *e. */
int admit_namespace(struct session *s, enum msg_id m, const char *ns, size_t n, struct err *e) must_check;
/* The same about all of them. */
int admit_everywhere(struct session *s, enum msg_id m, struct err *e) must_check;
/* Whether the peer may connect as what it says it is. 0 or -EACCES with *e. */
int admit_session(struct session *s, struct err *e) must_check;
/* The rules are others now: hold every session against them. */
void sessions_readmit(struct server *srv);
/* Add to a request's JSON in which namespaces a restricted peer may look: "within". */
void admit_put_within(const struct session *s, enum msg_id m, struct buf *json);
void namespaces_answered(struct server *srv, struct req *r);
