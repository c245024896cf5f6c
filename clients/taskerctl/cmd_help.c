/* help: for people as text, for programs the table of commands as JSON. */
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/list.h"

static json_t *kind_json_of(const struct kind *k)
{
	json_t *j = json_pack("{s:s}", "name", k->name);
	for (size_t i = 0; k->words && k->words[i]; i++) {
		if (i == 0)
			json_object_set_new(j, k->what ? "only" : "among_others", json_array());
		json_array_append_new(json_object_get(j, k->what ? "only" : "among_others"), json_string(k->words[i]));
	}
	return j;
}

static json_t *options_json(const struct opt *opts, const struct verb *unless)
{
	json_t *all = json_array();
	for (; opts && opts->name; opts++) {
		char letter[2] = {opts->letter, '\0'};
		if (verb_hides(unless, opts))
			continue;
		json_t *o = json_pack("{s:s,s:s*,s:s*,s:s}", "name", opts->name, "letter", opts->letter ? letter : NULL,
		                      "argument", opts->arg, "help", opts->help);
		if (opts->kind)
			json_object_set_new(o, "kind", kind_json_of(opts->kind));
		json_array_append_new(all, o);
	}
	return all;
}

static json_t *kinds_json(const struct verb *v)
{
	json_t *all = json_array();
	for (size_t i = 0; i < sizeof v->kinds / sizeof *v->kinds && v->kinds[i]; i++)
		json_array_append_new(all, kind_json_of(v->kinds[i]));
	return all;
}

static json_t *exits_json(const struct verb *v)
{
	json_t *all = json_array();
	for (size_t i = 0; i < sizeof v->exits / sizeof *v->exits && v->exits[i].means; i++)
		json_array_append_new(all,
		                      json_pack("{s:i,s:s}", "code", v->exits[i].code, "means", v->exits[i].means));
	return all;
}

static json_t *examples_json(const struct verb *v)
{
	json_t *all = json_array();
	for (size_t i = 0; i < sizeof v->examples / sizeof *v->examples && v->examples[i].command; i++)
		json_array_append_new(all, json_pack("{s:s,s:s}", "what", v->examples[i].what, "command",
		                                     v->examples[i].command));
	return all;
}

static json_t *columns_json(const struct verb *v, bool wide)
{
	json_t *all = json_array();
	for (const struct column *col = v->listing ? v->listing->columns : NULL; col && col->title; col++)
		if (!(col->flags & COL_WIDE) == !wide)
			json_array_append_new(all, json_string(col->title));
	return all;
}

static json_t *verb_json(const struct group *g, const struct verb *v)
{
	json_t *j =
		json_pack("{s:s?,s:s,s:s,s:s,s:s*,s:i}", "group", g->name, "command", v->name, "arguments",
	                  v->args ? v->args : "", "summary", v->summary, "help", v->help, "min_arguments", v->min_args);
	json_object_set_new(j, "max_arguments", v->max_args < 0 ? json_null() : json_integer(v->max_args));
	json_object_set_new(j, "role", verb_role(v) ? json_string(verb_role(v)) : json_null());
	json_object_set_new(j, "asks", v->asks ? json_string(v->asks) : json_null());
	json_object_set_new(j, "list", v->list ? json_string(v->list) : json_null());
	json_object_set_new(j, "waits", json_boolean(v->flags & VERB_WAITS));
	json_object_set_new(j, "argument_kinds", kinds_json(v));
	json_object_set_new(j, "options", options_json(v->opts, NULL));
	json_object_set_new(j, "exit_codes", exits_json(v));
	json_object_set_new(j, "columns", columns_json(v, false));
	json_object_set_new(j, "wide_columns", columns_json(v, true));
	json_object_set_new(j, "examples", examples_json(v));
	return j;
}

/* Everything of a group, of a verb, or all. */
static void print_commands(const struct ctl *c, const struct group *group, const struct verb *verb)
{
	cleanup_(cleanup_json) json_t *commands = json_array(), *groups_list = json_array(), *exits = json_array();
	FOR_EACH_VERB(g, v) {
		if (v == g->verbs && g->name)
			json_array_append_new(groups_list,
			                      json_pack("{s:s,s:s}", "name", g->name, "summary", g->summary));
		if (!(v->flags & VERB_HIDDEN) && (!group || g == group) && (!verb || v == verb))
			json_array_append_new(commands, verb_json(g, v));
	}
	for (int i = 0; exit_code_meaning(i); i++)
		json_array_append_new(exits, json_pack("{s:i,s:s}", "code", i, "means", exit_code_meaning(i)));
	cleanup_(cleanup_json) json_t *j =
		json_pack("{s:O,s:o,s:O,s:O}", "groups", groups_list, "options", options_json(global_options, NULL),
	                  "exit_codes", exits, "commands", commands);
	ctl_print_json(c, j, false);
}

int run_help(struct ctl *c)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	int words = 0, n = c->cli->nargs;
	char **args = c->cli->args;
	const struct verb *v = verb_find(n, args, &words);
	const struct group *g = n == 1 ? group_find(args[0]) : NULL;
	buf_init(&b, 0);
	v = words == n ? v : NULL;
	if (n > 0 && !v && !g)
		return ctl_fail(c, EXIT_USAGE, "no such command: %s%s%s\nsee what there is with: taskerctl help",
		                args[0], n > 1 ? " " : "", n > 1 ? args[1] : "");
	if (c->cli->json) {
		print_commands(c, g, v);
		return EXIT_OK;
	}
	if (v)
		help_verb(&b, v);
	else if (g)
		help_group(&b, g);
	else
		help_all(&b);
	ctl_write(&b);
	return EXIT_OK;
}
