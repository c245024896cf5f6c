/* A worker and a client in C.
 *
 *   greeter worker           runs the step of greeter.yaml until it is interrupted
 *   greeter submit NAME      creates a task, waits for it, prints the greeting
 *
 * Register the template first: taskerctl template apply greeter.yaml */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tasker.h>

static tasker_worker *worker;

static void on_signal(int sig)
{
	(void)sig;
	tasker_worker_stop(worker);
}

static void print_line(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "greeter: %s\n", line);
}

static enum tasker_verdict greet(void *arg, tasker_step *step)
{
	const tasker_value *context = tasker_get(tasker_step_value(step), "context");
	char name[64], json[128];
	(void)arg;
	size_t n = tasker_copy(tasker_get(context, "name"), name, sizeof name);
	if (n == 0 || n >= sizeof name || strpbrk(name, "\"\\")) {
		const struct tasker_failure f = {.message = "a short plain name is needed",
		                                 .permanent = true};
		tasker_step_fail(step, &f, NULL);
		return TASKER_DONE;
	}
	snprintf(json, sizeof json, "{\"greeting\":\"Hello, %s\"}", name);
	tasker_step_succeed(step, json, NULL);
	return TASKER_DONE;
}

static int run_worker(void)
{
	struct tasker_error err = {0};
	const struct tasker_worker_options o = {.name = "greeter", .max_concurrency = 20, .log = print_line};
	int rc = tasker_worker_new(&worker, &o, &err);
	if (rc == 0) {
		tasker_worker_add(worker, "hello.greet", greet, NULL);
		signal(SIGINT, on_signal);
		signal(SIGTERM, on_signal);
		rc = tasker_worker_run(worker, &err);
		tasker_worker_free(worker);
	}
	if (rc < 0)
		fprintf(stderr, "greeter: %s: %s\n", err.code, err.message);
	return rc < 0;
}

/* The answer's task_uuid into `request`, as the parameters of the next call. */
static void keep_uuid(char *request, size_t size, const char *answer)
{
	const char *uuid = strstr(answer, "\"task_uuid\":\"");
	snprintf(request, size, "{\"task_uuid\":\"%.36s\"}", uuid ? uuid + 13 : "");
}

static int submit(const char *name)
{
	struct tasker_error err = {0};
	tasker *t = NULL;
	char request[256], *answer = NULL;
	snprintf(request, sizeof request,
	         "{\"namespace\":\"hello\",\"name\":\"greeter\",\"context\":{\"name\":\"%.60s\"}}", name);
	int rc = tasker_connect(&t, NULL, &err);
	if (rc == 0)
		rc = tasker_call_json(t, "task.create", request, 10000, &answer, &err);
	if (rc == 0) {
		keep_uuid(request, sizeof request, answer);
		free(answer);
		rc = tasker_call_json(t, "task.wait", request, -1, &answer, &err);
	}
	if (rc == 0) {
		free(answer);
		rc = tasker_call_json(t, "task.get", request, 10000, &answer, &err);
	}
	if (rc == 0) {
		printf("%s\n", answer);
		free(answer);
	} else {
		fprintf(stderr, "greeter: %s: %s\n", err.code, err.message);
	}
	tasker_close(t);
	return rc < 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "worker") == 0)
		return run_worker();
	if (argc == 3 && strcmp(argv[1], "submit") == 0)
		return submit(argv[2]);
	fprintf(stderr, "usage: greeter worker | greeter submit NAME\n");
	return 2;
}
