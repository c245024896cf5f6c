/* analytics: where time goes, and what fails. */
#include <stdint.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"

/* What was looked at, so that nobody takes a part for the whole. */
static void tell_scanned(const struct ctl *c, const json_t *answer)
{
	const json_t *s = json_object_get(answer, "scanned");
	if (json_int(s, "tasks", 0) == 0) {
		ctl_note(c, "no tasks fit; look further back with --since, or leave it out");
		return;
	}
	ctl_note(c, "of %lld tasks and %lld attempts, created from %s to %s%s", (long long)json_int(s, "tasks", 0),
	         (long long)json_int(s, "attempts", 0), json_text(s, "from"), json_text(s, "to"),
	         json_flag(s, "whole") ? "" : "; there are older ones that fit: --tasks N looks at more");
}

static const struct column templates[] = {
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"TASKS", COL_RIGHT, cell_value, "tasks"},
    {"COMPLETE", COL_RIGHT, cell_value, "complete"},
    {"FAILED", COL_RIGHT, cell_bad, "failed"},
    {"LIVE", COL_RIGHT, cell_value, "live"},
    {"P50", COL_RIGHT, cell_ms, "duration_ms.p50"},
    {"P95", COL_RIGHT, cell_ms, "duration_ms.p95"},
    {"P99", COL_RIGHT, cell_ms, "duration_ms.p99"},
    {"MAX", COL_RIGHT, cell_ms, "duration_ms.max"},
    {"MEAN", COL_RIGHT | COL_WIDE, cell_ms, "duration_ms.mean"},
    {"CANCELLED", COL_RIGHT | COL_WIDE, cell_value, "cancelled"},
    NO_COLUMN,
};

static const struct column steps[] = {
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"ATTEMPTS", COL_RIGHT, cell_value, "attempts"},
    {"FAILED", COL_RIGHT, cell_part, "failure_rate"},
    {"WAIT P50", COL_RIGHT, cell_ms, "wait_ms.p50"},
    {"WAIT P95", COL_RIGHT, cell_ms, "wait_ms.p95"},
    {"RUN P50", COL_RIGHT, cell_ms, "run_ms.p50"},
    {"P95", COL_RIGHT, cell_ms, "run_ms.p95"},
    {"P99", COL_RIGHT, cell_ms, "run_ms.p99"},
    {"MAX", COL_RIGHT, cell_ms, "run_ms.max"},
    {"RETRIED", COL_RIGHT | COL_WIDE, cell_value, "retried"},
    {"TIMEOUTS", COL_RIGHT | COL_WIDE, cell_bad, "timeouts"},
    {"WORKERS LOST", COL_RIGHT | COL_WIDE, cell_bad, "workers_lost"},
    {"RECORD P95", COL_RIGHT | COL_WIDE, cell_ms, "record_ms.p95"},
    {"HANDLER", COL_WIDE, cell_value, "handler"},
    NO_COLUMN,
};

static const struct column slowest[] = {
	{"TASK", 0, cell_value, "task_uuid"},
	{"TEMPLATE", COL_SHRINK, cell_template, NULL},
	{"STATE", 0, cell_state, "state"},
	{"CREATED", 0, cell_value, "created_at"},
	{"TOOK", COL_RIGHT, cell_ms, "duration_ms"},
	{"FINISHED", COL_WIDE, cell_value, "finished_at"},
	NO_COLUMN,
};

static const struct column failing[] = {
    {"TEMPLATE", COL_SHRINK, cell_template, NULL},
    {"STEP", COL_SHRINK, cell_value, "step"},
    {"FAILURES", COL_RIGHT, cell_value, "n"},
    {"RATE", COL_RIGHT, cell_part, "failure_rate"},
    {"ERROR", COL_SHRINK, cell_value, "error_type"},
    {"MESSAGE", COL_SHRINK, cell_value, "message"},
    {"ATTEMPTS", COL_RIGHT | COL_WIDE, cell_value, "attempts"},
    {"TIMEOUTS", COL_RIGHT | COL_WIDE, cell_bad, "timeouts"},
    {"WORKERS LOST", COL_RIGHT | COL_WIDE, cell_bad, "workers_lost"},
    {"HANDLER", COL_WIDE, cell_value, "handler"},
    NO_COLUMN,
};

static int most_first(const void *a, const void *b)
{
	int64_t n = json_int(*(json_t *const *)a, "n", 0), m = json_int(*(json_t *const *)b, "n", 0);
	return (n < m) - (n > m);
}

/* The errors of all steps, each with what is known of its step, the most frequent first. */
static json_t *failures(const json_t *answer)
{
	size_t i, k;
	json_t *step, *e;
	cleanup_(cleanup_json) json_t *all = json_array();
	json_array_foreach(json_object_get(answer, "steps"), i, step)
		json_array_foreach(json_object_get(step, "errors"), k, e)
		{
			json_t *row = json_copy(e);
			json_object_update_missing(row, step);
			json_array_append_new(all, row);
		}
	return json_sorted(all, most_first, SIZE_MAX);
}

const struct listing list_analytics_templates = {.columns = templates, .after = tell_scanned},
		     list_analytics_steps = {.columns = steps, .after = tell_scanned},
		     list_slowest = {.columns = slowest, .after = tell_scanned},
		     list_failing = {.columns = failing,
                                     .empty = "no attempt has failed",
                                     .items = failures,
                                     .after = tell_scanned};
