/* Claims of steps that a result has just made ready, made of what the daemon had at hand for the step that ended:
 * nothing is read from the database, nothing goes through JSON. */
#pragma once
#include "daemon/store/hot.h"
#include "daemon/store/tcache.h"

/* None of the step's children has another parent, and all of them could be claimed by handover_claim: its end may be
 * recorded by tasker.record_one or record_many. */
bool handover_possible(const struct tcache_template *t, const struct req_result *q);
/* The claim of a new task's root, likewise; its task_id is the caller's to set. */
struct claim *handover_root(struct hot *h, PGconn *c, const struct hot_call *call, const struct req *q, int template_id,
                            int no, enum db_failure *why, struct err *e);
/* The claim of the child `no`, whose attempt 1 has just begun. NULL with *why and *e: no memory; the journal knows the
 * claim. */
struct claim *handover_claim(struct prover *prover, const struct hot_call *call, const struct tcache_template *t,
                             int no, int fence, const struct req *parent, enum db_failure *why, struct err *e);
