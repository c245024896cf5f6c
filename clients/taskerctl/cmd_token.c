/* token create, list, revoke. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/operate.h"
#include "clients/taskerctl/text.h"

#define LIFE_BY_DEFAULT "90d"

static const struct column cols[] = {
    {"ID", false, false},     {"NAME", false, true},    {"STATE", false, false},   {"ROLES", false, true},
    {"NAMESPACES", false, true}, {"CREATED", true, false}, {"BY", false, true}, {"EXPIRES", false, false},
    {"USED", true, false},
};

static const char *listed(const json_t *token, const char *key, struct buf *b)
{
	buf_reset(b);
	json_join(json_object_get(token, key), b);
	return buf_text(b);
}

static void add_token(struct table *t, const json_t *token)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	char age[24], expires[11];
	const char *state = json_text(token, "state");
	snprintf(expires, sizeof expires, "%s", json_text(token, "expires_at")); /* the date */
	buf_init(&b, 0);
	table_cell(t, NULL, json_text(token, "id"));
	table_cell(t, NULL, json_text(token, "name"));
	table_cell(t, strcmp(state, "active") == 0 ? "32" : "2", state);
	table_cell(t, NULL, listed(token, "roles", &b));
	table_cell(t, NULL, listed(token, "namespaces", &b));
	table_cell(t, NULL, json_age(token, "created_at", age));
	table_cell(t, NULL, json_text(token, "created_by"));
	table_cell(t, NULL, expires[0] ? expires : "never");
	table_cell(t, NULL, json_age(token, "last_used_at", age));
}

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
		return ctl_fail(c, EXIT_USAGE, "what for? --role read, submit, work, operate or admin is needed; it may be repeated");
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
	ctl_note(c, "This is token %s, shown this once and kept nowhere. It is good %s%s; end it with: taskerctl token revoke %s", json_text(answer, "id"),
	         *until ? "until " : "until it is revoked", until, json_text(answer, "id"));
	return EXIT_OK;
}

int run_token_list(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_object(), *answer = NULL;
	cleanup_(cleanup_table) struct table t = {0};
	size_t i;
	json_t *token;
	if (cli_has(c->cli, "all"))
		json_object_set_new(params, "all", json_true());
	int code = ctl_call(c, "token.list", json_incref(params), &answer);
	if (code)
		return code;
	if (c->cli->json) {
		ctl_print_json(c, answer, false);
		return EXIT_OK;
	}
	table_init(&t, cols, sizeof cols / sizeof *cols);
	json_array_foreach(json_object_get(answer, "tokens"), i, token) add_token(&t, token);
	if (table_rows(&t) == 0)
		ctl_note(c, "there are no tokens; make one with: taskerctl token create NAME --role read");
	else
		ctl_print_table(c, &t, 0);
	return EXIT_OK;
}

int run_token_revoke(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *answers = json_array();
	int worst = EXIT_OK;
	for (int i = 0; i < c->cli->nargs; i++) {
		json_t *params = json_pack("{s:s}", "token", c->cli->args[i]), *answer = NULL;
		operate_by_whom(c, params);
		int code = ctl_call(c, "token.revoke", params, &answer);
		if (code) {
			worst = code;
			continue;
		}
		if (!c->cli->json)
			ctl_say("%s %s revoked\n", json_text(answer, "id"), json_text(answer, "name"));
		json_array_append_new(answers, answer);
	}
	if (c->cli->json && (json_array_size(answers) > 0 || worst == EXIT_OK))
		ctl_print_json(c, answers, false);
	return worst;
}
