/* The ground under the verbs: one connection, made when first needed; answers as jansson values; errors with
 * advice. */
#include "clients/taskerctl/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "clients/taskerctl/hints.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

/* ---- output ---- */

static int output_error; /* the first one: stdio forgets which it was */

void ctl_put(const void *data, size_t len)
{
	errno = 0;
	if (len > 0 && fwrite(data, 1, len, stdout) != len && !output_error)
		output_error = errno ? errno : EIO;
}

int ctl_flush(void)
{
	errno = 0;
	if ((fflush(stdout) != 0 || ferror(stdout)) && !output_error)
		output_error = errno ? errno : EIO;
	return output_error;
}

void ctl_write(const struct buf *b)
{
	ctl_put(b->data, b->len);
}

static __attribute__((format(printf, 2, 0))) void say_to(FILE *f, const char *fmt, va_list ap)
{
	cleanup_(cleanup_free) char *text = NULL;
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	if (vasprintf(&text, fmt, ap) < 0)
		return;
	text_put_lines(&b, text);
	if (f == stdout)
		ctl_put(b.data, b.len);
	else if (b.len > 0)
		fwrite(b.data, 1, b.len, f);
}

void ctl_say(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say_to(stdout, fmt, ap);
	va_end(ap);
}

void ctl_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say_to(stderr, fmt, ap);
	va_end(ap);
}

void ctl_note(const struct ctl *c, const char *fmt, ...)
{
	char text[1000], clean[1000];
	va_list ap;
	if (c->cli->quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	text_copy(clean, sizeof clean, text);
	(void)ctl_flush();
	/* what a pager shows is kept until the end: in its order */
	fprintf(c->screen ? stdout : stderr, "%s\n", clean);
}

/* ---- what went wrong ---- */

static void tell(const struct ctl *c, const char *message, const char *hint)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	buf_append_str(&b, c->err_colour ? "\033[31mtaskerctl:\033[0m " : "taskerctl: ");
	text_put(&b, message, 2000);
	for (const char *end; *hint; hint = end + (*end == '\n')) {
		end = strchrnul(hint, '\n');
		cleanup_(cleanup_free) char *line = strndup(hint, (size_t)(end - hint));
		buf_append_str(&b, strncmp(hint, "  ", 2) == 0 ? "\n" : "\n  ");
		text_put(&b, line ? line : "", 0);
	}
	fprintf(stderr, "%s\n", buf_text(&b));
}

/* Whether standard output has its JSON document. There is one in all: what is there already is not followed by
 * another. */
static bool document_printed;

static void answer_with_error(const struct ctl *c, const json_t *doc)
{
	if (c->cli->json && !document_printed)
		ctl_print_json(c, doc, false);
}

/* What the exit codes are called in JSON, where no error of the daemon has a code. */
static const char *code_of(enum exit_code exit)
{
	static const char *const codes[] =
		{[EXIT_USAGE] = "usage", [EXIT_NOT_FOUND] = "not_found", [EXIT_CONFLICT] = "conflict"};
	return (size_t)exit < sizeof codes / sizeof *codes && codes[exit] ? codes[exit] : "failed";
}

int ctl_fail_text(const struct ctl *c, enum exit_code exit, const char *text)
{
	cleanup_(cleanup_free) char *message = strdup(text);
	cleanup_(cleanup_buf) struct buf help = {0};
	char *hint = message ? strchr(message, '\n') : NULL;
	buf_init(&help, 0);
	put_help_hint(&help, c->cli);
	if (hint)
		*hint++ = '\0';
	if (!hint || !*hint)
		hint = (char *)buf_text(&help);
	tell(c, message, hint);
	cleanup_(cleanup_json) json_t *doc = json_pack("{s:{s:s,s:s,s:s,s:i}}", "error", "code", code_of(exit),
	                                               "message", message, "hint", hint, "exit_code", (int)exit);
	answer_with_error(c, doc);
	return (int)exit;
}

int ctl_fail(const struct ctl *c, enum exit_code code, const char *fmt, ...)
{
	char text[1000];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return ctl_fail_text(c, code, text);
}

/* The message of an error, and what to do about it. */
static void describe(const struct ctl *c, const char *about, const struct tasker_error *err, struct buf *message,
                     struct buf *hint)
{
	buf_init(message, 0);
	buf_init(hint, 0);
	buf_printf(message, "%s%s%s", about ? about : "", about ? ": " : "",
	           err->message[0] ? err->message : err->code);
	put_hint(hint, err, c->cli);
}

