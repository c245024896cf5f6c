/* Load on the daemon, and what came of it as one line of JSON.
 *
 *   bench_client bulk --template NS/NAME --count N     creates tasks with task.create_many, several calls in
 *       flight, and waits until all are finished. Only the last ones (--waits) are waited for one by one, so
 *       that the load is the tasks and not the asking; then one look shows whether others are still open. The
 *       clock stops before that look, or, should there be any, when they are finished.
 *   bench_client create --template NS/NAME --count N   only creates them.
 *   bench_client serial --template NS/NAME --count N   creates one task, waits for it, and so on: the latency
 *       of an idle system. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "clients/c/tasker.h"
#include "protocol/mp.h"

struct load {
	const char *mode, *socket;
	char space[64], name[160], version[64];
	const char *context;
	unsigned long count, chunk, inflight, waits;
	tasker *t;
	struct tasker_error err; /* the first thing that went wrong */
	unsigned long next, refused, ntasks, open;
	unsigned long incomplete, stragglers;
	char (*uuids)[40];
	double *create_ms, *complete_ms;
	uint64_t begin_us;
	char uuid[40]; /* serial: the task at hand */
	char state[32];
};

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static double seconds_since(uint64_t us)
{
	return (double)(now_us() - us) / 1e6;
}

static void keep_error(struct load *l, const struct tasker_error *err)
{
	if (err && l->err.rc == 0)
		l->err = *err;
}

/* Process until at most `below` requests are open. 0, or negative. */
static int settle(struct load *l, unsigned long below)
{
	struct tasker_error err;
	while (l->open > below)
		if (tasker_process(l->t, 60000000, &err) < 0) {
			keep_error(l, &err);
			return -1;
		}
	return l->err.rc;
}

static int request(struct load *l, const char *method, struct buf *params, tasker_reply_fn *fn, void *arg)
{
	struct tasker_error err;
	int rc = tasker_send(l->t, method, params->data, params->len, fn, arg, &err);
	if (rc < 0)
		keep_error(l, &err);
	else
		l->open++;
	buf_done(params);
	return rc;
}

/* ---- creating ---- */

static void put_task(const struct load *l, struct buf *b)
{
	mp_map(b, l->version[0] ? 4 : 3);
	mp_str(b, "namespace");
	mp_str(b, l->space);
	mp_str(b, "name");
	mp_str(b, l->name);
	mp_str(b, "context");
	mp_map(b, 1);
	mp_str(b, "payload");
	mp_str(b, l->context);
	if (l->version[0]) {
		mp_str(b, "version");
		mp_str(b, l->version);
	}
}

static void on_created(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct load *l = arg;
	const tasker_value *results = tasker_get(result, "results");
	l->open--;
	keep_error(l, err);
	for (size_t i = 0; i < tasker_count(results); i++) {
		const tasker_value *r = tasker_item(results, i);
		struct tasker_error e = {.rc = -1};
		if (tasker_copy(tasker_get(r, "task_uuid"), l->uuids[l->ntasks], sizeof *l->uuids)) {
			l->ntasks++;
			continue;
		}
		l->refused++;
		tasker_copy(tasker_get(tasker_get(r, "error"), "code"), e.code, sizeof e.code);
		tasker_copy(tasker_get(tasker_get(r, "error"), "message"), e.message, sizeof e.message);
		keep_error(l, &e);
	}
}

static int create_all(struct load *l)
{
	int rc = 0;
	while (rc == 0 && l->next < l->count) {
		unsigned long n = l->count - l->next < l->chunk ? l->count - l->next : l->chunk;
		struct buf b;
		buf_init(&b, 0);
		mp_map(&b, 1);
		mp_str(&b, "tasks");
		mp_array(&b, n);
		for (unsigned long i = 0; i < n; i++)
			put_task(l, &b);
		l->next += n;
		rc = request(l, "task.create_many", &b, on_created, l);
		if (rc == 0)
			rc = settle(l, l->inflight - 1);
	}
	return rc < 0 ? rc : settle(l, 0);
}

/* ---- waiting ---- */

struct wait {
	struct load *l;
	char uuid[40];
};

static void wait_for(struct load *l, const char *uuid);

