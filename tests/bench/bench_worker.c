/* The cheapest worker that can be: its handlers do nothing, so that a benchmark measures the daemon. All
 * steps of one read are answered in one message. With --sleep-us every step is answered that long after it
 * came, all of them side by side. With --starts FILE it appends a line for each handler that starts: when (in
 * microseconds of the wall clock), step, attempt. Ends on SIGTERM or SIGINT after draining, and prints what it
 * did as one line of JSON. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "clients/c/tasker.h"

#define MAX_NAMES 64

struct sleeper {
	struct sleeper *next;
	tasker_step *step;
	uint64_t due_us;
};

struct bench {
	const char *socket, *name, *handlers[MAX_NAMES], *namespaces[MAX_NAMES];
	size_t nhandlers, nnamespaces;
	unsigned long concurrency, sleep_us;
	FILE *starts; /* a line for each handler that starts */
	struct sleeper *first, **last; /* the delay is the same for all, so this is in order of time */
};

static tasker_worker *worker;

static void on_signal(int sig)
{
	(void)sig;
	tasker_worker_stop(worker);
}

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void note_start(struct bench *b, const tasker_step *step)
{
	const tasker_value *v = tasker_step_value(step);
	struct timespec ts;
	char uuid[40];
	if (!b->starts)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	tasker_copy(tasker_get(v, "step_uuid"), uuid, sizeof uuid);
	fprintf(b->starts, "%lld %s %lld\n", (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000, uuid,
	        (long long)tasker_int(tasker_get(v, "attempt"), 0));
}

static enum tasker_verdict noop(void *arg, tasker_step *step)
{
	struct bench *b = arg;
	note_start(b, step);
	struct sleeper *s = b->sleep_us ? malloc(sizeof *s) : NULL;
	if (!s)
		return TASKER_DONE;
	*s = (struct sleeper){.step = step, .due_us = now_us() + b->sleep_us};
	*b->last = s;
	b->last = &s->next;
	return TASKER_DEFERRED;
}

static enum tasker_verdict echo(void *arg, tasker_step *step)
{
	char *json = tasker_json(tasker_get(tasker_step_value(step), "context"));
	(void)arg;
	tasker_step_succeed(step, json, NULL);
	free(json);
	return TASKER_DONE;
}

static enum tasker_verdict fail(void *arg, tasker_step *step)
{
	const struct tasker_failure f = {
	    .message = "asked to fail", .error_type = "BenchFailure", .permanent = true};
	(void)arg;
	tasker_step_fail(step, &f, NULL);
	return TASKER_DONE;
}

/* Fails at the first attempt of every step. */
static enum tasker_verdict flaky(void *arg, tasker_step *step)
{
	const struct tasker_failure f = {.message = "asked to fail once", .error_type = "BenchFailure"};
	(void)arg;
	if (tasker_int(tasker_get(tasker_step_value(step), "attempt"), 1) == 1)
		tasker_step_fail(step, &f, NULL);
	return TASKER_DONE;
}

static const struct {
	const char *name;
	tasker_handler_fn *fn;
} builtin[] = {{"bench.noop", noop}, {"bench.echo", echo}, {"bench.fail", fail}, {"bench.flaky", flaky}};

static void say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "bench_worker: %s\n", line);
}

static int usage(const char *why)
{
	fprintf(
	    stderr,
	    "%s\nusage: bench_worker [--socket PATH] [--name NAME] [--namespace NS]... [--handler NAME]...\n"
	    "                    [--concurrency N] [--sleep-us N] [--starts FILE]\n",
	    why);
	return -1;
}

static int parse_number(const char *s, unsigned long max, unsigned long *ret)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v > max)
		return usage("not a number in range");
	*ret = v;
	return 0;
}

static int keep_name(const char **list, size_t *n, const char *name)
{
	if (*n == MAX_NAMES - 1)
		return usage("too many names");
	list[(*n)++] = name;
	return 0;
}

static int open_starts(struct bench *b, const char *path)
{
	b->starts = fopen(path, "ae");
	return b->starts ? 0 : usage("--starts: the file cannot be opened");
}

