/* A worker whose handlers do, each, one thing that a handler may do: tests/integration/behaviour.py knows
 * them by name, and has the same of every language. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tasker.h>
#include <time.h>

static enum tasker_verdict trouble(tasker_step *s, const struct tasker_error *err)
{
	return tasker_step_refuse(s, err->code, err->message);
}

static enum tasker_verdict echo(void *arg, tasker_step *s)
{
	const tasker_value *v = tasker_step_value(s),
	                   *config = tasker_get(tasker_get(v, "handler"), "initialization");
	const tasker_value *dependencies = tasker_get(v, "dependencies");
	struct tasker_error err = {0};
	char *found = dependencies ? tasker_json(dependencies) : NULL;
	(void)arg;
	int rc = tasker_step_succeedf(
	    s, &err,
	    "{\"context\":%v,\"config\":%v,\"dependencies\":%j,\"attempt\":%lld,\"last\":%b,\"name\":%s}",
	    tasker_get(v, "context"), config, found ? found : "{}", (long long)tasker_step_attempt(s),
	    tasker_step_last_attempt(s), tasker_step_name(s));
	free(found);
	return rc < 0 ? trouble(s, &err) : TASKER_DONE;
}

static enum tasker_verdict refuse(void *arg, tasker_step *s)
{
	static const char *const lines[] = {"here", "there", NULL};
	const struct tasker_failure f = {.message = "no money",
	                                 .error_type = "PaymentError",
	                                 .error_code = "E1",
	                                 .permanent = true,
	                                 .status_code = 402,
	                                 .context = "{\"a\":[1]}",
	                                 .backtrace = lines};
	(void)arg;
	tasker_step_fail(s, &f, NULL);
	return TASKER_DONE;
}

static enum tasker_verdict retry(void *arg, tasker_step *s)
{
	(void)arg;
	if (tasker_step_attempt(s) == 1)
		return tasker_step_retry(s, "Busy", "come back",
		                         tasker_int(tasker_step_config(s, "after_ms"), 0));
	tasker_step_succeedf(s, NULL, "{\"attempt\":%lld}", (long long)tasker_step_attempt(s));
	return TASKER_DONE;
}

#define BRANCHES_MAX 8u

static enum tasker_verdict route(void *arg, tasker_step *s)
{
	const tasker_value *wanted = tasker_step_input(s, "branches");
	char names[BRANCHES_MAX][32];
	const char *list[BRANCHES_MAX + 1] = {NULL};
	struct tasker_error err = {0};
	size_t n = tasker_count(wanted);
	(void)arg;
	for (size_t i = 0; i < n && i < BRANCHES_MAX; i++) {
		tasker_copy(tasker_item(wanted, i), names[i], sizeof names[i]);
		list[i] = names[i];
	}
	int rc = n == 0 ? tasker_step_skip_branches(s, "nothing to do", &err)
	                : tasker_step_route(s, list, "{\"why\":\"asked\"}", &err);
	return rc < 0 ? trouble(s, &err) : TASKER_DONE;
}

static enum tasker_verdict analyze(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	(void)arg;
	if (tasker_step_batches(s, "work", tasker_int(tasker_step_input(s, "rows"), 0), 10, &err) < 0)
		return trouble(s, &err);
	return TASKER_DONE;
}

/* Four rows at a time, giving the step back in between. */
static enum tasker_verdict work(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	struct tasker_batch b;
	(void)arg;
	if (tasker_step_batch(s, &b, &err) < 0)
		return trouble(s, &err);
	int64_t at = tasker_int(tasker_step_checkpoint(s, "cursor"), b.start);
	int64_t upto = at + 4 < b.end ? at + 4 : b.end;
	const struct tasker_batch_counts done = {.processed = upto - b.start};
	char cursor[24];
	snprintf(cursor, sizeof cursor, "%lld", (long long)upto);
	int rc = b.no_op        ? tasker_step_succeed(s, "{\"no_op\":true}", &err)
	         : upto < b.end ? tasker_step_yield(s, cursor, done.processed, NULL, &err)
	                        : tasker_step_batch_done(s, &done, &err);
	return rc < 0 ? trouble(s, &err) : TASKER_DONE;
}

static enum tasker_verdict sum(void *arg, tasker_step *s)
{
	struct tasker_batch_counts c;
	(void)arg;
	size_t workers = tasker_step_batch_totals(s, "work_", &c);
	tasker_step_succeedf(s, NULL, "{\"total\":%lld,\"workers\":%zu}", (long long)c.processed, workers);
	return TASKER_DONE;
}

