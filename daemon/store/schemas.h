/* JSON schemas of templates, enforced: input_schema before a task is created, result_schema before a success is
 * recorded.
 *
 * Which template a create means is only known inside the call that makes the task (the newest version, say). So the
 * daemon says against which template it has checked the context, and a call that finds another one with a schema makes
 * nothing and answers `unchecked`: the context is checked against that one and the call made again. Once a name is
 * known, its contexts are checked beforehand. Templates without schemas take no part in this. */
#pragma once
#include "daemon/store/hot.h"
#include "daemon/store/tcache.h"

/* Names that led to templates with an input_schema. One for each store thread. */
struct schema_names;
struct schema_names *schema_names_new(void);
struct schema_names *schema_names_free(struct schema_names *s); /* returns NULL */

/* Before the call: check the contexts whose names are known. 0, or negative as hot_run. */
int schemas_check_contexts(struct schema_names *s, struct tcache *t, PGconn *c, struct req **reqs, size_t n,
                           enum db_failure *why, struct err *e) must_check;
/* After it: what was `unchecked` because its context is invalid has failed (invalid_context); of the others the name is
 * now known. */
void schemas_note_answers(struct schema_names *s, struct req **reqs, size_t n);
/* Move the requests to be sent again to the front of `again`; returns how many. */
size_t schemas_unchecked(struct req **reqs, size_t n, struct req **again);

/* A context of a task that an SQL caller made. 0: *ret_error is set if it does not fit; -ENOMEM. */
int schemas_check_start(const struct tcache_template *t, const char *context, size_t len,
                        struct text *ret_error) must_check;
/* The request is to be checked before the call. */
bool schemas_concern(struct schema_names *s, struct tcache *t, const struct req *q);

/* Before the call: a success whose result does not fit becomes the permanent failure invalid_result,
 * SchemaViolation. */
int schemas_check_results(struct tcache *t, PGconn *c, struct req **reqs, size_t n, enum db_failure *why,
                          struct err *e) must_check;
