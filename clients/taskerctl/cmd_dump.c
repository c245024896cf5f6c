/* task dump: everything about a task in one JSON file, for a bug report. The format is described in
 * taskerctl-dump(5). */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/dump.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"
#include "clients/taskerctl/options.h"

/* ---- secrets ---- */

static const char *const secret_keys[] = {"*password*",    "*passwd*",      "*passphrase*", "*secret*",
                                          "*token*",       "*api?key*",     "*apikey*",     "*private?key*",
                                          "*credential*",  "authorization", "cookie",       "*session?id*",
                                          "*card?number*", "cvv",           "cvc",          "iban",
                                          "ssn",           "*pin?code*"};

#define REDACTED "(redacted)"

static bool is_secret(const struct ctl *c, const char *key)
{
	size_t pos = 0;
	for (const char *p; (p = cli_next(c->cli, "redact", &pos));)
		if (fnmatch(p, key, FNM_CASEFOLD) == 0)
			return true;
	if (cli_has(c->cli, "no-default-redaction"))
		return false;
	for (size_t i = 0; i < sizeof secret_keys / sizeof *secret_keys; i++)
		if (fnmatch(secret_keys[i], key, FNM_CASEFOLD) == 0)
			return true;
	return false;
}

static size_t redact(const struct ctl *c, json_t *v)
{
	const char *key;
	json_t *item;
	void *tmp;
	size_t i, n = 0;
	json_object_foreach_safe(v, tmp, key, item)
	{
		if (!is_secret(c, key)) {
			n += redact(c, item);
		} else if (!json_is_null(item)) {
			json_object_set_new(v, key, json_string(REDACTED));
			n++;
		}
	}
	if (json_is_array(v))
		json_array_foreach(v, i, item) n += redact(c, item);
	return n;
}

/* The values that are data of the user's: what else there is has keys of our own. */
static size_t redact_task(const struct ctl *c, json_t *dump)
{
	static const char *const of_steps[] = {"result", "error", "inputs", "checkpoint"},
				 *const of_attempts[] = {"error", "metadata"};
	json_t *task = json_object_get(dump, "task"), *item;
	size_t i, n = redact(c, json_object_get(task, "context"));
	json_array_foreach(json_object_get(task, "steps"), i, item)
		for (size_t k = 0; k < sizeof of_steps / sizeof *of_steps; k++)
			n += redact(c, json_object_get(item, of_steps[k]));
	json_array_foreach(json_object_get(json_object_get(dump, "history"), "attempts"), i, item)
		for (size_t k = 0; k < sizeof of_attempts / sizeof *of_attempts; k++)
			n += redact(c, json_object_get(item, of_attempts[k]));
	json_array_foreach(json_object_get(dump, "dead_letters"), i, item) n += redact(c, item);
	/* Of the template what handlers are given; schemas name such keys without holding secrets. */
	const json_t *template = json_object_get(dump, "template"), *const places[] = {template,
	                                                                               json_object_get(template,
	                                                                                               "definition")};
	for (size_t k = 0; k < sizeof places / sizeof *places; k++)
		json_array_foreach(json_object_get(places[k], "steps"), i, item)
			n += redact(c, json_object_get(json_object_get(item, "handler"), "initialization"));
	return n;
}

/* ---- gathering ---- */

static int fetch_task(struct ctl *c, const char *uuid, json_t *dump)
{
	cleanup_(cleanup_json) json_t *task = NULL;
	int code = get_whole_task(c, uuid, &task);
	if (code == EXIT_OK)
		json_object_set(dump, "task", task);
	return code;
}

static int fetch_template(struct ctl *c, json_t *dump)
{
	const json_t *task = json_object_get(dump, "task");
	cleanup_(cleanup_json) json_t *template = NULL;
	int code = ctl_call(c, "template.get",
	                    json_pack("{s:s,s:s,s:s}", "namespace", json_text(task, "namespace"), "name",
	                              json_text(task, "name"), "version", json_text(task, "version")),
	                    &template);
	if (code == EXIT_OK)
		json_object_set(dump, "template", template);
	return code;
}

/* The dead-letter entry, if there is one. */
static int fetch_dlq(struct ctl *c, const char *uuid, json_t *dump)
{
	cleanup_(cleanup_json) json_t *entry = NULL;
	struct tasker_error err = {0};
	int rc = ctl_try(c, "dlq.get", json_pack("{s:s}", "task_uuid", uuid), &entry, &err);
	if (rc < 0 && strcmp(err.code, "not_found") != 0)
		return ctl_error(c, &err);
	json_object_set_new(dump, "dead_letters", rc < 0 ? json_array() : json_pack("[O]", entry));
	return EXIT_OK;
}

static int gather(struct ctl *c, const char *uuid, json_t *dump)
{
	cleanup_(cleanup_json) json_t *history = NULL, *info = NULL;
	int code = fetch_task(c, uuid, dump);
	if (code == EXIT_OK)
		code = fetch_template(c, dump);
	if (code == EXIT_OK)
		code = history_fetch(c, json_pack("{s:s}", "task_uuid", uuid), &history);
	if (code == EXIT_OK)
		code = fetch_dlq(c, uuid, dump);
	if (code == EXIT_OK)
		code = ctl_call(c, "server.info", NULL, &info);
	if (code)
		return code;
	json_object_set(dump, "history", history);
	json_object_del(info, "counters");
	json_object_set(dump, "server", info);
	return EXIT_OK;
}

/* ---- the verb ---- */

static int write_dump(const struct ctl *c, const json_t *dump)
{
	const char *path = cli_get(c->cli, "output");
	size_t how = JSON_REAL_PRECISION(17) | JSON_INDENT(2);
	if (!path || strcmp(path, "-") == 0) {
		cleanup_(cleanup_free) char *text = json_dumps(dump, how);
		cleanup_(cleanup_buf) struct buf b = {0};
		buf_init(&b, 0);
		if (!text)
			return ctl_fail(c, EXIT_NO, "out of memory");
		text_put_json(&b, text); /* stdout may be a terminal */
		buf_append_char(&b, '\n');
		ctl_write(&b);
		return EXIT_OK;
	}
	/* Never over another one: this may be all that is left of a task. Nor for others to read: who may read a
	 * namespace is not who may read a directory. */
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		return ctl_fail(c, EXIT_NO, "%s: %s", path, strerrordesc_np(errno));
	int rc = json_dumpf(dump, f, how) < 0 || fputc('\n', f) == EOF;
	if (fclose(f) != 0 || rc)
		return ctl_fail(c, EXIT_NO, "%s cannot be written: %s", path, strerrordesc_np(errno ? errno : EIO));
	return EXIT_OK;
}

int run_task_dump(struct ctl *c)
{
	char at[40];
	const char *uuid = c->cli->args[0];
	cleanup_(cleanup_json) json_t *dump = NULL;
	int code = task_uuid_arg(c);
	if (code)
		return code;
	dump = json_pack("{s:s,s:i,s:s,s:s}", "format", DUMP_FORMAT, "format_version", DUMP_VERSION, "dumped_at",
	                 time_text((int64_t)now_wall(), at), "taskerctl", TASKERD_VERSION);
	code = gather(c, uuid, dump);
	if (code)
		return code;
	size_t n = redact_task(c, dump);
	json_object_set_new(dump, "redacted", json_integer((json_int_t)n));
	code = write_dump(c, dump);
	if (code == EXIT_OK)
		ctl_note(c, "%zu values were left out as secrets; look through the rest before you give it away", n);
	return code;
}
