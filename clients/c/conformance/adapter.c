/* The adapter of the C client for protocol/conformance. */
#include "clients/c/conformance/adapter.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tasker.h>
#include <time.h>
#include <unistd.h>

/* ---- ledger and gates ---- */

static void append(char *line)
{
	const char *path = getenv("CONFORMANCE_LEDGER");
	int fd = path && line ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
	size_t n = line ? strlen(line) : 0;
	if (fd >= 0) {
		line[n] = '\n'; /* in one write; the end of the text is not needed any more */
		ssize_t ignored = write(fd, line, n + 1);
		(void)ignored;
		close(fd);
	}
	free(line);
}

static void note(const char *event, const char *handler, const tasker_step *s)
{
	append(tasker_jsonf("{\"event\":%s,\"handler\":%s,\"step_uuid\":%s,\"attempt\":%lld,\"pid\":%d}",
	                    event, handler, tasker_step_uuid(s), (long long)tasker_step_attempt(s),
	                    (int)getpid()));
}

static void gate_path(const tasker_step *s, char *path, size_t size)
{
	char name[64];
	const char *dir = getenv("CONFORMANCE_GATES");
	tasker_copy(tasker_step_config(s, "gate"), name, sizeof name);
	snprintf(path, size, "%s/%s", dir ? dir : ".", name);
}

static void pause_ms(long ms)
{
	const struct timespec ts = {.tv_nsec = ms * 1000000};
	nanosleep(&ts, NULL);
}

/* ---- handlers ---- */

/* Each is run with its name noted in the ledger, but for `quiet` ones. */
typedef int body_fn(tasker_step *s, struct tasker_error *err);
struct body {
	const char *name;
	body_fn *fn;
	bool quiet;
};

static int64_t config_int(const tasker_step *s, const char *key)
{
	return tasker_int(tasker_step_config(s, key), 0);
}

static char *config_text(const tasker_step *s, const char *key)
{
	char text[512];
	return tasker_copy(tasker_step_config(s, key), text, sizeof text) > 0 ? strdup(text) : NULL;
}

/* {each dependency: itself, or the length of its blob}, as JSON. Names come with the step, or are the
 * template's. */
static char *dependencies(tasker_step *s)
{
	const tasker_value *all = tasker_get(tasker_step_value(s), "dependencies");
	return all ? tasker_json(all) : strdup("{}");
}

static int echo(tasker_step *s, struct tasker_error *err)
{
	const tasker_value *v = tasker_step_value(s),
	                   *config = tasker_get(tasker_get(v, "handler"), "initialization");
	const tasker_value *inputs = tasker_get(v, "inputs");
	char *results = dependencies(s);
	int rc = tasker_step_succeedf(
	    s, err,
	    "{\"context\":%v,\"config\":%v,\"inputs\":%v,\"results\":%j,\"attempt\":%lld,"
	    "\"max_attempts\":%v,\"task_uuid\":%s,\"step_uuid\":%s}",
	    tasker_get(v, "context"), config, inputs ? inputs : config, results,
	    (long long)tasker_step_attempt(s), tasker_get(v, "max_attempts"), tasker_step_task_uuid(s),
	    tasker_step_uuid(s));
	free(results);
	return rc;
}

static int value(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_succeedf(s, err, "%v", tasker_step_config(s, "value"));
}

static int nothing(tasker_step *s, struct tasker_error *err)
{
	(void)s;
	(void)err;
	return 0;
}

static int fail(tasker_step *s, struct tasker_error *err)
{
	char *message = config_text(s, "message"), *type = config_text(s, "error_type"),
	     *code = config_text(s, "error_code");
	const struct tasker_failure f = {.message = message,
	                                 .error_type = type,
	                                 .error_code = code,
	                                 .permanent = !tasker_bool(tasker_step_config(s, "retryable"), true)};
	int rc = tasker_step_fail(s, &f, err);
	free(message);
	free(type);
	free(code);
	return rc;
}

static int error_permanent(tasker_step *s, struct tasker_error *err)
{
	char *message = config_text(s, "message"), *code = config_text(s, "error_code");
	const struct tasker_failure f = {
	    .message = message, .error_type = "permanent_error", .error_code = code, .permanent = true};
	int rc = tasker_step_fail(s, &f, err);
	free(message);
	free(code);
	return rc;
}

static int again(tasker_step *s, const char *message, int64_t after_ms)
{
	tasker_step_retry(s, "retryable_error", message, after_ms);
	return 0;
}

