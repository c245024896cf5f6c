/* namespace list, pause, resume. */
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/operate.h"

static void cell_paused(struct table *t, const json_t *n, const char *key)
{
	bool paused = json_flag(n, key);
	table_cell(t, paused ? "33" : NULL, paused ? "paused" : "running");
}

static const struct column columns[] = {
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"STATE", 0, cell_paused, "paused"},
    {"TEMPLATES", COL_RIGHT, cell_value, "templates"},
    {"HANDLERS", COL_RIGHT, cell_value, "handlers"},
    {"SINCE", COL_RIGHT, cell_age, "changed_at"},
    {"BY", COL_SHRINK, cell_who, NULL},
    {"REASON", COL_SHRINK, cell_value, "reason"},
    {"USER", COL_WIDE, cell_value, "user"},
    {"UID", COL_RIGHT | COL_WIDE, cell_value, "uid"},
    {"CHANGED", COL_WIDE, cell_second, "changed_at"},
    {"CREATED", COL_WIDE, cell_second, "created_at"},
    NO_COLUMN,
};
const struct listing list_namespaces =
	{.columns = columns,
         .empty = "there are no namespaces; they come with templates: taskerctl template apply FILE"};

static void print_one(const struct ctl *c, const json_t *answer)
{
	(void)c;
	ctl_say("%s %s\n", json_text(answer, "namespace"), json_flag(answer, "paused") ? "paused" : "running");
}

static int act(struct ctl *c, const char *method)
{
	json_t *params;
	if (!cli_has(c->cli, "reason"))
		return ctl_fail(c, EXIT_USAGE, "why? --reason TEXT is needed");
	params = json_pack("{s:s}", "namespace", c->cli->args[0]);
	operate_by_whom(c, params);
	return ctl_show(c, method, params, print_one);
}

int run_namespace_pause(struct ctl *c)
{
	return act(c, "namespace.pause");
}

int run_namespace_resume(struct ctl *c)
{
	return act(c, "namespace.resume");
}
