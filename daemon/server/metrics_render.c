/* What is shown of the daemon's state as metrics. A new one is a row here, and in docs/observability.md; a test holds
 * one against the other. */
#include <stdio.h>
#include <string.h>
#include "daemon/base/clock.h"
#include "daemon/base/hash.h"
#include "daemon/config/access.h"
#include "daemon/metrics/expo.h"
#include "daemon/metrics/histogram.h"
#include "daemon/metrics/series.h"
#include "daemon/server/metrics.h"
#include "daemon/server/metrics_kinds.h"
#include "daemon/server/metrics_process.h"
#include "daemon/server/pool.h"
#include "daemon/server/recording.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

/* One value of a label each, in the order of an array of counters. */
static const char *const settled_values[] = {"complete", "blocked_by_failures", "error", "cancelled",
                                             "resolved_manually"};
static const char *const call_values[REQ_KIND_COUNT] =
	{[REQ_RESULT] = "record", [REQ_CREATE] = "create", [REQ_CLAIM] = "claim", [REQ_START] = "start",
         [REQ_STATES] = "states", [REQ_CANCEL] = "cancel", [REQ_API] = "query"};

struct render {
	struct server *srv;
	struct expo x;
	const struct access *access; /* NULL: everything */
	bool have_db;
	struct mp_value db;
};

static bool shows(const struct render *r, const char *ns)
{
	return !r->access || access_allows(r->access, ROLE_READ, ns, strlen(ns));
}

/* Templates -------------------------------------------------------------------------------------------------------- */

#define AT(field) offsetof(struct template_stats, field)
static const struct template_family {
	const char *name, *help;
	size_t at;
	const char *label; /* of an array of counters, */
	const char *const *values;
	size_t n; /* so many; 0: one counter */
	const struct histogram_kind *histogram; /* or NULL */
} template_families[] = {
	{"taskerd_tasks_created", "Tasks made through this node.", AT(created), NULL, NULL, 0, NULL},
	{"taskerd_tasks_settled",
         "Tasks that ended, or were blocked by failures, with something that this node recorded, by the state they came to.",
         AT(settled), "state", settled_values, SETTLED_COUNT, NULL},
	{"taskerd_task_duration_seconds", "Time from the creation of a task to its completion.", AT(task), NULL, NULL,
         0, &step_times},
	{"taskerd_steps_claimed", "Steps that this node took from the database to run.", AT(claimed), NULL, NULL, 0,
         NULL},
	{"taskerd_steps_started", "Steps given to a worker.", AT(started), NULL, NULL, 0, NULL},
	{"taskerd_steps_completed", "Steps whose success was recorded.", AT(completed), NULL, NULL, 0, NULL},
	{"taskerd_steps_failed", "Steps that failed for good: no attempt is left, or none would help.", AT(failed),
         NULL, NULL, 0, NULL},
	{"taskerd_step_retries", "Attempts that failed and are followed by another.", AT(retries), NULL, NULL, 0, NULL},
	{"taskerd_step_attempts", "Attempts that ended, by how.", AT(attempts), "outcome", outcome_names, OUTCOME_COUNT,
         NULL},
	{"taskerd_step_ready_to_start_seconds", "Time from when a step became ready to when a worker was given it.",
         AT(ready), NULL, NULL, 0, &step_times},
	{"taskerd_step_run_seconds", "Time from when a worker was given a step to its word about it.", AT(run), NULL,
         NULL, 0, &step_times},
	{"taskerd_step_record_seconds", "Time from a worker's word about a step to its commit.", AT(record), NULL, NULL,
         0, &call_times},
};

static void put_template(struct render *r, const struct template_family *f, unsigned id)
{
	struct label labels[3] = {{"namespace", NULL}, {"template", NULL}, {f->label, NULL}};
	const char *at = (const char *)&r->srv->metrics.stats[id] + f->at;
	series_names(r->srv->metrics.series, id, &labels[0].value, &labels[1].value);
	if (id == 0 ? r->access != NULL : !shows(r, labels[0].value))
		return;
	if (f->histogram) {
		expo_histogram(&r->x, labels, 2, (const struct histogram *)(const void *)at, f->histogram);
		return;
	}
	const uint64_t *v = (const uint64_t *)(const void *)at;
	if (f->n == 0)
		expo_sample(&r->x, labels, 2, (double)*v);
	for (size_t i = 0; i < f->n; i++) {
		labels[2].value = f->values[i];
		expo_sample(&r->x, labels, 3, (double)v[i]);
	}
}

