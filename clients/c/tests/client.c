/* Every call of the client side once, against a running taskerd; prints what came back as JSON lines. The
 * test that runs it has registered the template `echo` (one step, handler b.echo) in namespace `t`, and
 * started a worker. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tasker.h>

static int failures;

static void check(const char *what, int rc, const struct tasker_error *err)
{
	if (rc >= 0)
		return;
	failures++;
	fprintf(stderr, "%s: %s: %s\n", what, err->code, err->message);
}

static void print(const char *what, char *json)
{
	printf("{\"%s\":%s}\n", what, json ? json : "null");
	free(json);
}

static void print_answer(const char *what, tasker_answer *a)
{
	print(what, tasker_json(tasker_answer_value(a)));
	tasker_answer_free(a);
}

static void tasks(tasker *t)
{
	static const char *const tags[] = {"one", "two", NULL};
	const struct tasker_task task = {.name = "echo",
	                                 .namespace_name = "t",
	                                 .context = "{\"a\":[1,2.5,\"\xc3\xa9\"]}",
	                                 .idempotency_key = "c-1",
	                                 .tags = tags,
	                                 .priority = 3,
	                                 .initiator = "test"};
	struct tasker_error err = {0};
	struct tasker_created made, again;
	struct tasker_settled end;
	tasker_answer *a = NULL;
	check("create", tasker_task_create(t, &task, &made, &err), &err);
	check("repeat", tasker_task_create(t, &task, &again, &err), &err);
	print("created", tasker_jsonf("[%b,%b,%b]", made.created, again.created,
	                              strcmp(made.task_uuid, again.task_uuid) == 0));
	check("wait", tasker_task_wait(t, made.task_uuid, 60000, &end, &err), &err);
	print("settled", tasker_jsonf("[%s,%b,%b]", end.state, end.settled, end.finished));
	check("get", tasker_task_get(t, made.task_uuid, true, &a, &err), &err);
	const tasker_value *step = tasker_item(tasker_get(tasker_answer_value(a), "steps"), 0);
	char uuid[40];
	tasker_copy(tasker_get(step, "step_uuid"), uuid, sizeof uuid);
	print_answer("task", a);
	a = NULL;
	check("step", tasker_task_step(t, uuid, true, &a, &err), &err);
	print_answer("step", a);
	const struct tasker_query q = {.namespace_name = "t", .tag = "two", .limit = 10};
	a = NULL;
	check("list", tasker_task_list(t, &q, &a, &err), &err);
	print("listed", tasker_jsonf("%zu", tasker_count(tasker_get(tasker_answer_value(a), "tasks"))));
	tasker_answer_free(a);
}

static void refusals(tasker *t)
{
	const struct tasker_task unknown = {.name = "nosuch", .namespace_name = "t"},
	                         bad = {.name = "echo", .context = "{1"};
	struct tasker_error err = {0};
	struct tasker_created made;
	int rc = tasker_task_create(t, &unknown, &made, &err);
	print("unknown", tasker_jsonf("[%d,%s]", rc, err.code));
	rc = tasker_task_create(t, &bad, &made, &err);
	print("bad", tasker_jsonf("[%d,%s,%s]", rc, err.code, err.path));
	rc = tasker_task_cancel(t, "00000000-0000-7000-8000-000000000000", NULL, NULL, &err);
	print("nobody", tasker_jsonf("[%d,%s]", rc, err.code));
}

#define MANY 1000u

static void many(tasker *t)
{
	static struct tasker_task all[MANY];
	static struct tasker_created made[MANY];
	struct tasker_error err = {0};
	size_t created = 0;
	for (size_t i = 0; i < MANY; i++)
		all[i] =
		    (struct tasker_task){.name = i % 100 == 7 ? "nosuch" : "echo", .namespace_name = "t"};
	all[42].context = "[1";
	int refused = tasker_task_create_many(t, all, MANY, made, &err);
	check("many", refused, &err);
	for (size_t i = 0; i < MANY; i++)
		created += made[i].task_uuid[0] != '\0';
	print("many", tasker_jsonf("[%d,%zu,%s,%s,%s]", refused, created, made[7].error.code,
	                           made[42].error.code, made[42].error.path));
}

static void on_note(void *arg, const char *method, const tasker_value *params)
{
	size_t *n = arg;
	if (strcmp(method, "event.message") == 0)
		*n += tasker_count(tasker_get(params, "events"));
}

static void events(tasker *t)
{
	static const char *const patterns[] = {"order.*", NULL};
	const struct tasker_event e = {.name = "order.made",
	                               .payload = "{\"id\":7}",
	                               .namespace_name = "t",
	                               .delivery_mode = "broadcast",
	                               .metadata = "{\"m\":1}"};
	struct tasker_error err = {0};
	tasker_answer *a = NULL;
	char id[37];
	size_t seen = 0;
	tasker_on_notification(t, on_note, &seen);
	check("subscribe", tasker_event_subscribe(t, patterns, NULL, &err), &err);
	check("publish", tasker_event_publish(t, &e, id, &err), &err);
	while (seen == 0 && tasker_process(t, 60000000, &err) > 0)
		;
	check("consume", tasker_event_consume(t, "t", 10, 0, 60000, &a, &err), &err);
	const tasker_value *messages = tasker_get(tasker_answer_value(a), "messages");
	const tasker_value *event = tasker_get(tasker_item(messages, 0), "event");
	char got[40];
	tasker_copy(tasker_get(event, "event_id"), got, sizeof got);
	print("event", tasker_jsonf("[%zu,%b,%v]", seen, strcmp(got, id) == 0,
	                            tasker_get(tasker_get(event, "payload"), "payload")));
	check("ack", tasker_event_ack(t, "t", messages, &err), &err);
	check("unsubscribe", tasker_event_unsubscribe(t, NULL, &err), &err);
	tasker_answer_free(a);
}

static void cancel(tasker *t)
{
	const struct tasker_task later = {
	    .name = "echo", .namespace_name = "t", .run_at = "2999-01-01T00:00:00Z"};
	struct tasker_error err = {0};
	struct tasker_created made;
	tasker_answer *a = NULL;
	check("create", tasker_task_create(t, &later, &made, &err), &err);
	check("cancel", tasker_task_cancel(t, made.task_uuid, "not wanted", &a, &err), &err);
	print("cancelled", tasker_jsonf("%v", tasker_get(tasker_answer_value(a), "state")));
	tasker_answer_free(a);
}

int main(int argc, char **argv)
{
	const struct tasker_options o = {.socket_path = argc > 1 ? argv[1] : NULL, .client = "c-test/1"};
	struct tasker_error err = {0};
	tasker *t = NULL;
	if (tasker_connect(&t, &o, &err) < 0) {
		fprintf(stderr, "%s: %s\n", err.code, err.message);
		return 1;
	}
	tasks(t);
	refusals(t);
	many(t);
	events(t);
	cancel(t);
	tasker_close(t);
	return failures > 0;
}