static int error_retryable(tasker_step *s, struct tasker_error *err)
{
	char *message = config_text(s, "message");
	(void)err;
	again(s, message, 0);
	free(message);
	return 0;
}

static int attempt_result(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_succeedf(s, err, "{\"attempt\":%lld}", (long long)tasker_step_attempt(s));
}

static int retry_after(tasker_step *s, struct tasker_error *err)
{
	double seconds = tasker_double(tasker_step_config(s, "seconds"), 0);
	return tasker_step_attempt(s) == 1 ? again(s, "later", (int64_t)(seconds * 1000))
	                                   : attempt_result(s, err);
}

static int flaky(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_attempt(s) <= config_int(s, "failures") ? again(s, "not yet", 0)
	                                                           : attempt_result(s, err);
}

static int wait_for_gate(tasker_step *s, struct tasker_error *err)
{
	char path[300];
	struct stat st;
	gate_path(s, path, sizeof path);
	while (stat(path, &st) < 0)
		pause_ms(10);
	return tasker_step_succeed(s, "{\"waited\":true}", err);
}

static int open_gate(tasker_step *s, struct tasker_error *err)
{
	char path[300];
	gate_path(s, path, sizeof path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd >= 0)
		close(fd);
	return tasker_step_succeedf(s, err, "{\"opened\":%v}", tasker_step_config(s, "gate"));
}

static int sleep_until_cancelled(tasker_step *s, struct tasker_error *err)
{
	(void)err;
	while (!tasker_step_cancelled(s))
		pause_ms(5);
	note("cancelled", "conf.sleep_until_cancelled", s);
	return again(s, "stopped when asked to", 0);
}

static volatile int forever = 1;

static int hang(tasker_step *s, struct tasker_error *err)
{
	(void)s;
	(void)err;
	while (forever)
		pause_ms(100);
	return 0;
}

static int64_t done_so_far(const tasker_step *s)
{
	return tasker_int(tasker_step_checkpoint(s, "cursor"), 0);
}

static int checkpoint(tasker_step *s, struct tasker_error *err)
{
	int64_t total = config_int(s, "total"), at = done_so_far(s) + config_int(s, "every");
	int64_t visits =
	    tasker_int(tasker_get(tasker_step_checkpoint(s, "accumulated_results"), "visits"), 0) + 1;
	char cursor[24], sums[48];
	snprintf(cursor, sizeof cursor, "%lld", (long long)at);
	snprintf(sums, sizeof sums, "{\"visits\":%lld}", (long long)visits);
	if (at < total)
		return tasker_step_yield(s, cursor, at, sums, err);
	return tasker_step_succeedf(s, err, "{\"items\":%lld,\"visits\":%lld}", (long long)total,
	                            (long long)visits);
}

static int save(tasker_step *s, struct tasker_error *err)
{
	int64_t total = config_int(s, "total"), from = done_so_far(s), at = from;
	while ((at += config_int(s, "every")) < total) {
		char cursor[24];
		snprintf(cursor, sizeof cursor, "%lld", (long long)at);
		int rc = tasker_step_save(s, cursor, at, NULL, err);
		if (rc < 0 || tasker_step_attempt(s) == 1)
			return rc < 0 ? rc : again(s, "after the first", 0);
	}
	return tasker_step_succeedf(s, err, "{\"items\":%lld,\"from\":%lld}", (long long)total,
	                            (long long)from);
}

#define STEPS_MAX 16u

static int decision(tasker_step *s, struct tasker_error *err)
{
	const tasker_value *wanted = tasker_step_config(s, "steps");
	static const char none[] = "none";
	char names[STEPS_MAX][64];
	const char *list[STEPS_MAX + 1] = {NULL};
	size_t n = tasker_count(wanted) < STEPS_MAX ? tasker_count(wanted) : STEPS_MAX;
	for (size_t i = 0; i < n; i++) {
		tasker_copy(tasker_item(wanted, i), names[i], sizeof names[i]);
		list[i] = names[i];
	}
	return n == 0 ? tasker_step_skip_branches(s, none, err) : tasker_step_route(s, list, NULL, err);
}

static int analyze(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_batches(s, "work", config_int(s, "total"), config_int(s, "size"), err);
}