/* The others are shown when there are any, whatever they did: a series that begins with a jump has no rate. */
static void put_templates(struct render *r)
{
	unsigned first = series_folded(r->srv->metrics.series) > 0 ? 0 : 1;
	for (size_t i = 0; i < sizeof template_families / sizeof *template_families; i++) {
		const struct template_family *f = &template_families[i];
		const char *unit = f->histogram ? "seconds" : NULL;
		expo_family(&r->x, f->name, f->histogram ? METRIC_HISTOGRAM : METRIC_COUNTER, unit, f->help);
		for (unsigned id = first; id < r->srv->metrics.n; id++)
			put_template(r, f, id);
	}
	expo_family(&r->x, "taskerd_metrics_folded_templates", METRIC_GAUGE, NULL,
	            "Templates without series of their own, counted as other: raise metrics_templates to see them.");
	expo_sample(&r->x, NULL, 0, series_folded(r->srv->metrics.series));
}

/* Single values ---------------------------------------------------------------------------------------------------- */

struct single {
	const char *name, *unit, *help;
	enum metric_type type;
	double v;
};

static void put_singles(struct render *r, const struct single *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		expo_family(&r->x, list[i].name, list[i].type, list[i].unit, list[i].help);
		expo_sample(&r->x, NULL, 0, list[i].v);
	}
}
#define PUT_SINGLES(r, list) put_singles(r, list, sizeof(list) / sizeof *(list))

struct choice {
	const char *value;
	double v;
};

static void put_choices(struct render *r, const char *name, enum metric_type type, const char *unit, const char *help,
                        const char *label, const struct choice *list, size_t n)
{
	expo_family(&r->x, name, type, unit, help);
	for (size_t i = 0; i < n; i++)
		expo_sample(&r->x, &(struct label){label, list[i].value}, 1, list[i].v);
}
#define PUT_CHOICES(r, name, type, unit, help, label, list) \
	put_choices(r, name, type, unit, help, label, list, sizeof(list) / sizeof *(list))

static void put_steps(struct render *r)
{
	struct server *srv = r->srv;
	unsigned slots = 0, used = 0, lent = 0, backlog = 0, missing = 0;
	struct handler *h, *next;
	struct pool *p, *tmp;
	HASH_ITER(hh, srv->pools, p, tmp) {
		slots += p->slots;
		used += p->used;
		lent += p->lent;
		backlog += p->n_backlog;
	}
	HASH_ITER(hh, srv->handlers, h, next)
		missing += handler_lacks_workers(h);
	const struct choice places[] = {{"total", slots}, {"running", used}, {"lent", lent}, {"backlog", backlog}};
	const struct choice ignored[] = {{"duplicate", (double)srv->metrics.ignored_duplicate},
	                                 {"stale", (double)srv->metrics.ignored_stale}};
	const struct single singles[] = {
		{"taskerd_steps_lost", NULL, "Attempts that ended because their worker was gone.", METRIC_COUNTER,
	         (double)srv->c_lost},
		{"taskerd_steps_timed_out", NULL, "Attempts that ended because timeout_seconds was over.",
	         METRIC_COUNTER, (double)srv->c_timeouts},
		{"taskerd_workers_lost", NULL, "Workers that went without saying goodbye.", METRIC_COUNTER,
	         (double)srv->metrics.workers_lost},
		{"taskerd_handlers_without_workers", NULL,
	         "Handlers that steps wait for and no connected worker offers, on whichever node.", METRIC_GAUGE,
	         missing},
		{"taskerd_steps_waiting_for_resume", NULL,
	         "Steps that ran before a restart of the daemon and whose workers have not come back yet.",
	         METRIC_GAUGE, HASH_COUNT(srv->orphans)},
		{"taskerd_results_under_way", NULL, "Results that wait for their commit.", METRIC_GAUGE,
	         recordings_count(srv)},
	};
	PUT_CHOICES(
		r, "taskerd_step_slots", METRIC_GAUGE, NULL,
		"Steps that the workers of this node may run at a time (total), do run (running), that are claimed and wait for a free worker (backlog), or may be claimed by calls under way (lent).",
		"use", places);
	PUT_CHOICES(r, "taskerd_results_ignored", METRIC_COUNTER, NULL,
	            "Results that changed nothing: sent before (duplicate), or of an attempt that had ended (stale).",
	            "reason", ignored);
	PUT_SINGLES(r, singles);
}

