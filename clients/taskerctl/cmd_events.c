/* Domain events: events tail, consume, publish, list. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

#define WAIT_MS 60000 /* one question for durable events */

/* ---- showing ---- */

static void print_event(const struct ctl *c, const json_t *event)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	const json_t *metadata = json_object_get(event, "metadata");
	cleanup_(cleanup_free) char *payload =
	    json_dumps(json_object_get(json_object_get(event, "payload"), "payload"), JSON_COMPACT | JSON_ENCODE_ANY);
	const char *step = json_text(metadata, "step_name");
	buf_init(&b, 0);
	size_t width = text_put(&b, json_text(metadata, "fired_at"), 0);
	buf_printf(&b, "%*s", width < 28 ? (int)(28 - width) : 1, "");
	width = (width < 28 ? 28 : width + 1) + text_put(&b, json_text(metadata, "namespace"), 0);
	buf_printf(&b, " %s", c->colour ? "\033[36m" : "");
	width += 1 + text_put(&b, json_text(event, "event_name"), 0);
	buf_printf(&b, "%s ", c->colour ? "\033[0m" : "");
	if (*step) {
		width += 1 + text_put(&b, step, 0);
		buf_append_char(&b, ' ');
	}
	text_put(&b, payload ? payload : "null", c->width > width + 20 ? c->width - width - 2 : 0);
	buf_append_char(&b, '\n');
	ctl_write(&b);
}

/* --count: 0, or an exit code after having said why. *ret is negative if it was not given. */
static int count_option(const struct ctl *c, int64_t *ret)
{
	const char *text = cli_get(c->cli, "count");
	*ret = -1;
	if (text && parse_int(text, 1, INT64_MAX, ret) < 0)
		return ctl_fail(c, EXIT_USAGE, "--count: %s is not a number of at least 1", text);
	return EXIT_OK;
}

static json_t *patterns_of(const struct ctl *c)
{
	json_t *list = json_array();
	for (int i = 0; i < c->cli->nargs; i++)
		json_array_append_new(list, json_string(c->cli->args[i]));
	if (c->cli->nargs == 0)
		json_array_append_new(list, json_string("*"));
	return list;
}

/* ---- tail ---- */

struct tail {
	struct ctl *c;
	int64_t left; /* to be shown; negative: no end */
	bool done;
};

static void on_message(void *arg, const char *method, const tasker_value *params)
{
	struct tail *t = arg;
	size_t i;
	json_t *event;
	if (strcmp(method, "event.message") != 0)
		return;
	cleanup_(cleanup_json) json_t *p = json_from_value(params);
	json_array_foreach(json_object_get(p, "events"), i, event)
	{
		if (t->done)
			break;
		if (t->c->cli->json)
			ctl_print_json(t->c, event, true);
		else
			print_event(t->c, event);
		t->done = t->left > 0 && --t->left == 0;
	}
	if (json_int(p, "lost", 0) > 0)
		ctl_note(t->c, "%lld events were lost: they were not read in time", (long long)json_int(p, "lost", 0));
	(void)ctl_flush();
}

static int follow(struct tail *t)
{
	struct tasker_error err = {0};
	const struct cli *cli = t->c->cli;
	uint64_t deadline = cli->timeout_ms >= 0 ? now_mono() + (uint64_t)cli->timeout_ms * 1000 : 0;
	while (!t->done) {
		uint64_t now = now_mono();
		if (deadline && now >= deadline)
			return t->left > 0 ? EXIT_TIMEOUT : EXIT_OK;
		if (tasker_process(t->c->conn, deadline ? (int64_t)(deadline - now) : -1, &err) < 0 && !t->done)
			return ctl_error(t->c, &err);
	}
	return EXIT_OK;
}

int run_events_tail(struct ctl *c)
{
	struct tail t = {.c = c};
	cleanup_(cleanup_json) json_t *answer = NULL;
	json_t *names = json_array();
	size_t pos = 0;
	for (const char *n; (n = cli_next(c->cli, "namespace", &pos));)
		json_array_append_new(names, json_string(n));
	if (json_array_size(names) == 0 && c->cli->space)
		json_array_append_new(names, json_string(c->cli->space));
	cleanup_(cleanup_json) json_t *params = json_pack("{s:o,s:o}", "patterns", patterns_of(c), "namespaces", names);
	int code = count_option(c, &t.left);
	if (code == EXIT_OK)
		code = ctl_connect(c);
	if (code)
		return code;
	tasker_on_notification(c->conn, on_message, &t);
	code = ctl_call(c, "event.subscribe", json_incref(params), &answer);
	if (code == EXIT_OK)
		ctl_note(c, "waiting for fast events");
	if (code == EXIT_OK)
		code = follow(&t);
	tasker_on_notification(c->conn, NULL, NULL);
	return code;
}

/* ---- consume ---- */

