/* namespace retention. */
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"

#define MINUTE_MS 60000

/* --keep into params; 0, or an exit code after having said why. */
static int set_keep(struct ctl *c, json_t *params)
{
	const char *keep = cli_get(c->cli, "keep");
	int64_t ms;
	if (!keep)
		return cli_has(c->cli, "action") ? ctl_fail(c, EXIT_USAGE, "--action goes with --keep") : EXIT_OK;
	if (strcmp(keep, "forever") == 0)
		json_object_set_new(params, "forever", json_true());
	else if (strcmp(keep, "default") == 0)
		json_object_set_new(params, "inherit", json_true());
	else if (parse_duration(keep, &ms) == 0 && ms % MINUTE_MS == 0)
		json_object_set_new(params, "keep_minutes", json_integer(ms / MINUTE_MS));
	else
		return ctl_fail(c, EXIT_USAGE, "--keep: %s is neither whole minutes (30m, 72h) nor forever or default",
		                keep);
	return EXIT_OK;
}

static void cell_kept(struct table *t, const json_t *rule, const char *key)
{
	char text[24];
	const json_t *keep = json_object_get(rule, key);
	table_cell(t, NULL,
	           json_is_integer(keep) ? text_duration(json_integer_value(keep) * MINUTE_MS * 1000, text)
	                                 : "for ever");
}

static void cell_then(struct table *t, const json_t *rule, const char *key)
{
	table_cell(t, NULL, json_is_integer(json_object_get(rule, "keep_minutes")) ? json_text(rule, key) : NULL);
}

static void cell_own(struct table *t, const json_t *rule, const char *key)
{
	table_cell(t, NULL, json_flag(rule, key) ? "the namespace" : "the options");
}

static const struct column columns[] = {
    {"STATE", 0, cell_value, "state"},   {"KEPT", COL_RIGHT, cell_kept, "keep_minutes"},
    {"THEN", 0, cell_then, "action"},    {"SAID BY", 0, cell_own, "own"},
    {"MINUTES", COL_RIGHT | COL_WIDE, cell_value, "keep_minutes"}, NO_COLUMN,
};
const struct listing list_retention =
	{.columns = columns,
         .empty = "there are no rules; make one with: taskerctl namespace retention NAMESPACE --keep 72h"};

int run_namespace_retention(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "namespace", c->cli->args[0]);
	json_set_option(params, "state", c->cli, "state");
	json_set_option(params, "action", c->cli, "action");
	int code = set_keep(c, params);
	return code ? code : list_show(c, params);
}