static void put_store(struct render *r)
{
	struct server *srv = r->srv;
	struct store_stats st;
	struct store_state now;
	store_get_stats(srv->store, &st);
	store_get_state(srv->store, &now);
	const struct choice threads[] = {{"busy", now.threads - now.idle}, {"idle", now.idle}};
	const struct choice waiting[] = {{"work", (double)now.hot}, {"queries", (double)now.api}};
	const struct single singles[] = {
		{"taskerd_database_up", NULL, "Whether the database is reached.", METRIC_GAUGE, srv->db_up},
		{"taskerd_database_stuck", NULL,
		 "Whether the database is reached but writes nothing, on a full disk for instance.", METRIC_GAUGE,
		 srv->db_stuck[0] != 0},
		{"taskerd_database_calls_hanging", NULL,
		 "Calls that the database has not answered for as long as a lease lasts, while it answers others.",
		 METRIC_GAUGE, (double)srv->n_hangs},
		{"taskerd_database_reconnects", NULL, "Connections of the store's threads that were lost.",
		 METRIC_COUNTER, (double)st.reconnects},
		{"taskerd_database_retries", NULL, "Calls that failed and were made again.", METRIC_COUNTER,
		 (double)st.retries},
		{"taskerd_store_bytes", "bytes", "Data of clients that waits for the database or its answer.",
		 METRIC_GAUGE, (double)now.bytes},
		{"taskerd_lease_reclaims", NULL, "Times that this node took back what a node without a lease held.",
		 METRIC_COUNTER, (double)st.reclaims},
		{"taskerd_lease_reclaimed_steps", NULL, "Steps that this node took back from nodes without a lease.",
		 METRIC_COUNTER, (double)st.reclaimed_steps},
		{"taskerd_lease_losses", NULL, "Times that this node's own lease had run out.", METRIC_COUNTER,
		 (double)st.leases_lost},
		{"taskerd_tasks_over_limit", NULL, "Tasks that this node found past a limit of their template.",
		 METRIC_COUNTER, (double)st.late},
		{"taskerd_tasks_removed", NULL, "Finished tasks that this node archived or deleted.", METRIC_COUNTER,
		 (double)st.removed},
	};
	PUT_SINGLES(r, singles);
	PUT_CHOICES(r, "taskerd_store_threads", METRIC_GAUGE, NULL, "Threads that talk to the database.", "state",
	            threads);
	PUT_CHOICES(
		r, "taskerd_store_requests_waiting", METRIC_GAUGE, NULL,
		"Requests that wait for a thread: results, creations and claims (work), and what people ask (queries).",
		"kind", waiting);
	expo_family(&r->x, "taskerd_store_call_seconds", METRIC_HISTOGRAM, "seconds",
	            "Time of a call of the database with its commit.");
	for (unsigned i = 0; i < REQ_KIND_COUNT; i++)
		expo_histogram(&r->x, &(struct label){"call", call_values[i]}, 1, &srv->metrics.call_time[i],
		               &call_times);
	expo_family(&r->x, "taskerd_store_batch_size", METRIC_HISTOGRAM, NULL,
	            "Requests that went into one call of the database.");
	for (unsigned i = 0; i < REQ_KIND_COUNT; i++)
		expo_histogram(&r->x, &(struct label){"call", call_values[i]}, 1, &srv->metrics.call_size[i],
		               &call_sizes);
}