static int parse_option(struct bench *b, int c)
{
	switch (c) {
	case 's':
		b->socket = optarg;
		return 0;
	case 'n':
		b->name = optarg;
		return 0;
	case 'N':
		return keep_name(b->namespaces, &b->nnamespaces, optarg);
	case 'h':
		return keep_name(b->handlers, &b->nhandlers, optarg);
	case 'c':
		return parse_number(optarg, 100000, &b->concurrency);
	case 'z':
		return parse_number(optarg, 3600000000, &b->sleep_us);
	case 't':
		return open_starts(b, optarg);
	default:
		return usage("unknown option");
	}
}

static int parse(int argc, char **argv, struct bench *b)
{
	static const struct option options[] = {
	    {"socket", 1, NULL, 's'},  {"name", 1, NULL, 'n'},        {"namespace", 1, NULL, 'N'},
	    {"handler", 1, NULL, 'h'}, {"concurrency", 1, NULL, 'c'}, {"sleep-us", 1, NULL, 'z'},
	    {"starts", 1, NULL, 't'},  {NULL, 0, NULL, 0}};
	int c, rc = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		rc = parse_option(b, c);
	/* Further words are handlers too, so that "--handler a b c" works. */
	while (rc == 0 && optind < argc)
		rc = keep_name(b->handlers, &b->nhandlers, argv[optind++]);
	return rc;
}

static void add_handlers(struct bench *b)
{
	for (size_t i = 0; i < sizeof builtin / sizeof *builtin; i++)
		tasker_worker_add(worker, builtin[i].name, builtin[i].fn, b);
	for (size_t i = 0; i < b->nhandlers; i++)
		tasker_worker_add(worker, b->handlers[i], noop, b); /* a builtin one stays what it is */
}

/* Finish what is due; returns how long to wait for the next one, or -1 if none sleeps. What has started is
 * written before, so that a kill loses no line of a handler that has long run. */
static int64_t wake_sleepers(struct bench *b)
{
	if (b->starts)
		fflush(b->starts);
	uint64_t now = b->first ? now_us() : 0;
	struct sleeper *s;
	while ((s = b->first) && s->due_us <= now) {
		b->first = s->next;
		if (!b->first)
			b->last = &b->first;
		tasker_step_finish(s->step, NULL);
		free(s);
	}
	return b->first ? (int64_t)(b->first->due_us - now) : -1;
}

static void report(void)
{
	struct tasker_worker_stats st;
	struct rusage ru;
	tasker_worker_stats(worker, &st);
	getrusage(RUSAGE_SELF, &ru);
	double cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e6 +
	             (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
	printf("{\"steps\":%llu,\"recorded\":%llu,\"refused\":%llu,\"connects\":%llu,\"cpu_us_per_step\":%."
	       "2f}\n",
	       (unsigned long long)st.steps, (unsigned long long)st.recorded, (unsigned long long)st.refused,
	       (unsigned long long)st.connects, st.steps ? cpu / (double)st.steps : 0);
}

int main(int argc, char **argv)
{
	struct bench b = {.concurrency = 200, .name = "bench"};
	struct tasker_error err = {0};
	int rc = 1;
	b.last = &b.first;
	if (parse(argc, argv, &b) < 0)
		return 2;
	const struct tasker_worker_options o = {.socket_path = b.socket,
	                                        .name = b.name,
	                                        .namespaces = b.nnamespaces ? b.namespaces : NULL,
	                                        .max_concurrency = (unsigned)b.concurrency,
	                                        .log = say};
	if (tasker_worker_new(&worker, &o, &err) < 0) {
		say(NULL, err.message);
		return 1;
	}
	add_handlers(&b);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	while (rc > 0)
		rc = tasker_worker_poll(worker, wake_sleepers(&b), &err);
	report();
	if (rc < 0)
		say(NULL, err.message);
	tasker_worker_free(worker);
	if (b.starts && fclose(b.starts) != 0)
		rc = -1;
	return rc < 0 ? 1 : 0;
}
