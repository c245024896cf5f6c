#include "daemon/store/spans.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include "daemon/base/log.h"
#include "daemon/store/store_impl.h"
#include "daemon/trace/collector.h"

#define WAITING_MAX 50000u /* tasks */
#define TASKS_MAX 100u	   /* asked about at a time */
#define SPANS_MAX 500	   /* of a request */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define GATHER_MS 100	   /* how long tasks may gather */
#define QUERY_MS 30000
#define REQUEST_MS 10000
#define TRIES_MAX 5u	   /* with 1, 2, 4 and 8 seconds in between, or what the collector asks for */
#define STOP_MS 2000
#define SEEN_WAYS 8u	   /* places that one of them may have */
#define SEEN_SIZE 65536u   /* runs that were sent lately: notifications tell of a task again */

struct ask {
	struct mail mail; /* first */
	struct uuid task;
};

struct seen {
	struct uuid task;
	int run;
	bool is;
};

/* Arrays of PostgreSQL, as texts: runs that are to be sent. */
enum { A_TASK, A_RUN, A_TRACE, A_PARENT, A_AFTER, A_UNTIL, N_ARRAYS };

struct spans {
	struct store *s;
	struct trace_config cfg;
	struct mailbox queue;
	struct mail *gathered;
	_Atomic size_t waiting;
	_Atomic uint64_t exported, failed, dropped;
	_Atomic bool stopping, silent; /* silent: the collector takes nothing */
	_Atomic usec_t stop_at;	       /* monotonic */
	int stop_fd;
	pthread_t thread;
	bool started;

	struct collector *collector;
	PGconn *conn;
	char since[64]; /* the database's time when it was first asked */
	struct seen *seen;
	unsigned turn;
	struct buf arrays[N_ARRAYS];
	unsigned n_runs;
};

static void free_list(struct mail *m)
{
	while (m) {
		struct mail *next = m->next;
		free(m);
		m = next;
	}
}

static void push(struct spans *sp, const struct uuid *task)
{
	struct ask *a = atomic_load(&sp->waiting) < WAITING_MAX ? malloc(sizeof *a) : NULL;
	if (!a) {
		atomic_fetch_add(&sp->dropped, 1);
		return;
	}
	a->task = *task;
	atomic_fetch_add(&sp->waiting, 1);
	mailbox_push(&sp->queue, &a->mail);
}

void spans_note(struct spans *sp, const struct done *d)
{
	struct uuid task;
	unsigned no;
	if (!sp || (d->kind != DONE_BATCH && d->kind != DONE_NOTIFY_SETTLED && d->kind != DONE_NOTIFY_CANCEL))
		return;
	for (const struct settled *t = d->settled; t; t = t->next)
		if (!uuid_split_step(&t->task, &task, &no)) /* a step that was cancelled settles nothing by itself */
			push(sp, &t->task);
}

void store_get_span_stats(const struct store *s, struct span_stats *ret)
{
	const struct spans *sp = s->spans;
	*ret = (struct span_stats){0};
	if (sp)
		*ret = (struct span_stats){atomic_load(&sp->exported), atomic_load(&sp->failed),
		                           atomic_load(&sp->dropped), atomic_load(&sp->waiting),
		                           !atomic_load(&sp->silent)};
}

/* Time ------------------------------------------------------------------------------------------------------------- */

static bool out_of_time(const struct spans *sp)
{
	return atomic_load(&sp->stopping) && now_mono() >= atomic_load(&sp->stop_at);
}

/* True: stopping. */
static bool rest(struct spans *sp, int ms)
{
	struct pollfd p = {.fd = sp->stop_fd, .events = POLLIN};
	return poll(&p, 1, ms) > 0;
}

static usec_t deadline(const struct spans *sp)
{
	usec_t end = now_mono() + (usec_t)REQUEST_MS * USEC_PER_MSEC, stop = atomic_load(&sp->stop_at);
	return atomic_load(&sp->stopping) && stop < end ? stop : end;
}

/* The database ----------------------------------------------------------------------------------------------------- */