static void on_waited(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct wait *w = arg;
	w->l->open--;
	keep_error(w->l, err);
	if (!err && !tasker_bool(tasker_get(result, "settled"), false))
		wait_for(w->l, w->uuid);
	free(w);
}

static void wait_for(struct load *l, const char *uuid)
{
	static const struct tasker_error no_memory = {.rc = -ENOMEM, .code = "out_of_memory"};
	struct buf b;
	struct wait *w = malloc(sizeof *w);
	if (!w) {
		keep_error(l, &no_memory);
		return;
	}
	w->l = l;
	snprintf(w->uuid, sizeof w->uuid, "%s", uuid);
	buf_init(&b, 0);
	mp_map(&b, 2);
	mp_str(&b, "task_uuid");
	mp_str(&b, uuid);
	mp_str(&b, "timeout_ms");
	mp_uint(&b, 60000);
	if (request(l, "task.wait", &b, on_waited, w) < 0)
		free(w);
}

/* ---- looking ---- */

struct look { /* the load's own tasks in one state, a page at a time */
	struct load *l;
	char cursor[32]; /* empty: no further page */
	size_t found;
	bool wait; /* for each of them */
};

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void on_listed(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct look *k = arg;
	struct load *l = k->l;
	const tasker_value *tasks = tasker_get(result, "tasks");
	char uuid[sizeof *l->uuids];
	l->open--;
	keep_error(l, err);
	for (size_t i = 0; i < tasker_count(tasks); i++) {
		tasker_copy(tasker_get(tasker_item(tasks, i), "task_uuid"), uuid, sizeof uuid);
		if (!bsearch(uuid, l->uuids, l->ntasks, sizeof uuid, by_text))
			continue; /* another load's */
		k->found++;
		if (k->wait)
			wait_for(l, uuid);
	}
	tasker_copy(tasker_get(result, "next_cursor"), k->cursor, sizeof k->cursor);
}

/* How many of the load's tasks are in the state; negative: see l->err. With `wait` they are waited for. */
static long look_at(struct load *l, const char *state, bool wait)
{
	struct look k = {.l = l, .wait = wait};
	do {
		const char *fields[] = {"namespace", l->space, "name",   l->name,
		                        "state",     state,    "cursor", k.cursor};
		size_t n = k.cursor[0] ? 4 : 3;
		struct buf b;
		buf_init(&b, 0);
		mp_map(&b, n + 1);
		mp_str(&b, "limit");
		mp_uint(&b, 1000);
		for (size_t i = 0; i < 2 * n; i++)
			mp_str(&b, fields[i]);
		if (request(l, "task.list", &b, on_listed, &k) < 0 || settle(l, 0) < 0)
			return -1;
	} while (k.cursor[0]);
	return (long)k.found;
}

/* Wait for those that still move, if any; returns how many there were. */
static long wait_for_stragglers(struct load *l)
{
	long waiting, running = look_at(l, "steps_in_process", true);
	if (running < 0)
		return -1;
	waiting = look_at(l, "waiting_for_retry", true);
	return waiting < 0 ? -1 : running + waiting;
}

static int count_incomplete(struct load *l)
{
	static const char *const states[] = {"blocked_by_failures", "error", "cancelled",
	                                     "resolved_manually"};
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		long n = look_at(l, states[i], false);
		if (n < 0)
			return -1;
		l->incomplete += (unsigned long)n;
	}
	return 0;
}

static int wait_for_all(struct load *l, double *ret_seconds)
{
	long n;
	for (size_t i = l->ntasks > l->waits ? l->ntasks - l->waits : 0; i < l->ntasks; i++)
		wait_for(l, l->uuids[i]);
	if (settle(l, 0) < 0)
		return -1;
	*ret_seconds = seconds_since(l->begin_us);
	qsort(l->uuids, l->ntasks, sizeof *l->uuids, by_text);
	while ((n = wait_for_stragglers(l)) > 0) {
		l->stragglers += (unsigned long)n;
		*ret_seconds = seconds_since(l->begin_us);
	}
	return n < 0 ? -1 : count_incomplete(l);
}

/* ---- the modes ---- */

