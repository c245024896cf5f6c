/* The calls for tests: `try`, `run`, `start`, `abort`. Prints what comes of them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tasker.h>

static enum tasker_verdict look(void *arg, tasker_step *s)
{
	char *load = NULL;
	(void)arg;
	tasker_step_heartbeat(s, "{\"half\":true}", NULL);
	tasker_step_dependency(s, "load", &load, NULL);
	tasker_step_succeedf(s, NULL, "{\"name\":%s,\"attempt\":%lld,\"context\":%v,\"limit\":%v,\"load\":%j}",
	                     tasker_step_name(s), (long long)tasker_step_attempt(s), tasker_step_input(s, "n"),
	                     tasker_step_config(s, "limit"), load);
	free(load);
	return TASKER_DONE;
}

static enum tasker_verdict refuse(void *arg, tasker_step *s)
{
	(void)arg;
	return tasker_step_refuse(s, "E", "no");
}

static void *finish(void *step)
{
	tasker_step_finish(step, NULL);
	return NULL;
}

static enum tasker_verdict defer(void *arg, tasker_step *s)
{
	pthread_t thread;
	(void)arg;
	if (pthread_create(&thread, NULL, finish, s) != 0)
		return TASKER_DONE;
	pthread_detach(thread);
	return TASKER_DEFERRED;
}

static void try(tasker_handler_fn *fn, const char *step)
{
	struct tasker_error err = {0};
	tasker_answer *a = NULL;
	int rc = tasker_try(fn, NULL, step, &a, &err);
	char *json = tasker_json(tasker_answer_value(a));
	printf("%d %s\n", rc, rc < 0 ? err.code : json);
	free(json);
	tasker_answer_free(a);
}

static int tries(void)
{
	try(look, NULL);
	try(look, "{\"step\":\"s\",\"attempt\":3,\"context\":{\"n\":7},\"handler\":{\"initialization\":{\"limit\":9}},"
	          "\"dependencies\":{\"load\":{\"a\":1}}}");
	try(refuse, "{}");
	try(defer, "{}");
	try(look, "[]");
	try(look, "{");
	return 0;
}

#define TEMPLATE(fields) "{\"name\":\"one\",\"namespace_name\":\"test\",\"version\":\"1.0.0\"," fields "}"
static const char one[] =
    TEMPLATE("\"steps\":[{\"name\":\"only\",\"handler\":{\"callable\":\"refuse\"}}]");

static void run(tasker_embedded *e, const char *source, const struct tasker_handler *handlers)
{
	struct tasker_error err = {0};
	tasker_answer *task = NULL;
	char state[40], message[80];
	int rc = tasker_embedded_run(e, source, NULL, handlers, &task, &err);
	const tasker_value *v = tasker_answer_value(task), *step = tasker_task_find(v, "only");
	tasker_copy(tasker_get(v, "state"), state, sizeof state);
	tasker_copy(tasker_get(tasker_get(step, "error"), "message"), message, sizeof message);
	if (rc < 0)
		printf("%d %s\n", rc, err.code);
	else
		printf("%s %s%s\n", state, message, tasker_task_find(v, "nobody") ? " and nobody" : "");
	tasker_answer_free(task);
}

int main(int argc, char **argv)
{
	static const struct tasker_handler handlers[] = {{"refuse", refuse, NULL}, {NULL, NULL, NULL}};
	static const struct tasker_handler twice[] = {
	    {"refuse", refuse, NULL}, {"refuse", refuse, NULL}, {NULL, NULL, NULL}};
	struct tasker_error err = {0};
	tasker_embedded *e = NULL;
	if (argc < 2 || strcmp(argv[1], "try") == 0)
		return tries();
	if (tasker_embedded_start(&e, NULL, &err) < 0) {
		printf("%s: %s\n", err.code, err.message);
		return 1;
	}
	if (strcmp(argv[1], "abort") == 0)
		abort();
	run(e, one, handlers);
	run(e, TEMPLATE("\"steps\":7"), handlers);
	run(e, one, twice);
	return tasker_embedded_stop(e) != NULL;
}