static void put_traces(struct render *r)
{
	struct span_stats st;
	store_get_span_stats(r->srv->store, &st);
	const struct choice spans[] = {{"exported", (double)st.exported}, {"failed", (double)st.failed}};
	const struct single singles[] = {
		{"taskerd_traces_dropped", NULL,
		 "Tasks whose spans were not sent because too many waited, or the daemon stopped.", METRIC_COUNTER,
		 (double)st.dropped},
		{"taskerd_traces_waiting", NULL, "Tasks whose spans wait to be sent.", METRIC_GAUGE,
		 (double)st.waiting},
		{"taskerd_trace_collector_up", NULL, "Whether the collector took the last spans; 0 without one.",
		 METRIC_GAUGE, r->srv->opt->trace_url && st.up},
	};
	PUT_CHOICES(r, "taskerd_spans", METRIC_COUNTER, NULL,
	            "Spans that the collector took (exported), or did not (failed).", "result", spans);
	PUT_SINGLES(r, singles);
}

/* Sessions by language: that of the clients of this project, everything else is other. */
static void put_sessions(struct render *r)
{
	static const char *const languages[] = {"python", "ruby", "typescript", "rust", "c", "wasm", SERIES_OTHER};
	enum { N = sizeof languages / sizeof *languages };
	struct session *s, *tmp;
	double counts[2][N] = {{0}};
	HASH_ITER(hh, r->srv->sessions, s, tmp) {
		size_t i = 0;
		while (i + 1 < N && strcmp(s->work.language, languages[i]) != 0)
			i++;
		if (s->state == SESSION_OPEN || s->state == SESSION_DETACHED)
			counts[s->is_worker][i]++;
	}
	expo_family(&r->x, "taskerd_sessions", METRIC_GAUGE, NULL,
	            "Connections that have shaken hands, by what they are and the client's language.");
	for (size_t i = 0; i < 2 * N; i++)
		expo_sample(&r->x,
		            (struct label[]){{"kind", i < N ? "client" : "worker"}, {"language", languages[i % N]}}, 2,
		            counts[i / N][i % N]);
}

static void put_peers(struct render *r)
{
	struct server *srv = r->srv;
	struct choice quotas[QUOTA_COUNT];
	for (unsigned i = 0; i < QUOTA_COUNT; i++)
		quotas[i] = (struct choice){quota_names[i], (double)srv->metrics.quota_refusals[i]};
	const struct single singles[] = {
		{"taskerd_sessions_refused", NULL, "Connections that were turned away.", METRIC_COUNTER,
		 (double)srv->c_rejected_sessions},
		{"taskerd_sessions_held_back", NULL, "Connections that are not read until the database has caught up.",
		 METRIC_GAUGE, srv->n_held_back},
		{"taskerd_protocol_errors", NULL, "Connections closed for breaking the protocol.", METRIC_COUNTER,
		 (double)srv->c_protocol_errors},
		{"taskerd_permission_denials", NULL, "Requests refused because the peer lacks the role.",
		 METRIC_COUNTER, (double)srv->c_denied},
		{"taskerd_frames_received", NULL, "Messages read from sessions.", METRIC_COUNTER,
		 (double)srv->c_frames},
	};
	put_sessions(r);
	PUT_SINGLES(r, singles);
	PUT_CHOICES(r, "taskerd_quota_refusals", METRIC_COUNTER, NULL,
	            "Requests and connections refused by the option of this name.", "quota", quotas);
}

static void put_events(struct render *r)
{
	struct server *srv = r->srv;
	const struct choice published[] = {{"durable", (double)srv->c_events_queued},
	                                   {"fast", (double)srv->c_events_fast}};
	const struct single singles[] = {
		{"taskerd_events_pushed", NULL, "Domain events sent to subscribers.", METRIC_COUNTER,
		 (double)srv->c_events_pushed},
		{"taskerd_events_dropped", NULL, "Domain events that a subscriber was too slow for.", METRIC_COUNTER,
		 (double)srv->c_events_lost},
		{"taskerd_events_refused", NULL, "Domain events that did not fit their schema and were not published.",
		 METRIC_COUNTER, (double)srv->c_events_refused},
		{"taskerd_event_subscribers", NULL, "Sessions that have subscribed to domain events.", METRIC_GAUGE,
		 (double)srv->n_subscribers},
	};
	PUT_CHOICES(r, "taskerd_events_published", METRIC_COUNTER, NULL,
	            "Domain events published with what this node recorded.", "delivery", published);
	PUT_SINGLES(r, singles);
}