static int batch(tasker_step *s, struct tasker_error *err)
{
	struct tasker_batch b;
	int rc = tasker_step_batch(s, &b, err);
	if (rc < 0 || b.no_op)
		return rc;
	return tasker_step_succeedf(s, err, "{\"items_processed\":%lld,\"start\":%lld,\"end\":%lld}",
	                            (long long)(b.end - b.start), (long long)b.start, (long long)b.end);
}

static int aggregate(tasker_step *s, struct tasker_error *err)
{
	struct tasker_batch_counts all;
	char *prefix = config_text(s, "prefix");
	size_t workers = tasker_step_batch_totals(s, prefix ? prefix : "", &all);
	free(prefix);
	return tasker_step_succeedf(s, err, "{\"total\":%lld,\"worker_count\":%zu}", (long long)all.processed,
	                            workers);
}

/* Events are made where their step is: what a publisher would do, for those that the template gives to
 * conf.publisher. */
static int publish(tasker_step *s, struct tasker_error *err)
{
	const tasker_value *declared = tasker_get(tasker_step_value(s), "publishes_events");
	int64_t amount = config_int(s, "amount");
	int rc = 0;
	for (size_t i = 0; i < tasker_count(declared) && rc == 0; i++) {
		const tasker_value *d = tasker_item(declared, i);
		char name[128], publisher[64], payload[96];
		tasker_copy(tasker_get(d, "name"), name, sizeof name);
		if (tasker_copy(tasker_get(d, "publisher"), publisher, sizeof publisher) == 0)
			continue;
		snprintf(payload, sizeof payload, "{\"amount\":%lld,\"by\":\"%s\"}", (long long)amount,
		         publisher);
		rc = amount < 0 || amount == 13 ? tasker_step_event_skip(s, name, err)
		                : tasker_step_event(s, name, payload, "{\"note\":\"conf\"}", err);
	}
	return rc < 0 ? rc : tasker_step_succeedf(s, err, "{\"amount\":%lld}", (long long)amount);
}

static int log_line(tasker_step *s, struct tasker_error *err)
{
	char *level = config_text(s, "level"), *message = config_text(s, "message");
	int rc = tasker_step_log(s, level ? level : "info", message ? message : "", err);
	free(level);
	free(message);
	return rc < 0 ? rc : tasker_step_succeed(s, "{\"logged\":true}", err);
}

/* A byte that no UTF-8 has, in the place that is named. */
static int broken_text(tasker_step *s, struct tasker_error *err)
{
	const struct tasker_failure failure = {.message = "broken: \xff"};
	char *in = config_text(s, "in");
	int rc = 0;
	if (in && strcmp(in, "error") == 0) {
		rc = tasker_step_fail(s, &failure, err);
	} else if (in && strcmp(in, "log") == 0) {
		rc = tasker_step_log(s, "warn", "broken: \xff", err);
		if (rc == 0)
			rc = tasker_step_succeed(s, "{\"logged\":true}", err);
	} else {
		rc = tasker_step_succeed(s, "{\"value\":\"broken: \xff\"}", err);
	}
	free(in);
	return rc;
}

static int progress(tasker_step *s, struct tasker_error *err)
{
	char json[48];
	snprintf(json, sizeof json, "{\"n\":%lld}", (long long)config_int(s, "n"));
	int rc = tasker_step_heartbeat(s, json, err);
	return rc < 0 ? rc : tasker_step_succeed(s, json, err);
}

/* Some come with the step, the others are asked for. */
static int sizes(tasker_step *s, struct tasker_error *err)
{
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	size_t found[5];
	for (size_t i = 0; i < 5; i++) {
		tasker_answer *a = NULL;
		char *json = NULL;
		int rc = tasker_step_dependency(s, names[i], &json, err);
		if (rc == 0)
			rc = tasker_parse(json, &a, err);
		free(json);
		if (rc < 0)
			return rc;
		tasker_text(tasker_get(tasker_answer_value(a), "blob"), &found[i]);
		tasker_answer_free(a);
	}
	return tasker_step_succeedf(s, err, "{\"a\":%zu,\"b\":%zu,\"c\":%zu,\"d\":%zu,\"e\":%zu}", found[0],
	                            found[1], found[2], found[3], found[4]);
}

