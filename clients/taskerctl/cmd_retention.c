/* namespace retention. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
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
		return ctl_fail(c, EXIT_USAGE, "--keep: %s is neither whole minutes (30m, 72h) nor forever or default", keep);
	return EXIT_OK;
}

static void add_rule(struct table *t, const json_t *r)
{
	char text[24];
	const json_t *keep = json_object_get(r, "keep_minutes");
	bool limited = json_is_integer(keep);
	table_cell(t, NULL, json_text(r, "state"));
	table_cell(t, NULL, limited ? text_duration(json_integer_value(keep) * MINUTE_MS * 1000, text) : "for ever");
	table_cell(t, NULL, limited ? json_text(r, "action") : NULL);
	table_cell(t, NULL, json_flag(r, "own") ? "the namespace" : "the options");
}

int run_namespace_retention(struct ctl *c)
{
	static const struct column cols[] = {{"STATE", false, false}, {"KEPT", true, false}, {"THEN", false, false}, {"SAID BY", false, false}};
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "namespace", c->cli->args[0]), *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *r;
	json_set_option(params, "state", c->cli, "state");
	json_set_option(params, "action", c->cli, "action");
	int code = set_keep(c, params);
	if (code == EXIT_OK)
		code = ctl_call(c, "namespace.retention", json_incref(params), &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "rules"), i, r) add_rule(&t, r);
	ctl_print_table(c, &t, 0);
	return EXIT_OK;
}
