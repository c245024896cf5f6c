/* What a dispatcher needs of templates, cached for each store thread: registered templates never change. */
#pragma once
#include "daemon/core/retry.h"
#include "daemon/schema/schema.h"
#include "daemon/store/conn.h"
#include "daemon/store/fire.h"
#include "protocol/buf.h"

struct tcache_step {
	char *name;
	struct buf handler; /* MessagePack map */
	bool retryable;
	int max_attempts;
	uint64_t timeout_ms; /* 0: none */
	struct retry_policy policy;
	bool ancestors_cut;
	/* in a static template, and declares no events: its success does what tasker.record_one does, and no more */
	bool plain;
	int handler_id, n_parents, n_ancestors, last_ancestor; /* the farthest; -1: none */
	int *children; /* n_children numbers, each larger than its own */
	int n_children;
	struct declared_events events;
	struct schema *result_schema; /* or NULL */
};

struct tcache_template {
	int id;
	unsigned series; /* of its metrics */
	char *ns, *name, *version;
	int n_steps;
	struct tcache_step *steps;
	struct schema *input_schema; /* or NULL */
};

/* The template step of which step `no` of a task is an instance: those that batches make have higher numbers, a
 * template's length apart. */
static inline const struct tcache_step *tcache_step_of(const struct tcache_template *t, int no)
{
	return &t->steps[(unsigned)no % (unsigned)t->n_steps];
}

struct tcache;
struct series;
/* `series` may be NULL; borrowed. */
struct tcache *tcache_new(struct series *series);
struct tcache *tcache_free(struct tcache *t); /* returns NULL */
/* The template if it is cached, or NULL; valid until the next tcache_get. */
const struct tcache_template *tcache_find(struct tcache *t, int template_id);
/* The template, loaded through `c` if need be; valid until the next call. NULL with *why and *e. A template that is not
 * in the database is DB_REFUSED. */
const struct tcache_template *tcache_get(struct tcache *t, PGconn *c, int template_id, enum db_failure *why,
                                         struct err *e);