static int connect_once(struct spans *sp, struct err *e)
{
	enum db_failure why;
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	bool stopping = atomic_load(&sp->stopping); /* then there is still the time that is left */
	usec_t now = now_mono(), end = deadline(sp);
	int ms = end > now ? (int)((end - now) / USEC_PER_MSEC) : 0;
	int rc = db_connect(sp->s->session_conninfo, CONN_PLAIN, ms, stopping ? -1 : sp->stop_fd, &sp->conn, e);
	if (rc == 0 && !sp->since[0])
		rc = db_query_within(sp->conn, "SELECT now()", 0, NULL, QUERY_MS, sp->stop_fd, &r, &why, e);
	if (rc == 0 && r)
		snprintf(sp->since, sizeof sp->since, "%s", PQgetvalue(r, 0, 0));
	if (rc < 0)
		sp->conn = db_close(sp->conn);
	return rc;
}

/* 0, or negative: it cannot be known, because the database refuses, or there is no time left. */
static int query(struct spans *sp, const char *sql, int n, const char *const *params, PGresult **ret)
{
	struct err e = {0};
	for (unsigned tries = 0; !out_of_time(sp); tries++) {
		enum db_failure why = DB_LOST;
		int rc = sp->conn ? 0 : connect_once(sp, &e);
		if (rc == 0)
			rc = db_query_within(sp->conn, sql, n, params, QUERY_MS, sp->stop_fd, ret, &why, &e);
		if (rc == 0)
			return 0;
		if (why == DB_REFUSED)
			log_error("what collectors are sent cannot be read: %s", e.text);
		if (why == DB_REFUSED)
			return rc;
		if (why == DB_LOST)
			sp->conn = db_close(sp->conn);
		if (rest(sp, tries < 4 ? 250 << tries : 5000))
			poll(NULL, 0, 20);
	}
	return -ECANCELED;
}

/* Runs ------------------------------------------------------------------------------------------------------------- */

static bool seen_before(struct spans *sp, const struct uuid *task, int run)
{
	struct span_id h = span_id_of(task->b, (uint32_t)run);
	uint16_t at;
	memcpy(&at, h.b, sizeof at);
	struct seen *set = &sp->seen[at / SEEN_WAYS * SEEN_WAYS], *e = &set[sp->turn++ % SEEN_WAYS];
	for (unsigned i = 0; i < SEEN_WAYS; i++) {
		if (set[i].is && set[i].run == run && uuid_eq(&set[i].task, task))
			return true;
		if (!set[i].is)
			e = &set[i];
	}
	*e = (struct seen){*task, run, true};
	return false;
}

static void put(struct spans *sp, int array, const char *text)
{
	struct buf *b = &sp->arrays[array];
	buf_append_str(b, b->len == 0 ? "{" : ",");
	if (text)
		buf_printf(b, "\"%s\"", text);
	else
		buf_append_str(b, "NULL");
}

/* task_id, task_uuid, run, traceparent, after, until */
static void take_run(struct spans *sp, const PGresult *r, int row)
{
	struct uuid task;
	struct trace_context given;
	char trace[TRACE_ID_TEXT], parent[SPAN_ID_TEXT];
	const char *uuid = PQgetvalue(r, row, 1);
	int run = (int)strtol(PQgetvalue(r, row, 2), NULL, 10);
	traceparent_parse(PQgetvalue(r, row, 3), (size_t)PQgetlength(r, row, 3), &given);
	if (uuid_parse(uuid, strlen(uuid), &task) < 0)
		return;
	struct trace_context c = trace_of_task(&given, task.b, sp->cfg.percent);
	if (!c.sampled || seen_before(sp, &task, run))
		return;
	trace_id_format(c.trace, trace);
	span_id_format(&c.parent, parent);
	put(sp, A_TASK, PQgetvalue(r, row, 0));
	put(sp, A_RUN, PQgetvalue(r, row, 2));
	put(sp, A_TRACE, trace);
	put(sp, A_PARENT, c.given ? parent : NULL);
	put(sp, A_AFTER, PQgetvalue(r, row, 4));
	put(sp, A_UNTIL, PQgetvalue(r, row, 5));
	sp->n_runs++;
}

