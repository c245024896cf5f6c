/* Counting. What is shown of it, and how, is in metrics_render.c. */
#include "daemon/server/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/core/uuid.h"
#include "daemon/metrics/histogram.h"
#include "daemon/metrics/series.h"
#include "daemon/server/metrics_kinds.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

static const char *const settled_names[SETTLED_COUNT] = {[SETTLED_COMPLETE] = "complete",
                                                         [SETTLED_BLOCKED] = "blocked_by_failures",
                                                         [SETTLED_ERROR] = "error",
                                                         [SETTLED_CANCELLED] = "cancelled",
                                                         [SETTLED_RESOLVED] = "resolved_manually"};
const char *const quota_names[QUOTA_COUNT] = {[QUOTA_SESSIONS] = "max_sessions",
                                              [QUOTA_SESSIONS_PER_UID] = "max_sessions_per_uid",
                                              [QUOTA_REQUESTS] = "max_requests_per_uid",
                                              [QUOTA_STEPS] = "max_steps_per_uid",
                                              [QUOTA_BYTES] = "max_bytes_per_uid",
                                              [QUOTA_HTTP_REQUESTS] = "http_max_requests_per_user",
                                              [QUOTA_HTTP_STREAMS] = "http_max_streams_per_user"};

const struct histogram_kind step_times = {{1000, 5000, 25000, 100000, 500000, 1000000, 2500000, 10000000, 30000000,
                                           60000000, 300000000, 1800000000, 7200000000},
                                          1e-6};
const struct histogram_kind call_times = {{500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
                                           2500000, 10000000},
                                          1e-6};
const struct histogram_kind call_sizes = {{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}, 1};

int metrics_init(struct server *srv)
{
	struct metrics *m = &srv->metrics;
	buf_init(&m->db, 0);
	m->series = series_new((unsigned)srv->opt->metrics_templates);
	m->stats = calloc(1, sizeof *m->stats);
	m->n = 1;
	return m->series && m->stats ? 0 : -ENOMEM;
}

void metrics_done(struct server *srv)
{
	struct metrics *m = &srv->metrics;
	metrics_stop_waiting(srv);
	m->series = series_free(m->series);
	free(TAKE_PTR(m->stats));
	buf_done(&m->db);
}

/* Without memory for one more, the others' count. */
static struct template_stats *stats_of(struct metrics *m, unsigned series)
{
	if (series < m->n)
		return &m->stats[series];
	struct template_stats *more = realloc(m->stats, (series + 1u) * sizeof *more);
	if (!more)
		return &m->stats[0];
	memset(more + m->n, 0, (series + 1u - m->n) * sizeof *more);
	m->stats = more;
	m->n = series + 1;
	return &m->stats[series];
}

void metrics_claimed(struct server *srv, const struct claim *c)
{
	stats_of(&srv->metrics, c->series)->claimed++;
}

void metrics_started(struct server *srv, const struct claim *c, usec_t waited)
{
	struct template_stats *t = stats_of(&srv->metrics, c->series);
	t->started++;
	histogram_add(&t->ready, &step_times, (usec_t)c->waited_ms * USEC_PER_MSEC + waited);
}

void metrics_ran(struct server *srv, unsigned series, usec_t took)
{
	histogram_add(&stats_of(&srv->metrics, series)->run, &step_times, took);
}

void metrics_recorded(struct server *srv, const struct req *r, bool changed)
{
	struct metrics *m = &srv->metrics;
	if (!changed) {
		*(strcmp(r->status, "duplicate") == 0 ? &m->ignored_duplicate : &m->ignored_stale) += 1;
		return;
	}
	struct template_stats *t = stats_of(m, r->result.series);
	bool failed = strcmp(r->status, "failed") == 0;
	/* A success whose word about branches or batches cannot be done is none. */
	t->attempts[failed && r->result.outcome == OUTCOME_SUCCESS ? OUTCOME_INVALID_RESULT : r->result.outcome]++;
	t->failed += failed;
	t->completed += !failed && r->result.outcome == OUTCOME_SUCCESS;
	t->retries += strcmp(r->status, "retrying") == 0;
	histogram_add(&t->record, &call_times, m->now - r->born);
}

void metrics_created(struct server *srv, const struct req *r)
{
	if (strcmp(r->status, "created") == 0)
		stats_of(&srv->metrics, r->create.series)->created++;
}

/* A task's uuid begins with the milliseconds at which it was made. */
static uint64_t made_at_ms(const struct uuid *task)
{
	uint64_t ms = 0;
	for (unsigned i = 0; i < 6; i++)
		ms = ms << 8 | task->b[i];
	return ms;
}

static void count_settled(struct template_stats *t, const struct uuid *task, const char *state)
{
	for (unsigned i = 0; i < SETTLED_COUNT; i++)
		if (strcmp(state, settled_names[i]) == 0)
			t->settled[i]++;
	uint64_t made = made_at_ms(task) * USEC_PER_MSEC, now = now_wall();
	if (strcmp(state, settled_names[SETTLED_COMPLETE]) == 0 && now > made)
		histogram_add(&t->task, &step_times, now - made);
}

void metrics_settled(struct server *srv, const struct uuid *task, unsigned series, const char *state)
{
	count_settled(stats_of(&srv->metrics, series), task, state);
}

/* An action is refused for a task that is finished: one that is finished now was so by it. */
static void operated_on(struct server *srv, const msgpack_object *task)
{
	static const char *const final[] = {"complete", "error", "cancelled", "resolved_manually"};
	const char *ns, *name;
	char ns_text[64], name_text[320];
	size_t ns_n, name_n;
	struct uuid uuid = {0};
	const msgpack_object *state = mp_get(task, "state");
	if (!state || mp_get_str(task, "namespace", &ns, &ns_n) != 1 || mp_get_str(task, "name", &name, &name_n) != 1 ||
	    ns_n >= sizeof ns_text || name_n >= sizeof name_text)
		return;
	snprintf(ns_text, sizeof ns_text, "%.*s", (int)ns_n, ns);
	snprintf(name_text, sizeof name_text, "%.*s", (int)name_n, name);
	for (size_t i = 0; i < sizeof final / sizeof *final; i++)
		if (mp_str_eq(state, final[i]))
			metrics_settled(srv, &uuid, series_of(srv->metrics.series, ns_text, name_text), final[i]);
}

void metrics_operated(struct server *srv, const msgpack_object *answer)
{
	const msgpack_object *items = NULL;
	operated_on(srv, answer);
	if (mp_get_array(answer, "items", &items) != 1)
		return;
	for (uint32_t i = 0; i < items->via.array.size; i++) {
		const msgpack_object *outcome = items->via.array.ptr[i].type == MSGPACK_OBJECT_MAP
		                                        ? mp_get(&items->via.array.ptr[i], "outcome")
		                                        : NULL;
		if (outcome && mp_str_eq(outcome, "done"))
			operated_on(srv, &items->via.array.ptr[i]);
	}
}

void metrics_called(struct server *srv, const struct done *d)
{
	struct metrics *m = &srv->metrics;
	if (d->n_call == 0)
		return;
	histogram_add(&m->call_time[d->call], &call_times, d->took);
	histogram_add(&m->call_size[d->call], &call_sizes, d->n_call);
}
