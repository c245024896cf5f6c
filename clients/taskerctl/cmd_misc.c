/* version, doctor. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"
#include "protocol/msg.h"

/* ---- version ---- */

static void put_fact(const char *key, const char *value)
{
	char clean[600];
	text_copy(clean, sizeof clean, value);
	if (*clean)
		ctl_say("%-10s %s\n", key, clean);
}

static void print_server(const json_t *info)
{
	const json_t *db = json_object_get(info, "database");
	char line[256], age[24];
	const char *server = json_text(info, "server");
	const json_t *version = json_object_get(info, "version");
	snprintf(line, sizeof line, "%s%s%s, node %s, pid %lld, up %s", server,
	         strchr(server, '/') ? "" : " ",
	         strchr(server, '/') || !json_is_string(version) ? "" : json_string_value(version),
	         json_text(info, "node"), (long long)json_int(info, "pid", 0),
	         text_duration(json_int(info, "uptime_ms", 0) * 1000, age));
	put_fact("taskerd", line);
	/* As libpq counts: 150004 is 15.4. */
	long long v = json_int(db, "version", 0);
	if (v > 0)
		snprintf(line, sizeof line, "%s, PostgreSQL %lld.%lld", json_text(db, "state"), v / 10000,
		         v % 10000);
	else
		snprintf(line, sizeof line, "%s", json_text(db, "state"));
	put_fact("database", line);
	put_fact("", json_text(db, "error"));
	size_t i;
	json_t *h;
	const json_t *oldest = json_object_get(db, "oldest_call");
	if (json_array_size(json_object_get(db, "hanging")) == 0 && json_int(oldest, "ms", 0) >= 1000) {
		snprintf(line, sizeof line, "for %s: %.60s", text_duration(json_int(oldest, "ms", 0) * 1000, age),
		         json_text(oldest, "call"));
		put_fact("waiting", line);
	}
	json_array_foreach(json_object_get(db, "hanging"), i, h)
	{
		snprintf(line, sizeof line, "for %s: %.60s; %.150s", text_duration(json_int(h, "ms", 0) * 1000, age),
		         json_text(h, "call"), json_text(h, "why"));
		put_fact("waiting", line);
	}
}

#define LOOK_AGAIN_MS 100

/* Over a connection of its own each time: an old one may have gone with its daemon. */
static bool ask_server(struct ctl *c, json_t **ret, struct tasker_error *err)
{
	const struct tasker_options o = {.socket_path = c->cli->socket,
	                                 .client = "taskerctl/" TASKERD_VERSION,
	                                 .timeout_ms = c->timeout_ms};
	c->conn = tasker_close(c->conn);
	json_decref(*ret);
	*ret = NULL;
	return tasker_connect(&c->conn, &o, err) == 0 && ctl_try(c, "server.info", NULL, ret, err) == 0;
}

static bool is_up(const json_t *info)
{
	return strcmp(json_text(json_object_get(info, "database"), "state"), "up") == 0;
}

static bool may_come(const struct tasker_error *err)
{
	return err->rc != -EACCES && err->rc != -EPERM && err->rc != -ENAMETOOLONG &&
	       strcmp(err->code, "permission_denied") != 0;
}

/* Until it is there and has its database, with --wait. */
static int look_at_server(struct ctl *c, json_t **ret, struct tasker_error *err)
{
	bool wait = c->cli->verb && cli_has(c->cli, "wait");
	uint64_t end = c->cli->timeout_ms < 0 ? UINT64_MAX : now_mono() + (uint64_t)c->cli->timeout_ms * USEC_PER_MSEC;
	for (;;) {
		bool reached = ask_server(c, ret, err);
		if (!wait || (reached && is_up(*ret)))
			return EXIT_OK;
		if (!reached && !may_come(err))
			return EXIT_UNREACHABLE;
		if (now_mono() >= end)
			return EXIT_TIMEOUT;
		(void)!poll(NULL, 0, LOOK_AGAIN_MS);
	}
}

int run_version(struct ctl *c)
{
	struct tasker_error err = {0};
	cleanup_(cleanup_json) json_t *info = NULL;
	int code = look_at_server(c, &info, &err);
	if (c->cli->json) {
		cleanup_(cleanup_json) json_t *j =
		    json_pack("{s:s,s:[i,i],s:O?}", "taskerctl", TASKERD_VERSION, "protocol", PROTOCOL_MAJOR,
		              PROTOCOL_MINOR, "taskerd", info);
		ctl_print_json(c, j, false);
		return code;
	}
	ctl_say("taskerctl  %s, protocol %d.%d\n", TASKERD_VERSION, PROTOCOL_MAJOR, PROTOCOL_MINOR);
	if (info)
		print_server(info);
	else
		put_fact("taskerd", err.message);
	return code;
}

/* ---- doctor ---- */

static void print_samples(const struct ctl *c, const json_t *samples)
{
	size_t i;
	json_t *s;
	json_array_foreach(samples, i, s)
	{
		cleanup_(cleanup_free) char *text = json_is_string(s)
		                                        ? strdup(json_string_value(s))
		                                        : json_dumps(s, JSON_COMPACT | JSON_ENCODE_ANY);
		cleanup_(cleanup_buf) struct buf b = {0};
		buf_init(&b, 0);
		buf_append_str(&b, "         ");
		text_put(&b, text ? text : "", c->width > 20 ? c->width - 9 : 0);
		buf_append_char(&b, '\n');
		ctl_write(&b);
	}
}

static void print_check(const struct ctl *c, const json_t *check)
{
	bool ok = json_flag(check, "ok");
	char name[128], detail[512];
	text_copy(name, sizeof name, json_text(check, "name"));
	text_copy(detail, sizeof detail, json_text(check, "detail"));
	ctl_say("%s%-7s%s  %s", c->colour ? ok ? "\033[32m" : "\033[31m" : "", ok ? "ok" : "FOUND",
	       c->colour ? "\033[0m" : "", name);
	if (!ok)
		ctl_say(": %lld", (long long)json_int(check, "found", 0));
	ctl_say("%s%s\n", *detail ? ok ? "  " : ", " : "", detail);
	if (!ok)
		print_samples(c, json_object_get(check, "sample"));
}

int run_doctor(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	size_t i, bad = 0;
	json_t *check;
	int code = ctl_call(c, "doctor", NULL, &answer);
	if (code)
		return code;
	const json_t *checks = json_object_get(answer, "checks");
	json_array_foreach(checks, i, check) bad += !json_flag(check, "ok");
	code = bad > 0 || !json_flag(answer, "ok") ? EXIT_NO : EXIT_OK;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return code;
	}
	json_array_foreach(checks, i, check) if (!c->cli->quiet || !json_flag(check, "ok"))
	    print_check(c, check);
	if (code == EXIT_OK)
		ctl_note(
			c,
			"all %zu checks passed: nothing is stranded; what waits for somebody is shown by: taskerctl status",
			json_array_size(checks));
	else
		ctl_note(c, "%zu of %zu checks found something; look closer with: taskerctl task get UUID",
		         bad, json_array_size(checks));
	return code;
}
