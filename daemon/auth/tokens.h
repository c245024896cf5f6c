/* The bearer tokens that are good, as the database had them a moment ago: a table in memory, so that looking one up
 * asks nobody, whatever strangers send. */
#pragma once
#include "daemon/auth/auth.h"
#include "daemon/auth/secret.h"
#include "daemon/base/clock.h"
#include "protocol/mp.h"

struct tokens;
struct tokens *tokens_new(void);
struct tokens *tokens_free(struct tokens *t); /* returns NULL, accepts NULL */
/* Take over an answer of tasker.api_token_sync that was asked for at `asked` (monotonic). 0 or negative: nothing has
 * changed. */
int tokens_take(struct tokens *t, const msgpack_object *answer, usec_t asked) must_check;
/* Append what tasker.api_token_sync is asked: what was used since the last time, which is forgotten. */
void tokens_question(struct tokens *t, struct buf *json);
/* When that was asked which the table is from (monotonic), 0: never. */
usec_t tokens_asked(const struct tokens *t);
/* 0 with *who; -EACCES: there is no such token, now (wall clock); -ENOMEM. */
int tokens_find(struct tokens *t, const struct token_text *text, usec_t now, struct principal *who) must_check;
/* Whether the token with this id is still among them. */
bool tokens_have(const struct tokens *t, const char *id, usec_t now);