/* Print them, and acknowledge them unless they are to be kept: what cannot be written is not acknowledged. */
static int take_messages(struct ctl *c, const char *ns, const json_t *messages)
{
	cleanup_(cleanup_json) json_t *answer = NULL, *ids = json_array();
	size_t i;
	json_t *m;
	json_array_foreach(messages, i, m)
	{
		json_array_append(ids, json_object_get(m, "msg_id"));
		if (c->cli->json)
			ctl_print_json(c, m, true);
		else
			print_event(c, json_object_get(m, "event"));
	}
	if (ctl_flush() != 0)
		return ctl_fail(c, EXIT_NO, "cannot write: nothing of this was acknowledged");
	if (cli_has(c->cli, "keep") || json_array_size(ids) == 0)
		return EXIT_OK;
	return ctl_call(c, "event.ack", json_pack("{s:s,s:O}", "namespace", ns, "ids", ids), &answer);
}

/* How long one question may wait: until the deadline, at most a minute; not at all without --wait. */
static int64_t patience(const struct ctl *c, uint64_t deadline)
{
	uint64_t now = now_mono();
	if (!cli_has(c->cli, "wait"))
		return 0;
	if (deadline && now >= deadline)
		return 0;
	return deadline && (deadline - now) / 1000 < WAIT_MS ? (int64_t)((deadline - now) / 1000) : WAIT_MS;
}

static int consume_some(struct ctl *c, const char *ns, int64_t max, uint64_t deadline, size_t *ret)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	int64_t visibility = 30000;
	const char *text = cli_get(c->cli, "visibility");
	if (text && parse_duration(text, &visibility) < 0)
		return ctl_fail(c, EXIT_USAGE, "--visibility: %s is not a duration", text);
	int64_t wait = patience(c, deadline);
	c->timeout_ms = (int)wait + DEFAULT_TIMEOUT_MS;
	json_t *params = json_pack("{s:s,s:I,s:I,s:I}", "namespace", ns, "max", (json_int_t)max, "visibility_ms",
	                           (json_int_t)visibility, "wait_ms", (json_int_t)wait);
	if (c->cli->nargs > 0)
		json_object_set_new(params, "patterns", patterns_of(c));
	int code = ctl_call(c, "event.consume", params, &answer);
	const json_t *messages = json_object_get(answer, "messages");
	*ret = json_array_size(messages);
	return code ? code : take_messages(c, ns, messages);
}

int run_events_consume(struct ctl *c)
{
	const char *ns = cli_namespace(c->cli);
	uint64_t deadline = c->cli->timeout_ms >= 0 ? now_mono() + (uint64_t)c->cli->timeout_ms * 1000 : 0;
	int64_t left;
	size_t n = 0, total = 0;
	int code = count_option(c, &left);
	bool once = cli_has(c->cli, "keep"); /* what is kept comes again */
	do {
		if (code == EXIT_OK)
			code = consume_some(c, ns ? ns : "default", left < 0 || left > 100 ? 100 : left, deadline, &n);
		total += n;
		left -= left < 0 ? 0 : (int64_t)n;
	} while (code == EXIT_OK && left != 0 && (n > 0 ? !once || left > 0 : patience(c, deadline) > 0));
	if (code == EXIT_OK && total == 0)
		ctl_note(c, "no events");
	return code == EXIT_OK && left > 0 && cli_has(c->cli, "wait") ? EXIT_TIMEOUT : code;
}

/* ---- publish ---- */

static void print_id(const struct ctl *c, const json_t *answer)
{
	(void)c;
	ctl_say("%s\n", json_text(answer, "event_id"));
}

int run_events_publish(struct ctl *c)
{
	static const struct {
		const char *key, *option;
	} texts[] = {{"namespace", "namespace"},
	             {"delivery_mode", "mode"},
	             {"correlation_id", "correlation-id"},
	             {"event_id", "event-id"}};
	cleanup_(cleanup_json) json_t *payload = NULL, *metadata = NULL,
				      *params = json_pack("{s:s}", "name", c->cli->args[0]);
	int code = ctl_json_option(c, "payload", &payload);
	if (code == EXIT_OK)
		code = ctl_json_option(c, "metadata", &metadata);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		json_set_option(params, texts[i].key, c->cli, texts[i].option);
	if (payload)
		json_object_set(params, "payload", payload);
	if (metadata)
		json_object_set(params, "metadata", metadata);
	return code ? code : ctl_show(c, "event.publish", json_incref(params), print_id);
}

/* ---- list ---- */

/* Given to a consumer, and not yet acknowledged. */
static void cell_given(struct table *t, const json_t *q, const char *key)
{
	table_cellf(t, NULL, "%lld", (long long)(json_int(q, key, 0) - json_int(q, "ready", 0)));
}

static void cell_consumed(struct table *t, const json_t *q, const char *key)
{
	table_cellf(t, NULL, "%lld", (long long)(json_int(q, key, 0) - json_int(q, "messages", 0)));
}

static const struct column columns[] = {
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"QUEUE", COL_SHRINK, cell_value, "queue"},
    {"MESSAGES", COL_RIGHT, cell_value, "messages"},
    {"READY", COL_RIGHT, cell_value, "ready"},
    {"OLDEST", COL_RIGHT, cell_ms, "oldest_ms"},
    {"PUBLISHED", COL_RIGHT, cell_value, "published"},
    {"GIVEN OUT", COL_RIGHT | COL_WIDE, cell_given, "messages"},
    {"CONSUMED", COL_RIGHT | COL_WIDE, cell_consumed, "published"},
    NO_COLUMN,
};
const struct listing list_events =
	{.columns = columns,
         .empty = "no namespace has durable events; publish one with: taskerctl events publish NAME"};