static enum tasker_verdict save(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	(void)arg;
	if (tasker_step_attempt(s) > 1) {
		tasker_step_succeedf(s, NULL, "{\"cursor\":%v,\"items\":%v,\"sums\":%v}",
		                     tasker_step_checkpoint(s, "cursor"),
		                     tasker_step_checkpoint(s, "items_processed"),
		                     tasker_step_checkpoint(s, "accumulated_results"));
		return TASKER_DONE;
	}
	if (tasker_step_save(s, "{\"at\":7}", 7, "{\"sum\":21}", &err) < 0)
		return trouble(s, &err);
	return tasker_step_retry(s, "Busy", "once more", 0);
}

static void pause_ms(long ms)
{
	const struct timespec ts = {.tv_nsec = ms * 1000000};
	nanosleep(&ts, NULL);
}

/* Until it is told to stop. */
static enum tasker_verdict wait_for_cancel(void *arg, tasker_step *s)
{
	(void)arg;
	tasker_step_log(s, "info", "waiting to be cancelled", NULL);
	while (!tasker_step_cancelled(s))
		pause_ms(5);
	tasker_step_log(s, "info", "was cancelled", NULL);
	return tasker_step_retry(s, "Cancelled", "stopped when asked to", 0);
}

static volatile int forever = 1;

static enum tasker_verdict hang(void *arg, tasker_step *s)
{
	(void)arg;
	(void)s;
	while (forever)
		pause_ms(100);
	return TASKER_DONE;
}

static enum tasker_verdict event(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	(void)arg;
	if (tasker_step_event(s, "made", "{\"custom\":1}", "{\"by\":\"handler\"}", &err) < 0 ||
	    tasker_step_event_skip(s, "left_out", &err) < 0)
		return trouble(s, &err);
	tasker_step_succeed(s, "{\"n\":7}", NULL);
	return TASKER_DONE;
}

static enum tasker_verdict tell(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	(void)arg;
	if (tasker_step_heartbeat(s, "{\"half\":true}", &err) < 0 ||
	    tasker_step_logf(s, "warn", "%d lines", 2) < 0)
		return trouble(s, &err);
	return TASKER_DONE;
}

static enum tasker_verdict huge(void *arg, tasker_step *s)
{
	size_t n = (size_t)tasker_int(tasker_step_config(s, "size"), 0);
	struct tasker_error err = {0};
	char *text = malloc(n + 1);
	(void)arg;
	if (!text)
		return tasker_step_retry(s, "OutOfMemory", "out of memory", 0);
	memset(text, 'x', n);
	text[n] = '\0';
	int rc = tasker_step_succeedf(s, &err, "{\"text\":%s}", text);
	free(text);
	return rc < 0 ? trouble(s, &err) : TASKER_DONE;
}

static enum tasker_verdict not_a_number(void *arg, tasker_step *s)
{
	struct tasker_error err = {0};
	(void)arg;
	if (tasker_step_succeed(s, "{\"x\":NaN}", &err) < 0)
		return tasker_step_refuse(s, "serialization_error", err.message);
	return TASKER_DONE;
}

static enum tasker_verdict garbage(void *arg, tasker_step *s)
{
	(void)arg;
	(void)s;
	fputs("\xff\xfe garbage {]", stdout);
	fflush(stdout);
	return TASKER_DONE;
}

static enum tasker_verdict crash(void *arg, tasker_step *s)
{
	(void)arg;
	if (tasker_step_attempt(s) == 1) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	return TASKER_DONE;
}

static void *finish_later(void *arg)
{
	tasker_step *s = arg;
	tasker_step_succeed(s, "{\"by\":\"another thread\"}", NULL);
	tasker_step_finish(s, NULL);
	return NULL;
}

static enum tasker_verdict defer(void *arg, tasker_step *s)
{
	pthread_t thread;
	(void)arg;
	if (pthread_create(&thread, NULL, finish_later, s) != 0)
		return tasker_step_retry(s, "NoThread", "no thread", 0);
	pthread_detach(thread);
	return TASKER_DEFERRED;
}

static const struct tasker_handler handlers[] = {
    {"b.echo", echo, NULL},   {"b.refuse", refuse, NULL},    {"b.retry", retry, NULL},
    {"b.route", route, NULL}, {"b.analyze", analyze, NULL},  {"b.work", work, NULL},
    {"b.sum", sum, NULL},     {"b.save", save, NULL},        {"b.wait", wait_for_cancel, NULL},
    {"b.hang", hang, NULL},   {"b.event", event, NULL},      {"b.tell", tell, NULL},
    {"b.huge", huge, NULL},   {"b.nan", not_a_number, NULL}, {"b.garbage", garbage, NULL},
    {"b.crash", crash, NULL}, {"b.defer", defer, NULL},      {NULL, NULL, NULL}};

int main(int argc, char **argv)
{
	const char *patience = getenv("BEHAVIOUR_ABANDON_MS");
	const struct tasker_program p = {
	    .handlers = handlers,
	    .options = {.name = "behaviour",
	                .abandon_after_ms = patience ? (int)strtol(patience, NULL, 10) : 0}};
	return tasker_main(argc, argv, &p);
}
