/* What a handler can read of its step. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const tasker_value *field(const tasker_step *s, const char *key)
{
	return tasker_get(as_value(s->o), key);
}

const char *tasker_step_uuid(const tasker_step *s)
{
	return s->step_uuid;
}

const char *tasker_step_task_uuid(const tasker_step *s)
{
	return s->task_uuid;
}

/* Copied when it is asked for: most handlers do not. */
const char *tasker_step_name(tasker_step *s)
{
	size_t n;
	const char *name = tasker_text(field(s, "step"), &n);
	if (!s->name && name)
		s->name = mp_str_copy(name, n);
	return s->name ? s->name : "";
}

int64_t tasker_step_attempt(const tasker_step *s)
{
	return s->attempt;
}

bool tasker_step_last_attempt(const tasker_step *s)
{
	return s->attempt >= tasker_int(field(s, "max_attempts"), 1);
}

const tasker_value *tasker_step_input(const tasker_step *s, const char *key)
{
	return tasker_get(field(s, "context"), key);
}

const tasker_value *tasker_step_config(const tasker_step *s, const char *key)
{
	return tasker_get(tasker_get(field(s, "handler"), "initialization"), key);
}

const tasker_value *tasker_step_instance_input(const tasker_step *s, const char *key)
{
	const tasker_value *inputs = field(s, "inputs");
	return inputs ? tasker_get(inputs, key) : tasker_step_config(s, key);
}

const tasker_value *tasker_step_checkpoint(const tasker_step *s, const char *key)
{
	return tasker_get(field(s, "checkpoint"), key);
}

size_t tasker_step_each_dependency(const tasker_step *s, const char *prefix,
                                   void (*fn)(void *, const char *, const tasker_value *), void *arg)
{
	const tasker_value *all = field(s, "dependencies"), *v;
	const char *key;
	size_t found = 0, n, want = strlen(prefix);
	for (size_t i = 0; (key = tasker_key(all, i, &n, &v)); i++) {
		if (n < want || memcmp(key, prefix, want) != 0)
			continue;
		char *name = mp_str_copy(key, n);
		if (!name)
			break;
		found++;
		fn(arg, name, tasker_type(v) == TASKER_NIL ? NULL : v);
		free(name);
	}
	return found;
}

int tasker_step_batch(tasker_step *s, struct tasker_batch *ret, struct tasker_error *err)
{
	const tasker_value *inputs = field(s, "inputs"), *c = tasker_get(inputs, "cursor");
	bool no_op = tasker_bool(tasker_get(inputs, "is_no_op"), false);
	memset(ret, 0, sizeof *ret);
	if (!c && !no_op)
		return tasker_fail_(err, -ENOENT, "bad_call", "the step %s is no batch worker",
		                    tasker_step_name(s));
	tasker_copy(tasker_get(c, "batch_id"), ret->batch_id, sizeof ret->batch_id);
	ret->start = tasker_int(tasker_get(c, "start_cursor"), 0);
	ret->end = tasker_int(tasker_get(c, "end_cursor"), 0);
	ret->size = tasker_int(tasker_get(c, "batch_size"), ret->end - ret->start);
	ret->no_op = no_op;
	return 0;
}

static void add_counts(void *arg, const char *name, const tasker_value *result)
{
	struct tasker_batch_counts *c = arg;
	(void)name;
	int64_t processed = tasker_int(tasker_get(result, "items_processed"), 0);
	int64_t failed = tasker_int(tasker_get(result, "items_failed"), 0);
	c->processed += processed;
	c->failed += failed;
	c->succeeded += tasker_int(tasker_get(result, "items_succeeded"), processed - failed);
	c->skipped += tasker_int(tasker_get(result, "items_skipped"), 0);
}

size_t tasker_step_batch_totals(const tasker_step *s, const char *prefix, struct tasker_batch_counts *ret)
{
	memset(ret, 0, sizeof *ret);
	return tasker_step_each_dependency(s, prefix, add_counts, ret);
}
