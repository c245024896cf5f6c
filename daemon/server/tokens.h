/* Bearer tokens. */
#pragma once
#include "daemon/base/err.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

struct server;
struct session;

extern const char API_TOKEN_CREATE[], API_TOKEN_SYNC[];

/* Draw the secret of a new token: its id and hash go into the request, itself nowhere but into the answer. */
int token_prepare(struct session *s, const msgpack_object *params, struct req *r, struct buf *members,
                  struct err *e) must_check;
void token_created(struct server *srv, struct req *r);
/* Ask for the tokens that are good, if any can come: the time has come for it; they may have changed. */
void tokens_tick(struct server *srv);
void tokens_changed(struct server *srv);
void tokens_synced(struct server *srv, struct req *r);
