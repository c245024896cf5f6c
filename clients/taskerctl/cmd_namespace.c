/* namespace list, pause, resume. */
#include <stdio.h>
#include "clients/taskerctl/operate.h"

static const char *who(const json_t *o, char dst[160])
{
	const char *name = json_text(o, "operator");
	if (!*name)
		name = json_text(o, "user");
	if (*name)
		snprintf(dst, 160, "%s", name);
	else if (json_int(o, "uid", -1) >= 0)
		snprintf(dst, 160, "uid %lld", (long long)json_int(o, "uid", 0));
	else
		dst[0] = '\0';
	return dst;
}

static void add_namespace(struct table *t, const json_t *n)
{
	char age[24], by[160];
	bool paused = json_flag(n, "paused");
	table_cell(t, NULL, json_text(n, "namespace"));
	table_cell(t, paused ? "33" : NULL, paused ? "paused" : "running");
	table_cellf(t, NULL, "%lld", (long long)json_int(n, "templates", 0));
	table_cellf(t, NULL, "%lld", (long long)json_int(n, "handlers", 0));
	table_cell(t, NULL, json_age(n, "changed_at", age));
	table_cell(t, NULL, who(n, by));
	table_cell(t, NULL, json_text(n, "reason"));
}

int run_namespace_list(struct ctl *c)
{
	static const struct column cols[] = {
	    {"NAMESPACE", false, true}, {"STATE", false, false}, {"TEMPLATES", true, false}, {"HANDLERS", true, false},
	    {"SINCE", true, false},     {"BY", false, true},     {"REASON", false, true},
	};
	cleanup_(cleanup_json) json_t *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *item;
	int code = ctl_call(c, "namespace.list", NULL, &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "namespaces"), i, item) add_namespace(&t, item);
	if (table_rows(&t) == 0)
		ctl_note(c, "there are no namespaces");
	else
		ctl_print_table(c, &t, 0);
	return EXIT_OK;
}

static int act(struct ctl *c, const char *method)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	json_t *params;
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	params = json_pack("{s:s}", "namespace", c->cli->args[0]);
	operate_by_whom(c, params);
	int code = ctl_call(c, method, params, &answer);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		ctl_say("%s %s\n", json_text(answer, "namespace"), json_flag(answer, "paused") ? "paused" : "running");
	return EXIT_OK;
}

int run_namespace_pause(struct ctl *c)
{
	return act(c, "namespace.pause");
}

int run_namespace_resume(struct ctl *c)
{
	return act(c, "namespace.resume");
}