/* What the database says ------------------------------------------------------------------------------------------- */

static const struct db_family {
	const char *name, *unit, *help, *list, *value;
	const char *labels[2]; /* of the items, or NULL */
} db_families[] = {
	{"taskerd_queue_ready_steps",
         NULL,
         "Steps that wait for a worker, in the whole cluster. Exact up to 10,000 for each handler, an estimate above.",
         "namespaces",
         "ready",
         {"namespace", NULL}},
	{"taskerd_queue_delayed_steps",
         NULL,
         "Steps that wait for their next attempt, in the whole cluster.",
         "namespaces",
         "delayed",
         {"namespace", NULL}},
	{"taskerd_queue_oldest_seconds",
         "seconds",
         "How long the step has been ready that has waited longest.",
         "namespaces",
         "oldest",
         {"namespace", NULL}},
	{"taskerd_event_queue_messages",
         NULL,
         "Durable domain events that are not acknowledged. Exact up to 10,000, an estimate above.",
         "namespaces",
         "events",
         {"namespace", NULL}},
	{"taskerd_event_queue_oldest_seconds",
         "seconds",
         "Age of the oldest durable domain event that is not acknowledged.",
         "namespaces",
         "events_oldest",
         {"namespace", NULL}},
	{"taskerd_namespace_paused",
         NULL,
         "Whether the namespace is paused.",
         "namespaces",
         "paused",
         {"namespace", NULL}},
	{"taskerd_dlq_entries",
         NULL,
         "Open dead-letter entries, up to 10,000 in all.",
         "dlq",
         "entries",
         {"namespace", "reason"}},
	{"taskerd_dlq_oldest_seconds",
         "seconds",
         "Age of the oldest open dead-letter entry.",
         "dlq",
         "oldest",
         {"namespace", "reason"}},
	{"taskerd_nodes",
         NULL,
         "Daemons registered in the database, by state; expired: its lease has run out and nobody has taken back what it held.",
         "nodes",
         "nodes",
         {"state", NULL}},
	{"taskerd_starts_due",
         NULL,
         "Tasks whose run_at has come and that have not begun.",
         "starts",
         "due",
         {NULL, NULL}},
	{"taskerd_starts_scheduled", NULL, "Tasks whose run_at is to come.", "starts", "scheduled", {NULL, NULL}},
	{"taskerd_starts_oldest_seconds",
         "seconds",
         "How late the task is that should have begun first.",
         "starts",
         "oldest",
         {NULL, NULL}},
};

/* Names are short; what is longer is cut, and nothing else is called the same. */
#define LABEL_MAX 128

static size_t read_labels(const struct db_family *f, const msgpack_object *item, struct label *labels,
                          char texts[2][LABEL_MAX])
{
	size_t n = 0;
	for (; n < 2 && f->labels[n]; n++) {
		const char *p = "";
		size_t len = 0;
		(void)!mp_get_str(item, f->labels[n], &p, &len);
		snprintf(texts[n], LABEL_MAX, "%.*s", (int)(len < LABEL_MAX ? len : LABEL_MAX - 1), p);
		labels[n] = (struct label){f->labels[n], texts[n]};
	}
	return n;
}

