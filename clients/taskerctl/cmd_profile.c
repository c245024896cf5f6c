/* profile list, profile show. */
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/profile.h"

static void cleanup_profiles(struct profiles *p)
{
	profiles_done(p);
}

/* All, and the one that holds. An exit code, after having said why. */
static int look(const struct ctl *c, struct profiles *all, const struct profile **now)
{
	cleanup_(cleanup_buf) struct buf why = {0};
	buf_init(&why, 0);
	bool read = profiles_read(all, &why) == 0;
	if (read && profile_choose(all, c->cli, now, &why) == 0)
		return EXIT_OK;
	const char *text = buf_text(&why);
	ctl_warn("taskerctl: %s%s", read ? "" : "the profiles cannot be used\n", text ? text : "");
	return EXIT_USAGE;
}

static json_t *profile_json(const struct profile *p, bool now)
{
	json_t *j = json_pack("{s:s,s:b,s:s,s:i}", "name", p->name, "current", now, "file", p->file, "line", (int)p->line);
	for (size_t i = 0; i < PROFILE_KEYS; i++)
		if (p->values[i])
			json_object_set_new(j, profile_key_names[i], json_string(p->values[i]));
	return j;
}

static void add_profile(struct table *t, const struct profile *p, bool now)
{
	table_cellf(t, now ? "32" : NULL, "%s%s", p->name, now ? " *" : "");
	table_cell(t, NULL, p->values[PROFILE_SOCKET]);
	table_cell(t, NULL, p->values[PROFILE_NAMESPACE]);
	table_cell(t, NULL, p->values[PROFILE_OUTPUT]);
	table_cellf(t, NULL, "%s:%u", p->file, p->line);
	table_cell(t, NULL, p->values[PROFILE_COLOR]);
	table_cell(t, NULL, p->values[PROFILE_PAGER]);
	table_cell(t, NULL, p->values[PROFILE_TIMEOUT]);
}

int run_profile_list(struct ctl *c)
{
	static const struct column cols[] = {{"PROFILE", false, false}, {"SOCKET", false, true}, {"NAMESPACE", false, true}, {"OUTPUT", false, false},
	                                     {"WHERE", false, true},    {"COLOR", false, false}, {"PAGER", false, true},     {"TIMEOUT", false, false}};
	cleanup_(cleanup_table) struct table t = {0};
	cleanup_(cleanup_profiles) struct profiles all = {0};
	cleanup_(cleanup_json) json_t *list = json_array(), *answer = json_pack("{s:O}", "profiles", list);
	const struct profile *now = NULL;
	char paths[2][512];
	int code = look(c, &all, &now);
	if (code)
		return code;
	table_init(&t, cols, sizeof cols / sizeof *cols);
	table_wide(&t, 5);
	for (size_t i = 0; i < all.n; i++) {
		add_profile(&t, &all.items[i], now == &all.items[i]);
		json_array_append_new(list, profile_json(&all.items[i], now == &all.items[i]));
	}
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else if (all.n > 0)
		ctl_print_table(c, &t, 0);
	else
		ctl_note(c, "no profiles; write some into %s, see taskerctl-profile(1)", profile_files(paths) ? paths[0] : "taskerctl.yaml");
	return EXIT_OK;
}

static int show_none(const struct ctl *c)
{
	char socket[512] = "";
	tasker_default_socket(socket, sizeof socket);
	cleanup_(cleanup_json) json_t *j = json_pack("{s:n,s:s}", "name", "socket", socket);
	if (c->cli->json) {
		ctl_print_json(c, j, false);
		return EXIT_OK;
	}
	ctl_fact(c, "profile", "none");
	ctl_fact(c, "socket", socket);
	return EXIT_OK;
}

int run_profile_show(struct ctl *c)
{
	cleanup_(cleanup_profiles) struct profiles all = {0};
	cleanup_(cleanup_buf) struct buf why = {0};
	const struct profile *p = NULL;
	buf_init(&why, 0);
	int code = look(c, &all, &p);
	if (code)
		return code;
	bool now = c->cli->nargs == 0;
	if (!now && !(p = profile_find(&all, c->cli->args[0], &why)))
		return ctl_fail(c, EXIT_NOT_FOUND, "there is no profile %s; see: taskerctl profile list", c->cli->args[0]);
	if (!p)
		return show_none(c);
	cleanup_(cleanup_json) json_t *j = profile_json(p, now);
	if (c->cli->json) {
		ctl_print_json(c, j, false);
		return EXIT_OK;
	}
	ctl_fact(c, "profile", p->name);
	for (size_t i = 0; i < PROFILE_KEYS; i++)
		ctl_fact(c, profile_key_names[i], p->values[i]);
	ctl_say("%-14s %s:%u\n", "where", p->file, p->line);
	return EXIT_OK;
}
