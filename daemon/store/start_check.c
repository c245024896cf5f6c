/* Tasks that SQL callers made of templates with an input_schema: nobody has checked their contexts yet. start_tasks
 * gives them to the daemon (k rows), which checks and tells start_checked. If it does not come to that, they are given
 * out again. */
#include "daemon/store/hot_impl.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int64_t task_of(const PGresult *r, int row)
{
	uint64_t be;
	memcpy(&be, PQgetvalue(r, row, C_TASK_ID), sizeof be);
	return (int64_t)be64toh(be);
}

/* One k row: its task and what is wrong with its context, or NULL, to the arrays. A jsonb value is a version byte and
 * its text. */
static int check_row(struct hot *h, PGconn *c, const PGresult *r, int row, struct pgarray *tasks,
                     struct pgarray *errors, enum db_failure *why, struct err *e)
{
	struct text error = {0};
	const struct tcache_template *t = tcache_get(h->templates, c, row_int(r, row, C_TEMPLATE), why, e);
	if (!t)
		return -EIO;
	int rc = schemas_check_start(t, PQgetvalue(r, row, C_CONTEXT) + 1, (size_t)PQgetlength(r, row, C_CONTEXT) - 1,
	                             &error);
	if (rc < 0) {
		*why = DB_FULL;
		return err_set(e, rc, "internal", "out of memory");
	}
	pgarray_int8(tasks, task_of(r, row));
	pgarray_jsonb(errors, error.s, error.n);
	free(error.s);
	return 0;
}

static int tell(struct hot *h, PGconn *c, const struct hot_call *call, struct pgarray *tasks, struct pgarray *errors,
                struct done *out, enum db_failure *why, struct err *e)
{
	struct params p = {0};
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	add_int4(&p, call->node->node_no);
	add_int4(&p, call->node->incarnation);
	add_bool(&p, call->notify);
	if (!add_array(&p, tasks) || !add_array(&p, errors)) {
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	int rc = hot_execute(h, c, S_START_CHECKED, &p, &r, why, e);
	return rc < 0 ? rc : read_rows(h, c, call, r, true, NULL, 0, out, why, e);
}

int start_check(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, struct done *out,
                enum db_failure *why, struct err *e)
{
	struct pgarray tasks, errors;
	int rc = 0, n = 0;
	pgarray_init(&tasks, PG_INT8);
	pgarray_init(&errors, PG_JSONB);
	for (int i = 0; rc == 0 && i < PQntuples(r); i++)
		if (PQgetvalue(r, i, C_KIND)[0] == 'k') {
			rc = check_row(h, c, r, i, &tasks, &errors, why, e);
			n++;
		}
	if (rc == 0 && n > 0)
		rc = tell(h, c, call, &tasks, &errors, out, why, e);
	pgarray_done(&tasks);
	pgarray_done(&errors);
	return rc;
}