json_t *ctl_error_json(const struct ctl *c, const struct tasker_error *err, json_t *details)
{
	cleanup_(cleanup_buf) struct buf message = {0}, hint = {0};
	describe(c, NULL, err, &message, &hint);
	json_t *e = json_pack("{s:s,s:s,s:s,s:i}", "code", err->code, "message", buf_text(&message), "hint",
	                      buf_text(&hint), "exit_code", (int)exit_code_for(err));
	if (err->path[0])
		json_object_set_new(e, "path", json_string(err->path));
	if (err->retry_after_ms)
		json_object_set_new(e, "retry_after_ms", json_integer(err->retry_after_ms));
	if (details)
		json_object_set(e, "details", details);
	return e;
}

int ctl_complain(const struct ctl *c, const char *about, const struct tasker_error *err)
{
	cleanup_(cleanup_buf) struct buf message = {0}, hint = {0};
	describe(c, about, err, &message, &hint);
	if (err->path[0])
		buf_printf(&message, " (at %s)", err->path);
	if (err->retry_after_ms)
		buf_printf(&hint, "\ntaskerd asks for a pause of %u ms before the next attempt", err->retry_after_ms);
	tell(c, buf_text(&message), buf_text(&hint));
	return (int)exit_code_for(err);
}

/* Where a context does not fit its template's input_schema. */
static void print_violations(const json_t *details)
{
	size_t i;
	json_t *x;
	json_array_foreach(json_object_get(details, "violations"), i, x)
	{
		char place[300], message[300];
		text_copy(place, sizeof place, json_text(x, "instance"));
		text_copy(message, sizeof message, json_text(x, "message"));
		fprintf(stderr, "  %s: %s\n", *place ? place : "(the context)", message);
	}
}

#define SILENT_MS 1000 /* a call that the database owes is named then */

/* Taskerd did not answer in time: it may know that it waits for its database. */
static void name_the_silent(const struct ctl *c, struct tasker_error *err)
{
	struct tasker_error ignored = {0};
	cleanup_(cleanup_free) char *text = NULL;
	if (err->rc != -ETIMEDOUT || !c->conn ||
	    tasker_call_json(c->conn, "server.info", "{}", 2 * SILENT_MS, &text, &ignored) < 0)
		return;
	cleanup_(cleanup_json) json_t *info = json_loads(text, 0, NULL);
	const json_t *db = json_object_get(info, "database"), *call = json_object_get(db, "oldest_call");
	const char *state = json_text(db, "state"), *error = json_text(db, "error");
	char waited[24];
	size_t n = strlen(err->message);
	if (*state && strcmp(state, "up") != 0)
		snprintf(err->message + n, sizeof err->message - n, ": its database is %.20s%s%.300s", state,
		         *error ? ", " : "", error);
	else if (json_int(call, "ms", 0) >= SILENT_MS)
		snprintf(err->message + n, sizeof err->message - n, ": its database has not answered \"%.100s\" for %s",
		         json_text(call, "call"), text_duration(json_int(call, "ms", 0) * 1000, waited));
}

int ctl_error(const struct ctl *c, const struct tasker_error *why)
{
	struct tasker_error named = *why, *err = &named;
	name_the_silent(c, err);
	const char *text = c->conn && err->rc == -EREMOTEIO ? tasker_error_details(c->conn) : NULL;
	cleanup_(cleanup_json) json_t *details = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	cleanup_(cleanup_json) json_t *doc = json_pack("{s:o}", "error", ctl_error_json(c, err, details));
	if (!c->cli->json)
		print_violations(details);
	answer_with_error(c, doc);
	return ctl_complain(c, NULL, err);
}

