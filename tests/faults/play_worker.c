/* A worker in C for random workflows: t.play as tests/integration/handlers/play.py and outcomes.py have it. What a step
 * does stands in its task's context, by step and attempt; each execution first appends a line to the ledger. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/c/tasker.h"

static tasker_worker *worker;

static void on_signal(int sig)
{
	(void)sig;
	tasker_worker_stop(worker);
}

struct out {
	char text[8192];
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct out *o, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(o->text + o->n, sizeof o->text - o->n, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof o->text - o->n)
		abort();
	o->n += (size_t)n;
}

/* A text of the step's, which has no end but its length, copied. Not by strndup(), of which ASan wants a text that ends
 * (strict_string_checks). */
static char *text(const tasker_value *v, const char *fallback)
{
	size_t n = 0;
	const char *s = tasker_text(v, &n);
	char *copy = s ? calloc(1, n + 1) : strdup(fallback);
	if (!copy)
		abort();
	if (s)
		memcpy(copy, s, n);
	return copy;
}

static const char *begin(const char *task, const char *name, long attempt)
{
	char line[256];
	int n = snprintf(line, sizeof line, "%s %s %ld %d\n", task, name, attempt, (int)getpid());
	int fd = open(getenv("TASKERD_TEST_LEDGER"), O_WRONLY | O_APPEND | O_CREAT, 0644);
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		abort();
	close(fd);
	snprintf(line, sizeof line, "%s/epoch-%s", getenv("TASKERD_TEST_GATES"), task);
	return access(line, F_OK) == 0 ? "1" : "0";
}

/* The name of a step by its number in the template. */
static void put_name(struct out *o, const tasker_value *names, long no)
{
	char *name = text(tasker_item(names, (size_t)no), "nobody");
	put(o, "\"%s\"", name);
	free(name);
}

static void put_decision(struct out *o, const tasker_value *names, const char *numbers)
{
	put(o, "\"decision_point_outcome\":{\"type\":\"create_steps\",\"step_names\":[");
	for (char *end; *numbers; numbers = *end ? end + 1 : end) {
		put_name(o, names, strtol(numbers, &end, 10));
		put(o, *end ? "," : "");
	}
	put(o, "]}");
}

static void put_batches(struct out *o, const tasker_value *names, long worker_no, long n)
{
	put(o, "\"batch_processing_outcome\":{\"type\":\"create_batches\",\"worker_template_name\":");
	if (worker_no < 0)
		put(o, "\"nobody\"");
	else
		put_name(o, names, worker_no);
	put(o, ",\"worker_count\":%ld,\"total_items\":%ld,\"cursor_configs\":[", n, 10 * n);
	for (long k = 0; k < n; k++)
		put(o, "%s{\"batch_id\":\"%03ld\",\"start_cursor\":%ld,\"end_cursor\":%ld,\"batch_size\":10}",
		    k ? "," : "", k + 1, 10 * k, 10 * k + 10);
	put(o, "]}");
}

static void put_outcome(struct out *o, const char *word, const tasker_value *names)
{
	const char *colon = strchr(word, ':');
	char *end = NULL;
	long no = colon ? strtol(colon + 1, &end, 10) : -1;
	put(o, "{");
	if (strncmp(word, "names:", 6) == 0) {
		put_decision(o, names, word + 6);
	} else if (strcmp(word, "none") == 0) {
		put(o, "\"decision_point_outcome\":{\"type\":\"no_branches\"}");
	} else if (strncmp(word, "batches:", 8) == 0) {
		put_batches(o, names, no, strtol(end + 1, NULL, 10));
	} else if (strncmp(word, "nobatches:", 10) == 0) {
		put(o, "\"batch_processing_outcome\":{\"type\":\"no_batches\"");
		if (no >= 0) {
			put(o, ",\"worker_template_name\":");
			put_name(o, names, no);
		}
		put(o, "}");
	} else if (strcmp(word, "bad") == 0) {
		put(o, "\"decision_point_outcome\":{\"type\":\"create_steps\",\"step_names\":[\"nobody\"]},");
		put_batches(o, names, -1, 1);
	} else {
		put(o, "\"said\":\"%s\"", word);
	}
	put(o, "}");
}

static void act(tasker_step *step, const char *word, const tasker_value *v)
{
	struct tasker_failure f = {.message = "asked to fail", .error_type = "RetryableError"};
	struct out o = {.n = 0};
	bool fails = true;
	if (strcmp(word, "delay") == 0)
		f.retry_after_ms = 20;
	else if (strcmp(word, "perm") == 0)
		f = (struct tasker_failure){.message = "asked to fail for good",
		                            .error_type = "PermanentError",
		                            .permanent = true};
	else
		fails = strcmp(word, "retry") == 0;
	if (fails) {
		tasker_step_fail(step, &f, NULL);
	} else if (strcmp(word, "yield") == 0 && !tasker_get(v, "checkpoint")) {
		put(&o,
		    "{\"type\":\"checkpoint_yield\",\"cursor\":5,\"items_processed\":5,\"accumulated_results\":{\"pid\":%d}}",
		    (int)getpid());
		tasker_step_metadata(step, "{\"checkpoint_yield\":true,\"batch_worker\":true}", NULL);
		tasker_step_succeed(step, o.text, NULL);
	} else {
		put_outcome(&o, word, tasker_get(tasker_get(v, "context"), "names"));
		tasker_step_succeed(step, o.text, NULL);
	}
}

static enum tasker_verdict play(void *arg, tasker_step *step)
{
	(void)arg;
	const tasker_value *v = tasker_step_value(step);
	char *task = text(tasker_get(v, "task_uuid"), ""), *name = text(tasker_get(v, "step"), "");
	long attempt = (long)tasker_int(tasker_get(v, "attempt"), 1);
	const char *epoch = begin(task, name, attempt);
	const tasker_value *words = tasker_get(tasker_get(tasker_get(tasker_get(v, "context"), "do"), epoch), name);
	long n = (long)tasker_count(words);
	char *word = n > 0 ? text(tasker_item(words, (size_t)(attempt < n ? attempt : n) - 1), "ok") : strdup("ok");
	act(step, word, v);
	free(word);
	free(name);
	free(task);
	return TASKER_DONE;
}

static void say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "play_worker: %s\n", line);
}

int main(int argc, char **argv)
{
	struct tasker_error err = {0};
	if (argc != 4) {
		fprintf(stderr, "usage: play_worker SOCKET NAME CONCURRENCY\n");
		return 2;
	}
	const struct tasker_worker_options o = {.socket_path = argv[1],
	                                        .name = argv[2],
	                                        .max_concurrency = (unsigned)strtoul(argv[3], NULL, 10),
	                                        .namespaces = (const char *const[]){"t", NULL},
	                                        .log = say};
	int rc = tasker_worker_new(&worker, &o, &err);
	if (rc == 0)
		rc = tasker_worker_add(worker, "t.play", play, NULL);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGPIPE, SIG_IGN);
	if (rc == 0)
		rc = tasker_worker_run(worker, &err);
	if (rc < 0)
		fprintf(stderr, "play_worker: %s: %s\n", err.code, err.message);
	tasker_worker_free(worker);
	return rc < 0;
}
