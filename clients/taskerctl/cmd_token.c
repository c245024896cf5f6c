/* token create, list, revoke. */
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/text.h"

#define LIFE_BY_DEFAULT "90d"

static void cell_expiry(struct table *t, const json_t *token, const char *key)
{
	if (*json_text(token, key))
		cell_date(t, token, key);
	else
		table_cell(t, NULL, "never");
}

static const struct column columns[] = {
    {"ID", 0, cell_value, "id"},
    {"NAME", COL_SHRINK, cell_value, "name"},
    {"STATE", 0, cell_state, "state"},
    {"ROLES", COL_SHRINK, cell_value, "roles"},
    {"NAMESPACES", COL_SHRINK, cell_value, "namespaces"},
    {"CREATED", COL_RIGHT, cell_age, "created_at"},
    {"BY", COL_SHRINK, cell_value, "created_by"},
    {"EXPIRES", 0, cell_expiry, "expires_at"},
    {"USED", COL_RIGHT, cell_age, "last_used_at"},
    {"MADE", COL_WIDE, cell_second, "created_at"},
    {"UNTIL", COL_WIDE, cell_second, "expires_at"},
    {"LAST USED", COL_WIDE, cell_second, "last_used_at"},
    {"REVOKED", COL_WIDE, cell_second, "revoked_at"},
    {"REVOKED BY", COL_WIDE, cell_value, "revoked_by"},
    NO_COLUMN,
};
const struct listing list_tokens =
	{.columns = columns, .empty = "there are no tokens; make one with: taskerctl token create NAME --role read"};

static json_t *values(const struct ctl *c, const char *option)
{
	json_t *list = json_array();
	size_t pos = 0;
	for (const char *v = cli_next(c->cli, option, &pos); v; v = cli_next(c->cli, option, &pos))
		json_array_append_new(list, json_string(v));
	return list;
}

/* --expires into params; 0, or an exit code after having said why. */
static int set_expiry(const struct ctl *c, json_t *params)
{
	const char *given = cli_get(c->cli, "expires");
	if (given && strcmp(given, "never") == 0)
		return EXIT_OK;
	return ctl_set_time(c, params, "expires_at", "expires", given ? given : LIFE_BY_DEFAULT);
}

int run_token_create(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_pack("{s:s}", "name", c->cli->args[0]), *answer = NULL;
	if (!cli_has(c->cli, "role"))
		return ctl_fail(c, EXIT_USAGE,
		                "what for? --role read, submit, work, operate or admin is needed; it may be repeated");
	json_object_set_new(params, "roles", values(c, "role"));
	if (cli_has(c->cli, "namespace"))
		json_object_set_new(params, "namespaces", values(c, "namespace"));
	operate_by_whom(c, params);
	int code = set_expiry(c, params);
	if (code == EXIT_OK)
		code = ctl_call(c, "token.create", json_incref(params), &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	ctl_say("%s\n", json_text(answer, "token"));
	const char *until = json_text(answer, "expires_at");
	ctl_note(
		c,
		"This is token %s, shown this once and kept nowhere. It is good %s%s; end it with: taskerctl token revoke %s",
		json_text(answer, "id"), *until ? "until " : "until it is revoked", until, json_text(answer, "id"));
	return EXIT_OK;
}

static int revoke_one(struct ctl *c, const char *token, json_t *all)
{
	json_t *params = json_pack("{s:s}", "token", token), *answer = NULL;
	struct tasker_error err = {0};
	operate_by_whom(c, params);
	if (ctl_try(c, "token.revoke", params, &answer, &err) < 0) {
		json_array_append_new(all,
		                      json_pack("{s:s,s:o}", "token", token, "error", ctl_error_json(c, &err, NULL)));
		return ctl_complain(c, token, &err);
	}
	if (!c->cli->json)
		ctl_say("%s %s revoked\n", json_text(answer, "id"), json_text(answer, "name"));
	json_array_append_new(all, answer);
	return EXIT_OK;
}

int run_token_revoke(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *answers = json_array();
	int first = ctl_connect(c);
	if (first)
		return first;
	for (int i = 0; i < c->cli->nargs; i++) {
		int code = revoke_one(c, c->cli->args[i], answers);
		first = first ? first : code;
	}
	if (c->cli->json)
		ctl_print_json(c, answers, false);
	return first;
}