static int uuids(tasker_step *s, struct tasker_error *err)
{
	const tasker_value *names = tasker_step_config(s, "names");
	char json[1024] = "{", uuid[37], name[64];
	size_t at = 1, n = tasker_count(names);
	for (size_t i = 0; i < n; i++) {
		tasker_copy(tasker_item(names, i), name, sizeof name);
		int rc = tasker_step_dependency_uuid(s, name, uuid, err);
		if (rc < 0)
			return rc;
		at += (size_t)snprintf(json + at, sizeof json - at, "%s\"%s\":\"%s\"", i ? "," : "", name, uuid);
	}
	snprintf(json + at, sizeof json - at, "}");
	return tasker_step_succeed(s, json, err);
}

/* As a program would that writes numbers with printf. */
static int number(tasker_step *s, double v, struct tasker_error *err)
{
	char json[64];
	snprintf(json, sizeof json, "{\"value\":%g}", v);
	return tasker_step_succeed(s, json, err);
}

static int not_a_number(tasker_step *s, struct tasker_error *err)
{
	return number(s, (double)NAN, err);
}

static int infinite(tasker_step *s, struct tasker_error *err)
{
	return number(s, HUGE_VAL, err);
}

static int nul(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_succeed(s, "{\"value\":\"a\\u0000b\"}", err);
}

static int wide(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_succeedf(s, err, "{\"value\":%lld}", 9007199254740993LL);
}

/* {"key": head head ... tail tail ...} */
static int repeated(tasker_step *s, const char *key, char head, char tail, size_t n, struct tasker_error *err)
{
	char *json = malloc(2 * n + 64);
	if (!json)
		return again(s, "out of memory", 0);
	size_t at = (size_t)snprintf(json, 64, "{\"%s\":", key);
	if (!tail)
		json[at++] = '"';
	memset(json + at, head, n);
	at += n;
	memset(json + at, tail ? tail : '"', tail ? n : 1);
	at += tail ? n : 1;
	memcpy(json + at, "}", 2);
	int rc = tasker_step_succeed(s, json, err);
	free(json);
	return rc;
}

static int deep(tasker_step *s, struct tasker_error *err)
{
	return repeated(s, "value", '[', ']', (size_t)config_int(s, "depth"), err);
}

static int huge(tasker_step *s, struct tasker_error *err)
{
	return repeated(s, "blob", 'x', '\0', (size_t)config_int(s, "bytes"), err);
}

static int survived(tasker_step *s, struct tasker_error *err)
{
	return tasker_step_succeed(s, "{\"survived\":true}", err);
}

static int crash(tasker_step *s, struct tasker_error *err)
{
	if (tasker_step_attempt(s) <= config_int(s, "attempts")) {
		signal(SIGSEGV, SIG_DFL);
		kill(getpid(), SIGSEGV);
		pause_ms(900);
	}
	return survived(s, err);
}

static int exit_with_3(tasker_step *s, struct tasker_error *err)
{
	if (tasker_step_attempt(s) <= config_int(s, "attempts"))
		_exit(3);
	return survived(s, err);
}

static int garbage(tasker_step *s, struct tasker_error *err)
{
	int64_t n = config_int(s, "bytes");
	unsigned random = 1;
	for (int64_t i = 0; i < n; i++) {
		random = random * 1103515245u + 12345u;
		fputc((int)(random >> 16 & 0xFF), stdout);
		fputc((int)(random >> 16 & 0xFF), stderr);
	}
	fflush(stdout);
	return tasker_step_succeedf(s, err, "{\"printed\":%lld}", (long long)n);
}

static const struct body bodies[] = {{"conf.echo", echo, false},
                                     {"conf.value", value, false},
                                     {"conf.nothing", nothing, true},
                                     {"conf.fail", fail, false},
                                     {"conf.error_retryable", error_retryable, false},
                                     {"conf.error_permanent", error_permanent, false},
                                     {"conf.retry_after", retry_after, false},
                                     {"conf.flaky", flaky, false},
                                     {"conf.wait", wait_for_gate, false},
                                     {"conf.open", open_gate, false},
                                     {"conf.sleep_until_cancelled", sleep_until_cancelled, false},
                                     {"conf.hang", hang, false},
                                     {"conf.checkpoint", checkpoint, false},
                                     {"conf.save", save, false},
                                     {"conf.decision", decision, false},
                                     {"conf.analyze", analyze, false},
                                     {"conf.batch", batch, false},
                                     {"conf.aggregate", aggregate, false},
                                     {"conf.event", publish, false},
                                     {"conf.log", log_line, false},
                                     {"conf.progress", progress, false},
                                     {"conf.sizes", sizes, false},
                                     {"conf.uuids", uuids, false},
                                     {"conf.nan", not_a_number, false},
                                     {"conf.infinite", infinite, false},
                                     {"conf.nul", nul, false},
                                     {"conf.broken_text", broken_text, false},
                                     {"conf.deep", deep, false},
                                     {"conf.wide", wide, false},
                                     {"conf.huge", huge, false},
                                     {"conf.crash", crash, false},
                                     {"conf.exit", exit_with_3, false},
                                     {"conf.garbage_stdout", garbage, false}};
