/* profile list, profile show. */
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/profile.h"

static void cleanup_profiles(struct profiles *p)
{
	profiles_done(p);
}

int profile_refuse(const struct ctl *c, bool read, struct buf *why)
{
	const char *text = buf_text(why);
	cleanup_(cleanup_free) char *all = NULL;
	if (asprintf(&all, "%s%s", read ? "" : "the profiles cannot be used\n", text ? text : "") < 0)
		all = NULL;
	return ctl_fail_text(c, EXIT_USAGE, all ? all : "out of memory");
}

/* All, and the one that holds. An exit code, after having said why. */
static int look(const struct ctl *c, struct profiles *all, const struct profile **now)
{
	cleanup_(cleanup_buf) struct buf why = {0};
	buf_init(&why, 0);
	bool read = profiles_read(all, &why) == 0;
	if (read && profile_choose(all, c->cli, now, &why) == 0)
		return EXIT_OK;
	return profile_refuse(c, read, &why);
}

static json_t *profile_json(const struct profile *p, bool now)
{
	json_t *j =
		json_pack("{s:s,s:b,s:s,s:i}", "name", p->name, "current", now, "file", p->file, "line", (int)p->line);
	for (size_t i = 0; i < PROFILE_KEYS; i++)
		if (p->values[i])
			json_object_set_new(j, profile_key_names[i], json_string(p->values[i]));
	return j;
}

static void cell_name(struct table *t, const json_t *p, const char *key)
{
	bool now = json_flag(p, "current");
	table_cellf(t, now ? "32" : NULL, "%s%s", json_text(p, key), now ? " *" : "");
}

static void cell_where(struct table *t, const json_t *p, const char *key)
{
	table_cellf(t, NULL, "%s:%lld", json_text(p, key), (long long)json_int(p, "line", 0));
}

/* No daemon is asked. */
static int read_all(struct ctl *c, json_t *params, json_t **ret)
{
	cleanup_(cleanup_profiles) struct profiles all = {0};
	const struct profile *now = NULL;
	json_t *list = json_array();
	(void)params;
	int code = look(c, &all, &now);
	for (size_t i = 0; code == EXIT_OK && i < all.n; i++)
		json_array_append_new(list, profile_json(&all.items[i], now == &all.items[i]));
	*ret = json_pack("{s:o}", "profiles", list);
	return code;
}

static const struct column columns[] = {
    {"PROFILE", 0, cell_name, "name"},
    {"SOCKET", COL_SHRINK, cell_value, "socket"},
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"OUTPUT", 0, cell_value, "output"},
    {"WHERE", COL_SHRINK, cell_where, "file"},
    {"COLOR", COL_WIDE, cell_value, "color"},
    {"PAGER", COL_WIDE, cell_value, "pager"},
    {"TIMEOUT", COL_WIDE, cell_value, "timeout"},
    NO_COLUMN,
};
const struct listing list_profiles =
	{.columns = columns,
         .empty = "no profiles; write some into the file that is named in: man taskerctl-profile",
         .ask = read_all};

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
		return ctl_fail(c, EXIT_NOT_FOUND,
		                "there is no profile %s\nsee what there is with: taskerctl profile list",
		                c->cli->args[0]);
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