static void put_db_family(struct render *r, const struct db_family *f)
{
	const msgpack_object *items = NULL;
	expo_family(&r->x, f->name, METRIC_GAUGE, f->unit, f->help);
	if (!r->have_db || mp_get_array(&r->db.root, f->list, &items) != 1)
		return;
	for (uint32_t i = 0; i < items->via.array.size; i++) {
		const msgpack_object *item = &items->via.array.ptr[i];
		if (item->type != MSGPACK_OBJECT_MAP)
			continue;
		struct label labels[2];
		char texts[2][LABEL_MAX];
		double v = 0;
		bool flag = false;
		size_t n = read_labels(f, item, labels, texts);
		if (mp_get_bool(item, f->value, &flag) == 1)
			v = flag;
		else if (mp_get_double(item, f->value, &v) != 1)
			continue;
		bool named = f->labels[0] && strcmp(f->labels[0], "namespace") == 0;
		if (!named || (strcmp(texts[0], SERIES_OTHER) == 0 && !r->access) || shows(r, texts[0]))
			expo_sample(&r->x, labels, n, v);
	}
}

static void put_database(struct render *r)
{
	struct server *srv = r->srv;
	const struct metrics *m = &srv->metrics;
	char schema[16], version[24];
	usec_t age = m->db_at ? now_mono() - m->db_at : 0;
	r->have_db = m->db_at && age < METRICS_STALE_US && mp_decode(m->db.data, m->db.len, &r->db) == 0;
	for (size_t i = 0; i < sizeof db_families / sizeof *db_families; i++)
		put_db_family(r, &db_families[i]);
	if (r->have_db)
		mp_value_done(&r->db);
	expo_family(&r->x, "taskerd_database_sample_age_seconds", METRIC_GAUGE, "seconds",
	            "Age of what is shown of queues, dead letters and nodes. After a minute it is not shown.");
	if (m->db_at)
		expo_sample(&r->x, NULL, 0, (double)age / 1e6);
	snprintf(schema, sizeof schema, "%d", srv->db_schema_version);
	snprintf(version, sizeof version, "%d.%d", srv->db_server_version / 10000, srv->db_server_version % 100);
	expo_family(&r->x, "taskerd_database_info", METRIC_GAUGE, NULL, "Always 1: the database's versions.");
	if (srv->ever_up)
		expo_sample(&r->x,
		            (struct label[]){{"postgresql", version}, {"schema", schema}, {"pgmq", srv->db_pgmq}}, 3,
		            1);
}

/* The process ------------------------------------------------------------------------------------------------------ */

static void put_process(struct render *r)
{
	struct server *srv = r->srv;
	struct process_state p;
	process_look(&p);
	const struct single singles[] = {
		{"taskerd_uptime_seconds", "seconds", "Time since the daemon began to serve.", METRIC_GAUGE,
		 (double)(now_mono() - srv->started) / 1e6},
		{"taskerd_draining", NULL, "Whether the daemon is stopping and takes nothing new.", METRIC_GAUGE,
		 srv->draining},
		{"process_cpu_seconds", "seconds", "Processor time of the daemon, in user space and the kernel.",
		 METRIC_COUNTER, p.cpu},
		{"process_resident_memory_bytes", "bytes", "Memory of the daemon that is in RAM.", METRIC_GAUGE,
		 p.resident},
		{"process_virtual_memory_bytes", "bytes", "Address space of the daemon.", METRIC_GAUGE, p.virtual},
		{"process_open_fds", NULL, "File descriptors that are open.", METRIC_GAUGE, p.fds},
		{"process_max_fds", NULL, "File descriptors that may be open.", METRIC_GAUGE, p.max_fds},
		{"process_start_time_seconds", "seconds", "When the daemon was started, in seconds since 1970.",
		 METRIC_GAUGE, p.started},
	};
	PUT_SINGLES(r, singles);
	expo_family(&r->x, "taskerd_build_info", METRIC_GAUGE, NULL, "Always 1: which daemon this is.");
	expo_sample(&r->x,
	            (struct label[]){{"version", TASKERD_VERSION},
	                             {"node", srv->opt->node_name},
	                             {"compiler", __VERSION__}},
	            3, 1);
}

void metrics_render(struct server *srv, enum expo_format format, const struct access *access, struct buf *out)
{
	struct render r = {.srv = srv, .access = access};
	expo_begin(&r.x, format, out);
	put_templates(&r);
	put_steps(&r);
	put_store(&r);
	put_traces(&r);
	put_peers(&r);
	put_events(&r);
	put_database(&r);
	put_process(&r);
	expo_end(&r.x);
}