void ctl_put_json(const struct ctl *c, const json_t *j, size_t how)
{
	cleanup_(cleanup_free) char *text = json_dumps(j, how | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	if (text && c->out_tty)
		text_put_json(&b, text);
	else if (text)
		ctl_put(text, strlen(text));
	ctl_write(&b);
}

static void dump_json(const struct ctl *c, const json_t *j, bool line)
{
	ctl_put_json(c, j, c->out_tty && !line ? JSON_INDENT(2) : JSON_COMPACT);
	ctl_put("\n", 1);
}

void ctl_print_json(const struct ctl *c, const json_t *j, bool line)
{
	bool lines = c->cli->output == OUTPUT_JSONL;
	document_printed = document_printed || !line;
	const char *member = c->cli->verb ? c->cli->verb->list : NULL;
	const json_t *list = json_is_array(j) ? j : member ? json_object_get(j, member) : NULL;
	size_t i;
	json_t *item;
	if (line || !lines || !json_is_array(list))
		dump_json(c, j, line || lines);
	else
		json_array_foreach(list, i, item) dump_json(c, item, true);
}

void ctl_print_table(const struct ctl *c, const struct table *t, size_t indent)
{
	const struct table_style style = {.width = c->width,
	                                  .heading = !c->cli->quiet,
	                                  .colour = c->colour,
	                                  .wide = c->cli->output == OUTPUT_WIDE,
	                                  .indent = indent};
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	if (table_render(t, &style, &b) < 0)
		fputs("taskerctl: out of memory\n", stderr);
	else
		ctl_write(&b);
}

/* ---- requests ---- */

int ctl_connect(struct ctl *c)
{
	struct tasker_error err = {0};
	const struct tasker_options o = {.socket_path = c->cli->socket,
	                                 .client = "taskerctl/" TASKERD_VERSION,
	                                 .timeout_ms = c->timeout_ms};
	if (c->conn || tasker_connect(&c->conn, &o, &err) == 0)
		return 0;
	return ctl_error(c, &err);
}

static char *dump_params(json_t *params, struct tasker_error *err)
{
	char *text = params ? json_dumps(params, JSON_COMPACT | JSON_REAL_PRECISION(17)) : strdup("{}");
	json_decref(params);
	if (!text) {
		*err = (struct tasker_error){.rc = -ENOMEM, .code = "out_of_memory"};
		snprintf(err->message, sizeof err->message, "out of memory");
	}
	return text;
}

int ctl_try(struct ctl *c, const char *method, json_t *params, json_t **ret, struct tasker_error *err)
{
	cleanup_(cleanup_free) char *text = dump_params(params, err), *answer = NULL;
	if (!text)
		return err->rc;
	int rc = tasker_call_json(c->conn, method, text, c->timeout_ms, &answer, err);
	if (rc < 0)
		return rc;
	*ret = json_loads(answer, JSON_DECODE_ANY, NULL);
	if (!*ret) {
		*err = (struct tasker_error){.rc = -EPROTO, .code = "protocol_error"};
		snprintf(err->message, sizeof err->message, "the answer to %s cannot be read", method);
		return err->rc;
	}
	return 0;
}

int ctl_call(struct ctl *c, const char *method, json_t *params, json_t **ret)
{
	struct tasker_error err = {0};
	int code = ctl_connect(c);
	if (code) {
		json_decref(params);
		return code;
	}
	return ctl_try(c, method, params, ret, &err) < 0 ? ctl_error(c, &err) : 0;
}

int ctl_send(struct ctl *c, const char *method, json_t *params, tasker_reply_fn *fn, void *arg,
             struct tasker_error *err)
{
	cleanup_(cleanup_free) char *text = dump_params(params, err);
	if (!text)
		return err->rc;
	return tasker_send_json(c->conn, method, text, fn, arg, err);
}

json_t *json_from_value(const tasker_value *v)
{
	cleanup_(cleanup_free) char *text = tasker_json(v);
	return text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
}

/* ---- fields ---- */

const char *json_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

int64_t json_int(const json_t *o, const char *key, int64_t otherwise)
{
	const json_t *v = json_object_get(o, key);
	return json_is_integer(v) ? json_integer_value(v)
	       : json_is_real(v)  ? (int64_t)json_real_value(v)
	                          : otherwise;
}

bool json_flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

int json_time(const json_t *o, const char *key, int64_t *ret_us)
{
	return parse_time(json_text(o, key), ret_us);
}

const char *json_age(const json_t *o, const char *key, char dst[24])
{
	int64_t then;
	if (json_time(o, key, &then) < 0)
		return "-";
	int64_t age = ((int64_t)now_wall() - then) / 1000000;
	if (age >= 60)
		return text_duration(age * 1000000, dst);
	snprintf(dst, 24, "%llds", age > 0 ? (long long)age : 0);
	return dst;
}

void json_join(const json_t *list, struct buf *b)
{
	size_t i;
	json_t *s;
	json_array_foreach(list, i, s)
	    buf_printf(b, "%s%s", i ? ", " : "", json_string_value(s) ? json_string_value(s) : "?");
}

void json_set_option(json_t *params, const char *key, const struct cli *cli, const char *option)
{
	const char *v = strcmp(option, "namespace") == 0 ? cli_namespace(cli) : cli_get(cli, option);
	if (v)
		json_object_set_new(params, key, json_string(v));
}

/* ---- states ---- */

#define GREEN "32"
#define RED "31"
#define YELLOW "33"
#define CYAN "36"
#define DIM "2"

const char *state_colour(const char *state)
{
	static const struct {
		const char *state, *colour;
	} table[] = {
	    {"complete", GREEN},
	    {"resolved_manually", GREEN},
	    {"error", RED},
	    {"blocked_by_failures", RED},
	    {"cancelled", DIM},
	    {"pending", DIM},
	    {"in_progress", CYAN},
	    {"steps_in_process", CYAN},
	    {"enqueued", CYAN},
	    {"enqueued_for_orchestration", CYAN},
	    {"waiting_for_retry", YELLOW},
	    {"enqueued_as_error_for_orchestration", YELLOW},
	    {"waiting_for_dependencies", YELLOW},
	    {"evaluating_results", CYAN},
	    /* of nodes, tokens, dead letters, limits, attempts */
	    {"up", GREEN},
	    {"down", RED},
	    {"expired", RED},
	    {"active", GREEN},
	    {"revoked", DIM},
	    {"permanently_failed", RED},
	    {"healthy", GREEN},
	    {"warning", YELLOW},
	    {"stale", RED},
	    {"success", GREEN},
	    {"handler_error", YELLOW},
	    {"permanent_error", YELLOW},
	    {"invalid_result", YELLOW},
	    {"timeout", YELLOW},
	    {"worker_lost", YELLOW},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (strcmp(state, table[i].state) == 0)
			return table[i].colour;
	return NULL;
}

bool task_state_is_final(const char *state)
{
	static const char *const final[] = {"complete", "error", "cancelled", "resolved_manually"};
	for (size_t i = 0; i < sizeof final / sizeof *final; i++)
		if (strcmp(state, final[i]) == 0)
			return true;
	return false;
}

int ctl_template_ref(const struct ctl *c, const char *text, struct template_ref *ret)
{
	if (parse_template_ref(text, ret) < 0)
		return ctl_fail(
			c, EXIT_USAGE,
			"%s is not a template: NS/NAME[@VERSION] is expected\nsee what there is with: taskerctl template list",
			text);
	if (!strchr(text, '/') && c->cli->space)
		snprintf(ret->space, sizeof ret->space, "%s", c->cli->space);
	return EXIT_OK;
}

int ctl_json_option(const struct ctl *c, const char *option, json_t **ret)
{
	const char *given = cli_get(c->cli, option);
	cleanup_(cleanup_buf) struct buf b = {0};
	json_error_t why;
	buf_init(&b, INPUT_MAX);
	if (!given)
		return EXIT_OK;
	const char *path = *given == '@' ? given + 1 : strcmp(given, "-") == 0 ? given : NULL;
	int rc = path ? input_read(path, &b) : 0;
	if (rc < 0)
		return ctl_fail(c, EXIT_NO, "--%s: %s cannot be read: %s", option, input_name(path),
		                strerrordesc_np(-rc));
	if (!path)
		buf_append_str(&b, given);
	*ret = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!*ret)
		return ctl_fail(c, EXIT_USAGE, "--%s: not JSON: %s (line %d, column %d)", option, why.text, why.line,
		                why.column);
	return EXIT_OK;
}

int ctl_set_time(const struct ctl *c, json_t *params, const char *key, const char *option, const char *text)
{
	char at[40];
	int64_t us, ms;
	if (parse_time(text, &us) == 0) {
		json_object_set_new(params, key, json_string(text));
		return EXIT_OK;
	}
	if (parse_duration(text + (*text == '+'), &ms) < 0)
		return ctl_fail(
			c, EXIT_USAGE,
			"--%s: %s is neither a time nor a duration from now: 2030-01-31T09:00:00Z, +90s or +30d is expected",
			option, text);
	time_text((int64_t)now_wall() + ms * 1000, at);
	json_object_set_new(params, key, json_string(at));
	return EXIT_OK;
}

void ctl_fact(const struct ctl *c, const char *key, const char *value)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	if (!value || !*value)
		return;
	buf_init(&b, 0);
	buf_printf(&b, "%-14s ", key);
	text_put(&b, value, c->width > 30 ? c->width - 15 : 0);
	buf_append_char(&b, '\n');
	ctl_write(&b);
}

void ctl_fact_json(const struct ctl *c, const char *key, const json_t *v, bool empty)
{
	cleanup_(cleanup_free) char *text =
		v && !json_is_null(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	if (text && (empty || (strcmp(text, "{}") != 0 && strcmp(text, "[]") != 0)))
		ctl_fact(c, key, text);
}
