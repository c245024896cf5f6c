/* config show: the daemon's options, as it says itself, as the files give them, or as the table has them. The table is
 * the daemon's own (daemon/config). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/text.h"
#include "daemon/config/option_show.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"

static void cleanup_value(struct mp_value *v)
{
	mp_value_done(v);
}

/* What the daemon would answer. NULL: no memory. */
static json_t *describe(const struct options *o, const char *from)
{
	cleanup_(cleanup_buf) struct buf mp = {0}, json = {0};
	cleanup_(cleanup_value) struct mp_value v = {0};
	buf_init(&mp, 0);
	buf_init(&json, 0);
	options_describe(o, from, &mp);
	if (mp.failed || mp_decode(mp.data, mp.len, &v) < 0 || mp_to_json(&v.root, "", &json, NULL) < 0 ||
	    !buf_text(&json))
		return NULL;
	return json_loads(buf_text(&json), 0, NULL);
}

static int from_files(const struct ctl *c, json_t **ret)
{
	cleanup_(cleanup_buf) struct buf messages = {0};
	struct options o;
	buf_init(&messages, 1u << 20);
	int rc = options_preview(cli_get(c->cli, "config"), &o, &messages);
	if (messages.len > 0 && buf_text(&messages))
		ctl_warn("%s", buf_text(&messages));
	if (rc == -EINVAL)
		return ctl_fail(
			c, EXIT_NO,
			"the configuration has errors: taskerd would not start with it\nmend what is listed; what may stand there is shown by: taskerctl config show --default");
	if (rc == 0) {
		*ret = describe(&o, "files");
		options_done(&o);
	}
	return EXIT_OK;
}

/* Ask the daemon; without one, read what it would read. */
static int effective(struct ctl *c, json_t **ret)
{
	struct tasker_error err = {0};
	const struct tasker_options o = {.socket_path = c->cli->socket,
	                                 .client = "taskerctl/" TASKERD_VERSION,
	                                 .timeout_ms = c->timeout_ms};
	if (!cli_has(c->cli, "config")) {
		if (tasker_connect(&c->conn, &o, &err) == 0)
			return ctl_call(c, "server.config", NULL, ret);
		if (err.rc != -ENOENT && err.rc != -ECONNREFUSED)
			return ctl_error(c, &err);
		ctl_note(c, "taskerd is not running: this is what the files and the environment say here");
	}
	return from_files(c, ret);
}

/* Lines of a configuration file. What has no constant as its default stands in a comment. */
static void print_default(struct buf *b, const json_t *option)
{
	const char *name = json_text(option, "name"), *value = json_text(option, "default");
	if (*value)
		buf_printf(b, "%s: %s # %s\n", name, value, json_text(option, "help"));
	else
		buf_printf(b, "# %s: %s; default: %s\n", name, json_text(option, "help"), json_text(option, "note"));
}

static void print_effective(struct buf *b, const json_t *option)
{
	const char *value = json_text(option, "value"), *place = json_text(option, "place");
	buf_printf(b, "%s: ", json_text(option, "name"));
	text_put(b, *value ? value : "null", 0);
	buf_printf(b, " # %s", json_text(option, "source"));
	if (*place) {
		buf_append_char(b, ' ');
		text_put(b, place, 0);
	}
	buf_append_char(b, '\n');
}

int run_config_show(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	cleanup_(cleanup_buf) struct buf b = {0};
	bool defaults = cli_has(c->cli, "default");
	size_t i;
	json_t *option;
	if (defaults && (cli_has(c->cli, "effective") || cli_has(c->cli, "config")))
		return ctl_fail(c, EXIT_USAGE, "--default is what holds when nothing is configured: give it alone");
	if (defaults)
		answer = describe(NULL, "defaults");
	int code = defaults ? EXIT_OK : effective(c, &answer);
	if (code)
		return code;
	if (!answer)
		return ctl_fail(c, EXIT_NO, "out of memory");
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	buf_init(&b, 0);
	json_array_foreach(json_object_get(answer, "options"), i, option)
		defaults ? print_default(&b, option) : print_effective(&b, option);
	if (b.len > 0)
		ctl_say("%s", buf_text(&b));
	return EXIT_OK;
}
