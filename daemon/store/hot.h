/* The hot calls: batches of requests of one kind in, answers and claims out. One struct hot for each store thread. */
#pragma once
#include "daemon/store/conn.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"

struct hot;
struct hot_node { /* who calls: fixed from registration on */
	int node_no, incarnation;
	uint8_t secret[SECRET_LEN];
	char name[128];
};

struct series;
struct hot *hot_new(bool pooled, struct series *series); /* behind a pooler nothing is prepared */
struct hot *hot_free(struct hot *h); /* returns NULL */
/* The statements that tell the engine's functions of the daemon's bounds, for a transaction or a session. */
void hot_settings_for(bool pooled, size_t max_body, int max_branches, char *out, size_t size);
/* A new connection has nothing prepared and no bounds. */
int hot_attach(PGconn *c, const char *settings, enum db_failure *why, struct err *e) must_check;

struct hot_call {
	const struct hot_node *node;
	uint64_t seq;		  /* number of the call, growing */
	int slot;		  /* free row of the journal for what this call claims */
	bool notify;		  /* other nodes listen */
	/* a step's inputs may take this much MessagePack; dependencies that do not fit are left for
	 * step.dependencies */
	size_t max_body;
};

/* All `n` requests are of the same kind (result, create or claim). 0: committed; each request has its status, and
 * claims, settled tasks and queue hints are added to *out. Negative: nothing is known to be committed (DB_LOST:
 * unknown), *why and *e say more; no request is changed. */
int hot_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
            enum db_failure *why, struct err *e) must_check;
/* After DB_LOST: what the call claimed if it did commit; appended to out->claims. */
int hot_recover(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why,
                struct err *e) must_check;
/* At start: what this node held; appended to out->claims, without payloads. */
int hot_adopt(struct hot *h, PGconn *c, const struct hot_call *call, struct done *out, enum db_failure *why,
              struct err *e) must_check;
int hot_states(struct hot *h, PGconn *c, const struct hot_call *call, struct req *r, struct done *out,
               enum db_failure *why, struct err *e) must_check;
int hot_cancel(struct hot *h, PGconn *c, const struct hot_call *call, struct req *r, struct done *out,
               enum db_failure *why, struct err *e) must_check;
/* After hot_run: those of the batch that want another call, in `ret`; returns how many. */
size_t many_left(struct req **reqs, size_t n, struct req **ret);