static int find_runs(struct spans *sp, struct buf *tasks)
{
	char node[16];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	struct err ignored;
	pthread_mutex_lock(&sp->s->lock);
	snprintf(node, sizeof node, "%d", sp->s->node.node_no);
	pthread_mutex_unlock(&sp->s->lock);
	if (!sp->conn && !sp->since[0] && connect_once(sp, &ignored) < 0)
		/* tried again below; the runs of tasks seen now are new */
		snprintf(sp->since, sizeof sp->since, "-infinity");
	int rc = query(sp, "SELECT * FROM tasker.runs_ended($1::int, $2::timestamptz, $3::uuid[])", 3,
	               (const char *[]){node, sp->since, buf_text(tasks)}, &r);
	if (rc < 0)
		return rc;
	sp->n_runs = 0;
	for (int i = 0; i < N_ARRAYS; i++)
		buf_reset(&sp->arrays[i]);
	for (int i = 0; i < PQntuples(r); i++)
		take_run(sp, r, i);
	for (int i = 0; i < N_ARRAYS; i++)
		buf_append_char(&sp->arrays[i], '}');
	return 0;
}

/* Sending ---------------------------------------------------------------------------------------------------------- */

/* Once when it begins to fail, once when it works again. */
static void complain(struct spans *sp, bool failed, const struct err *e)
{
	if (failed && !atomic_exchange(&sp->silent, true))
		log_event(LOG_COLLECTOR_FAILS, NULL,
		          "spans cannot be sent to %s: %s; trying on, and dropping what is too much", sp->cfg.url,
		          e->text);
	else if (!failed && atomic_exchange(&sp->silent, false))
		log_event(LOG_COLLECTOR_TAKES, NULL, "spans are taken by %s again", sp->cfg.url);
}

static void send_spans(struct spans *sp, const char *text, unsigned n)
{
	enum collector_verdict v = COLLECTOR_LATER;
	uint64_t refused = 0;
	int wait = 0;
	for (unsigned tries = 0; v == COLLECTOR_LATER && tries < TRIES_MAX && !out_of_time(sp); tries++) {
		struct err e = {0};
		if (tries > 0 && rest(sp, wait ? wait : 500 << tries))
			break;
		v = collector_send(sp->collector, text, deadline(sp), &refused, &wait, &e);
		complain(sp, v != COLLECTOR_TOOK || refused > 0, &e);
	}
	if (v != COLLECTOR_TOOK || refused > n)
		refused = n;
	atomic_fetch_add(&sp->exported, n - refused);
	atomic_fetch_add(&sp->failed, refused);
}

/* One request with the spans behind `after`, which moves on. The number of spans; negative: that cannot be known. */
static int send_page(struct spans *sp, char after[3][16])
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	const char *params[N_ARRAYS + 3];
	struct buf text;
	for (int i = 0; i < N_ARRAYS; i++)
		params[i] = buf_text(&sp->arrays[i]);
	for (int i = 0; i < 3; i++)
		params[N_ARRAYS + i] = after[i];
	int rc = query(
		sp,
		"SELECT * FROM tasker.otlp_spans($1::bigint[], $2::int[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::int, $8::int, $9::int, " TEXT(
			SPANS_MAX) ")",
		N_ARRAYS + 3, params, &r);
	int n = rc < 0 ? 0 : PQntuples(r);
	buf_init(&text, 0);
	for (int i = 0; i < n; i++) {
		buf_append_str(&text, i ? "," : "");
		buf_append_str(&text, PQgetvalue(r, i, 3));
	}
	if (n > 0 && buf_text(&text)) {
		send_spans(sp, buf_text(&text), (unsigned)n);
		for (int i = 0; i < 3; i++)
			snprintf(after[i], sizeof after[i], "%s", PQgetvalue(r, n - 1, i));
	}
	rc = rc < 0 ? rc : text.failed ? text.failed : n;
	buf_done(&text);
	return rc;
}

static void send_tasks(struct spans *sp, struct buf *tasks, unsigned n)
{
	char after[3][16] = {"1", "-2", "0"};
	int rc = find_runs(sp, tasks);
	for (int sent = SPANS_MAX; rc == 0 && sp->n_runs > 0 && sent >= SPANS_MAX;) {
		sent = out_of_time(sp) ? -ECANCELED : send_page(sp, after);
		rc = sent < 0 ? sent : 0;
	}
	if (rc < 0)
		atomic_fetch_add(&sp->dropped, n);
}