static long steps_of_a_task(struct load *l)
{
	char params[96], *json = NULL;
	long n = 0;
	if (l->ntasks == 0)
		return 0;
	snprintf(params, sizeof params, "{\"task_uuid\":\"%s\",\"steps\":false}", l->uuids[0]);
	if (tasker_call_json(l->t, "task.get", params, 10000, &json, &l->err) < 0)
		return 0;
	const char *at = strstr(json, "\"total_steps\":");
	if (at)
		n = strtol(at + 14, NULL, 10);
	free(json);
	return n;
}

static int create_only(struct load *l)
{
	l->uuids = calloc(l->count, sizeof *l->uuids);
	if (!l->uuids)
		return -ENOMEM;
	l->begin_us = now_us();
	int rc = create_all(l);
	double seconds = seconds_since(l->begin_us);
	if (rc == 0)
		printf("{\"mode\":\"create\",\"template\":\"%s/%s\",\"created\":%lu,\"refused\":%lu,\"created_per_s\":%.0f}\n",
		       l->space, l->name, l->ntasks, l->refused, (double)l->ntasks / seconds);
	return rc < 0 || l->refused ? -EREMOTEIO : 0;
}

static int bulk(struct load *l)
{
	double finish_s = 0;
	l->uuids = calloc(l->count, sizeof *l->uuids);
	if (!l->uuids)
		return -ENOMEM;
	l->begin_us = now_us();
	int rc = create_all(l);
	double create_s = seconds_since(l->begin_us);
	if (rc == 0)
		rc = wait_for_all(l, &finish_s);
	if (rc < 0)
		return rc;
	long steps = steps_of_a_task(l);
	printf("{\"mode\":\"bulk\",\"template\":\"%s/%s\",\"count\":%lu,\"created\":%lu,\"refused\":%lu,"
	       "\"create_s\":%.3f,\"created_per_s\":%.0f,\"finished\":%lu,\"not_complete\":%lu,"
	       "\"stragglers\":%lu,"
	       "\"finish_s\":%.3f,\"finished_per_s\":%.0f,\"steps_per_task\":%ld,\"steps_per_s\":%.0f}\n",
	       l->space, l->name, l->count, l->ntasks, l->refused, create_s, (double)l->ntasks / create_s,
	       l->ntasks, l->incomplete, l->stragglers, finish_s, (double)l->ntasks / finish_s, steps,
	       (double)l->ntasks * (double)steps / finish_s);
	return l->incomplete || l->refused ? -EREMOTEIO : 0;
}

static void on_one(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct load *l = arg;
	l->open--;
	keep_error(l, err);
	tasker_copy(tasker_get(result, "task_uuid"), l->uuid, sizeof l->uuid);
	tasker_copy(tasker_get(result, "state"), l->state, sizeof l->state);
}

static int one_task(struct load *l, size_t i)
{
	uint64_t begin = now_us();
	struct buf b;
	buf_init(&b, 0);
	put_task(l, &b);
	if (request(l, "task.create", &b, on_one, l) < 0 || settle(l, 0) < 0)
		return -1;
	l->create_ms[i] = (double)(now_us() - begin) / 1000;
	buf_init(&b, 0);
	mp_map(&b, 2);
	mp_str(&b, "task_uuid");
	mp_str(&b, l->uuid);
	mp_str(&b, "timeout_ms");
	mp_uint(&b, 60000);
	if (request(l, "task.wait", &b, on_one, l) < 0 || settle(l, 0) < 0)
		return -1;
	l->complete_ms[i] = (double)(now_us() - begin) / 1000;
	l->incomplete += strcmp(l->state, "complete") != 0;
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void print_spread(const char *name, double *ms, size_t n)
{
	double sum = 0;
	qsort(ms, n, sizeof *ms, by_size);
	for (size_t i = 0; i < n; i++)
		sum += ms[i];
	printf(",\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"mean\":%.3f}", name, ms[n / 2],
	       ms[n * 9 / 10], ms[n * 99 / 100], ms[n - 1], sum / (double)n);
}

static int serial(struct load *l)
{
	l->create_ms = calloc(l->count, sizeof *l->create_ms);
	l->complete_ms = calloc(l->count, sizeof *l->complete_ms);
	if (!l->create_ms || !l->complete_ms)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++)
		if (one_task(l, i) < 0)
			return -1;
	printf("{\"mode\":\"serial\",\"template\":\"%s/%s\",\"count\":%lu,\"not_complete\":%lu", l->space,
	       l->name, l->count, l->incomplete);
	print_spread("create_ms", l->create_ms, l->count);
	print_spread("complete_ms", l->complete_ms, l->count);
	printf("}\n");
	return l->incomplete ? -EREMOTEIO : 0;
}