#define N_BODIES (sizeof bodies / sizeof *bodies)

static enum tasker_verdict run_body(void *arg, tasker_step *s)
{
	const struct body *b = arg;
	struct tasker_error err = {0};
	if (!b->quiet)
		note("begin", b->name, s);
	if (b->fn(s, &err) < 0)
		return tasker_step_refuse(s, "serialization_error", err.message);
	return TASKER_DONE;
}

/* ---- worker ---- */

struct subscription {
	const char *socket, *pattern;
};

static void on_event(void *arg, const char *method, const tasker_value *params)
{
	const tasker_value *events = tasker_get(params, "events");
	(void)arg;
	for (size_t i = 0; strcmp(method, "event.message") == 0 && i < tasker_count(events); i++) {
		const tasker_value *e = tasker_item(events, i);
		append(tasker_jsonf("{\"event\":\"event\",\"name\":%v,\"payload\":%v,\"pid\":%d}",
		                    tasker_get(e, "event_name"),
		                    tasker_get(tasker_get(e, "payload"), "payload"), (int)getpid()));
	}
}

static void *listen_to_events(void *arg)
{
	const struct subscription *sub = arg;
	const struct tasker_options o = {.socket_path = sub->socket};
	const char *const patterns[] = {sub->pattern, NULL};
	tasker *t = NULL;
	if (tasker_connect(&t, &o, NULL) < 0)
		return NULL;
	tasker_on_notification(t, on_event, NULL);
	if (tasker_event_subscribe(t, patterns, NULL, NULL) == 0)
		while (tasker_process(t, -1, NULL) >= 0)
			;
	tasker_close(t);
	return NULL;
}

/* The adapter's own options out of the command line; the rest is for tasker_main. */
static const char *take_option(int *argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < *argc; i++) {
		if (strcmp(argv[i], name) != 0)
			continue;
		const char *value_of = argv[i + 1];
		memmove(&argv[i], &argv[i + 2], (size_t)(*argc - i - 1) * sizeof *argv);
		*argc -= 2;
		return value_of;
	}
	return NULL;
}

static const char *peek_option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	return NULL;
}

static struct tasker_handler handlers[N_BODIES + 1];

static void make_handlers(void)
{
	for (size_t i = 0; i < N_BODIES; i++) {
		void *arg;
		const struct body *b = &bodies[i];
		memcpy(&arg, &b, sizeof arg);
		handlers[i] = (struct tasker_handler){.callable = b->name, .fn = run_body, .arg = arg};
	}
}

static int worker(int argc, char **argv)
{
	static struct subscription sub;
	const char *n = take_option(&argc, argv, "--concurrency");
	unsigned concurrency = n ? (unsigned)strtoul(n, NULL, 10) : 1;
	const struct tasker_program p = {.handlers = handlers,
	                                 .options = {.threads = concurrency, .max_concurrency = concurrency}};
	pthread_t thread;
	sub.pattern = take_option(&argc, argv, "--events");
	sub.socket = peek_option(argc, argv, "--socket");
	if (sub.pattern && pthread_create(&thread, NULL, listen_to_events, &sub) == 0)
		pthread_detach(thread);
	return tasker_main(argc, argv, &p);
}

static int replay(int argc, char **argv)
{
	static char option[] = "--replay";
	char *args[] = {argv[0], argv[1], argv[2], option, argv[argc - 1], NULL};
	const struct tasker_program p = {.handlers = handlers};
	return tasker_main(5, args, &p);
}

int main(int argc, char **argv)
{
	make_handlers();
	if (argc < 4)
		return 2;
	/* COMMAND --socket PATH ... as the library's own command line is without the first word. */
	const char *command = argv[1];
	argv[1] = argv[0];
	if (strcmp(command, "worker") == 0)
		return worker(argc - 1, argv + 1);
	if (strcmp(command, "client") == 0)
		return run_client(argv[3]);
	return strcmp(command, "replay") == 0 ? replay(argc - 1, argv + 1) : 2;
}