/* The thread ------------------------------------------------------------------------------------------------------- */

static void *spans_main(void *arg)
{
	struct spans *sp = arg;
	while (sp->gathered || (sp->gathered = mailbox_wait(&sp->queue, -1))) {
		struct buf tasks;
		unsigned n = 0;
		if (atomic_load(&sp->waiting) < TASKS_MAX)
			rest(sp, GATHER_MS);
		buf_init(&tasks, 0);
		for (struct mail **tail = &sp->gathered;; tail = &(*tail)->next)
			if (!*tail && !(*tail = mailbox_take(&sp->queue)))
				break;
		while (sp->gathered && n < TASKS_MAX) {
			struct ask *a = (struct ask *)sp->gathered;
			char uuid[UUID_TEXT];
			uuid_format(&a->task, uuid);
			buf_printf(&tasks, "%c%s", n++ ? ',' : '{', uuid);
			sp->gathered = a->mail.next;
			free(a);
		}
		buf_append_char(&tasks, '}');
		if (buf_text(&tasks))
			send_tasks(sp, &tasks, n);
		atomic_fetch_sub(&sp->waiting, n);
		buf_done(&tasks);
	}
	return NULL;
}

/* Beginning and end ------------------------------------------------------------------------------------------------ */

static int prepare(struct spans *sp, struct err *e)
{
	const struct collector_config cc = {.url = sp->cfg.url,
	                                    .headers = sp->cfg.headers,
	                                    .version = sp->s->version,
	                                    .node = sp->s->node_name,
	                                    .stop_fd = sp->stop_fd,
	                                    .grace_ms = STOP_MS};
	int rc = mailbox_init(&sp->queue);
	if (rc < 0 || sp->stop_fd < 0 || !sp->seen)
		return err_set(e, rc < 0 ? rc : -ENOMEM, "internal",
		               "spans cannot be sent: out of memory or descriptors");
	for (int i = 0; i < N_ARRAYS; i++)
		buf_init(&sp->arrays[i], 0);
	return collector_new(&cc, &sp->collector, e);
}

static int spawn(struct spans *sp, struct err *e)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&sp->thread, NULL, spans_main, sp);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	sp->started = rc == 0;
	return rc == 0 ? 0 : err_set(e, -rc, "internal", "cannot start a thread: %s", strerror(rc));
}

int spans_start(struct store *s, struct spans **ret, struct err *e)
{
	*ret = NULL;
	if (!s->cfg.trace.url)
		return 0;
	struct spans *sp = calloc(1, sizeof *sp);
	if (!sp)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	sp->s = s;
	sp->cfg = s->cfg.trace;
	sp->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sp->seen = calloc(SEEN_SIZE, sizeof *sp->seen);
	int rc = prepare(sp, e);
	if (rc == 0)
		rc = spawn(sp, e);
	if (rc < 0)
		sp = spans_free(sp);
	*ret = sp;
	return rc;
}

void spans_stop(struct spans *sp)
{
	uint64_t one = 1;
	if (!sp || !sp->started)
		return;
	uint64_t before = atomic_load(&sp->dropped);
	atomic_store(&sp->stop_at, now_mono() + (usec_t)STOP_MS * USEC_PER_MSEC);
	atomic_store(&sp->stopping, true);
	ssize_t ignored = write(sp->stop_fd, &one, sizeof one);
	(void)ignored;
	mailbox_close(&sp->queue);
	pthread_join(sp->thread, NULL);
	sp->started = false;
	uint64_t left = atomic_load(&sp->dropped) - before;
	if (left > 0)
		log_warn("spans of %llu tasks were not sent: there was no time for them at the stop",
		         (unsigned long long)left);
}

struct spans *spans_free(struct spans *sp)
{
	if (!sp)
		return NULL;
	spans_stop(sp);
	free_list(mailbox_take(&sp->queue));
	mailbox_done(&sp->queue);
	sp->conn = db_close(sp->conn);
	collector_free(sp->collector);
	for (int i = 0; i < N_ARRAYS; i++)
		buf_done(&sp->arrays[i]);
	if (sp->stop_fd >= 0)
		close(sp->stop_fd);
	free(sp->seen);
	free(sp);
	return NULL;
}