/* ---- command line ---- */

static int usage(const char *why)
{
	fprintf(
	    stderr,
	    "%s\nusage: bench_client bulk|serial|create --template NS/NAME[@VERSION] [--count N] [--socket PATH]\n"
	    "                    [--context TEXT] [--chunk N] [--inflight N] [--waits N]\n",
	    why);
	return -1;
}

static int parse_number(const char *s, unsigned long *ret)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v < 1 || v > 100000000)
		return usage("not a number in range");
	*ret = v;
	return 0;
}

static int parse_template(struct load *l, const char *ref)
{
	const char *slash = strchr(ref, '/'), *at = strchr(ref, '@');
	const char *name = slash ? slash + 1 : ref;
	int n = slash ? (int)(slash - ref) : 7, m = at ? (int)(at - name) : (int)strlen(name);
	if (m <= 0 || n <= 0 || (size_t)n >= sizeof l->space || (size_t)m >= sizeof l->name)
		return usage("not a template: NS/NAME[@VERSION]");
	snprintf(l->space, sizeof l->space, "%.*s", n, slash ? ref : "default");
	snprintf(l->name, sizeof l->name, "%.*s", m, name);
	snprintf(l->version, sizeof l->version, "%s", at ? at + 1 : "");
	return 0;
}

static int parse_option(struct load *l, int c)
{
	switch (c) {
	case 's':
		l->socket = optarg;
		return 0;
	case 't':
		return parse_template(l, optarg);
	case 'x':
		l->context = optarg;
		return 0;
	case 'n':
		return parse_number(optarg, &l->count);
	case 'k':
		return parse_number(optarg, &l->chunk);
	case 'i':
		return parse_number(optarg, &l->inflight);
	case 'w':
		return parse_number(optarg, &l->waits);
	default:
		return usage("unknown option");
	}
}

static int parse(int argc, char **argv, struct load *l)
{
	static const struct option options[] = {{"socket", 1, NULL, 's'},  {"template", 1, NULL, 't'},
	                                        {"context", 1, NULL, 'x'}, {"count", 1, NULL, 'n'},
	                                        {"chunk", 1, NULL, 'k'},   {"inflight", 1, NULL, 'i'},
	                                        {"waits", 1, NULL, 'w'},   {NULL, 0, NULL, 0}};
	int c, rc = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		rc = parse_option(l, c);
	if (rc < 0)
		return rc;
	if (optind + 1 != argc)
		return usage("say bulk or serial");
	l->mode = argv[optind];
	return l->name[0] ? 0 : usage("--template is missing");
}

int main(int argc, char **argv)
{
	struct load l = {.context = "", .count = 1000, .chunk = 500, .inflight = 4, .waits = 100};
	int rc;
	if (parse(argc, argv, &l) < 0)
		return 2;
	const struct tasker_options o = {.socket_path = l.socket, .client = "bench_client/1"};
	if (tasker_connect(&l.t, &o, &l.err) < 0) {
		fprintf(stderr, "bench_client: %s\n", l.err.message);
		return 3;
	}
	if (l.chunk > tasker_max_bulk(l.t))
		l.chunk = tasker_max_bulk(l.t);
	if (strcmp(l.mode, "bulk") == 0)
		rc = bulk(&l);
	else if (strcmp(l.mode, "serial") == 0)
		rc = serial(&l);
	else if (strcmp(l.mode, "create") == 0)
		rc = create_only(&l);
	else
		rc = usage("say bulk, serial or create");
	if (l.err.rc < 0)
		fprintf(stderr, "bench_client: %s: %s\n", l.err.code, l.err.message);
	tasker_close(l.t);
	free(l.uuids);
	free(l.create_ms);
	free(l.complete_ms);
	return rc < 0 ? 1 : 0;
}
