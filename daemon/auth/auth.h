/* Who asks over HTTP. Everything here is for the loop thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/config/access.h"
#include "daemon/config/options.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

#define PRINCIPAL_NAME_MAX 128

/* Whom requests are made for: what he may do, and under which name it is on record. */
struct principal {
	char name[PRINCIPAL_NAME_MAX]; /* needs no quoting anywhere; empty: the user `uid` of this host */
	uid_t uid;		       /* of the peer of a Unix socket, as the kernel has it; else (uid_t)-1 */
	gid_t gid;
	pid_t pid; /* the same; else 0 */
	struct access access;
	struct access_rules *own; /* access.rules, if they were made for this principal; or NULL */
	usec_t expires;		  /* wall clock; 0: never */
	char token[13];		  /* id of a bearer token, or empty */
};
/* Letters, digits and some signs stay, all else becomes %XX. False: it is too long. */
bool principal_set_name(struct principal *p, const char *name) must_check;
/* `roles` are bits 1 << enum role; n 0: in all namespaces. 0, -ENOMEM, or -EINVAL: not the name of a namespace. */
int principal_grant(struct principal *p, unsigned roles, const char *const *namespaces, size_t n) must_check;
void principal_done(struct principal *p);

/* What a request shows of who makes it. Pointers are good for the call only. */
struct auth_question {
	const char *authorization; /* value of the header, or NULL */
	const char *peer;	   /* address, for logs */
};

enum auth_verdict {
	AUTH_OK,
	AUTH_MISSING, /* nothing is shown, and something is needed */
	/* unknown, malformed or expired: *e says which; or it cannot be told (*e has another code than
	 * permission_denied) */
	AUTH_INVALID,
};

struct auth;
/* Takes over `opt`, which must live as long, as it is now. NULL with *e. `notes` has a line for each key that is passed
 * over. */
struct auth *auth_new(const struct options *opt, struct buf *notes, struct err *e) must_check;
struct auth *auth_free(struct auth *a); /* returns NULL, accepts NULL */
/* The files that the options name, read: to be shown to the next two. NULL with *e, and without them (then `e` has no
 * code). */
struct jwt_keys;
struct jwt_keys *auth_read_files(const struct options *opt, struct buf *notes, struct err *e) must_check;
/* The options have changed, or the files. Takes `keys`. */
void auth_reload(struct auth *a, struct jwt_keys *keys);
void auth_files_free(struct jwt_keys *keys);

/* Who makes a request that shows a token, or comes over TCP. AUTH_OK: *who is the caller's, with principal_done;
 * AUTH_MISSING and AUTH_INVALID: *e is what the client is told. */
enum auth_verdict http_authenticate(struct auth *a, const struct auth_question *q, struct principal *who,
                                    struct err *e) must_check;
/* Whether who was let in is still to be: neither revoked nor expired. */
bool auth_still(const struct auth *a, const struct principal *who);

/* Bearer tokens come from the database, by tasker.api_token_sync: every AUTH_SYNC_US, and as soon as one changes. */
#define AUTH_SYNC_US (5 * USEC_PER_SEC)
#define AUTH_STALE_US (15 * USEC_PER_SEC) /* without an answer for so long no token is good */
bool auth_tokens_shown(const struct auth *a); /* by anybody so far */
void auth_sync_question(struct auth *a, struct buf *json);
/* `asked`: when (monotonic). 0 or negative: not understood. */
int auth_sync_answer(struct auth *a, const msgpack_object *answer, usec_t asked) must_check;
