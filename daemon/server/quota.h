/* What one user may take up. What returns a negative number has *e name the quota. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/store/request.h"

struct principal;
struct server;
struct session;

/* Whether the peer of this socket may have one more session. */
int quota_connect(struct server *srv, int fd, struct err *e) must_check;
int quota_session_begin(struct session *s) must_check;
void quota_session_end(struct session *s);
/* Whether the session's worker may ask for n steps; it does (0: no more). */
int quota_may_have_slots(const struct session *s, unsigned n, struct err *e) must_check;
void quota_slots(struct session *s, unsigned n);
/* Whether one more request may be under way. */
int quota_may_ask(const struct session *s, struct err *e) must_check;
/* One is, which the store does not know of; it has ended. */
uint64_t quota_hold(struct session *s);
void quota_release(struct server *srv, uint64_t peer);
/* Whether who comes over HTTP may have one more request under way; `stream`: one that goes on. */
int quota_may_begin(struct server *srv, const struct principal *who, bool stream, struct err *e) must_check;
/* Send what the session asks for to the store, and count it until it is answered. Takes r. */
void quota_submit(struct session *s, struct req *r);
/* Only count it, for what is done elsewhere before. */
void quota_charge(struct session *s, struct req *r);
void quota_answered(struct server *srv, struct req *r);
/* Count the session's buffers. Negative: there is no room for them. */
int quota_settle(struct session *s, struct err *e) must_check;
/* The user has no more room: nothing that can wait is read. */
bool quota_full(const struct session *s);
/* Messages of the session are handled between these two. If they take much of the loop's time, nothing of their user's
 * sessions is read for a while. */
usec_t quota_work_begin(const struct session *s);
void quota_work_end(struct session *s, usec_t began);
bool quota_rests(const struct session *s);
void peers_free(struct server *srv);
