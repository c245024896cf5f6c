/* How attempts end, on the way to the database and back. */
#pragma once
#include <stdint.h>
#include "daemon/server/steps.h"
#include "daemon/store/request.h"

struct recording;
struct server;
struct session;

extern const char API_ATTEMPT_STATUS[];

/* The request that records how the step's attempt ended; the claim's journal hold moves to it. NULL: out of memory. */
struct req *result_req(const struct claim *c, const struct uuid *step, enum outcome outcome);
void result_set_error(struct req *r, const char *type, const char *message);
/* NULL: it is not on its way. */
struct recording *recording_find(struct server *srv, const struct step_key *key);
void recording_begin(struct server *srv, const struct step_key *key);
/* The same has come once more: it is acknowledged as well. */
void recording_again(struct recording *g, const struct session *s, int attempt);
void recordings_free(struct server *srv);
void ack(struct session *s, const struct uuid *step, int attempt, const char *status, const char *message);
void result_answered(struct server *srv, struct req *r);
/* A result of an attempt that is not open here, with a valid proof: the database knows what became of it. */
void late_result_ask(struct session *s, const struct uuid *step, int attempt, const struct uuid *task, unsigned no,
                     uint32_t fence);
void late_result_answered(struct server *srv, struct req *r);
/* How many are under way. */
unsigned recordings_count(const struct server *srv);
