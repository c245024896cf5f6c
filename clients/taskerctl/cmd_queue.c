/* queue pause, resume, purge. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/operate.h"

int run_queue_pause(struct ctl *c)
{
	return run_namespace_pause(c);
}

int run_queue_resume(struct ctl *c)
{
	return run_namespace_resume(c);
}

/* ---- purge ---- */

static json_t *purge_params(const struct ctl *c, bool dry)
{
	json_t *params =
		json_pack("{s:s,s:s,s:b}", "namespace", c->cli->args[0], "handler", c->cli->args[1], "dry_run", dry);
	operate_by_whom(c, params);
	if (!cli_has(c->cli, "reason"))
		json_object_set_new(params, "reason", json_string("dry run"));
	return params;
}

/* Ask a person. Without one --yes is needed. 0, or an exit code after having said why. */
static int confirm(struct ctl *c, const json_t *look)
{
	char answer[16] = "";
	long long waiting = (long long)json_int(look, "left", 0);
	if (cli_has(c->cli, "yes"))
		return EXIT_OK;
	if (!c->out_tty || !c->err_tty)
		return ctl_fail(
			c, EXIT_USAGE,
			"queue purge cancels tasks: say --yes\nor see first what would be done with: --dry-run");
	ctl_warn("%s%lld messages wait for %s in %s. Throw them away and cancel their tasks? Type yes: ",
	         waiting > 100000 ? "more than " : "", waiting > 100000 ? 100000 : waiting, c->cli->args[1],
	         c->cli->args[0]);
	if (!fgets(answer, sizeof answer, stdin) || strcmp(answer, "yes\n") != 0)
		return ctl_fail(c, EXIT_NO, "nothing was changed");
	return EXIT_OK;
}

/* One transaction after the other, until nothing is left that may be taken. */
static int purge_all(struct ctl *c, json_t **ret)
{
	int64_t messages = 0, tasks = 0;
	for (bool more = true; more;) {
		cleanup_(cleanup_json) json_t *page = NULL;
		int code = ctl_call(c, "queue.purge", purge_params(c, false), &page);
		if (code) {
			if (*ret)
				ctl_note(c, "before that: %lld messages, %lld tasks cancelled", (long long)messages,
				         (long long)tasks);
			return code;
		}
		messages += json_int(page, "messages", 0);
		tasks += json_int(page, "tasks", 0);
		more = json_flag(page, "more");
		if (!*ret) {
			*ret = json_incref(page);
			continue;
		}
		json_array_extend(json_object_get(*ret, "task_uuids"), json_object_get(page, "task_uuids"));
		json_object_set(*ret, "left", json_object_get(page, "left"));
	}
	json_object_del(*ret, "more");
	json_object_set_new(*ret, "messages", json_integer(messages));
	json_object_set_new(*ret, "tasks", json_integer(tasks));
	return EXIT_OK;
}

static void print_purged(const struct ctl *c, const json_t *answer)
{
	bool dry = json_flag(answer, "dry_run");
	size_t i;
	json_t *uuid;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return;
	}
	json_array_foreach(json_object_get(answer, "task_uuids"), i, uuid) ctl_say("%s\n", json_string_value(uuid));
	if (dry)
		ctl_note(
			c,
			"%lld messages wait there; of the first %lld the %lld tasks above would be cancelled; nothing was changed",
			(long long)json_int(answer, "left", 0), (long long)json_int(answer, "messages", 0),
			(long long)json_int(answer, "tasks", 0));
	else
		ctl_note(c, "%lld messages thrown away, %lld tasks cancelled; %lld messages are left",
		         (long long)json_int(answer, "messages", 0), (long long)json_int(answer, "tasks", 0),
		         (long long)json_int(answer, "left", 0));
}

int run_queue_purge(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *look = NULL, *answer = NULL;
	bool dry = cli_has(c->cli, "dry-run");
	if (!dry && !cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	int code = ctl_call(c, "queue.purge", purge_params(c, true), &look);
	if (code == EXIT_OK && !dry)
		code = confirm(c, look);
	if (code == EXIT_OK && !dry)
		code = purge_all(c, &answer);
	if (code == EXIT_OK)
		print_purged(c, dry ? look : answer);
	return code;
}
