/* Help texts, made from the tables of verbs, options and exit codes. */
#include "clients/taskerctl/cli.h"

#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/exits.h"
#include "clients/taskerctl/list.h"

#define LEFT 30

static void put_option(struct buf *b, const struct opt *o)
{
	char left[80], letter[8] = "    ";
	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
	if (strlen(left) < LEFT)
		buf_printf(b, "  %-*s%s\n", LEFT, left, o->help);
	else
		buf_printf(b, "  %s\n  %-*s%s\n", left, LEFT, "", o->help);
}

/* Those that `unless` does not have itself. */
static void put_options(struct buf *b, const char *title, const struct opt *opts, const struct verb *unless)
{
	if (!opts || !opts->name)
		return;
	buf_printf(b, "\n%s:\n", title);
	for (; opts->name; opts++)
		if (!verb_hides(unless, opts))
			put_option(b, opts);
}

static void put_verb_line(struct buf *b, const struct verb *v)
{
	char title[64], left[128];
	snprintf(left, sizeof left, "%s%s%s", verb_title(v, title), v->args ? " " : "", v->args ? v->args : "");
	if (v->flags & VERB_HIDDEN)
		return;
	if (strlen(left) < 34)
		buf_printf(b, "  %-34s%s\n", left, v->summary);
	else
		buf_printf(b, "  %s\n  %-34s%s\n", left, "", v->summary);
}

void help_group(struct buf *b, const struct group *g)
{
	buf_printf(b, "usage: taskerctl %s COMMAND\n\n%s.\n\nCommands:\n", g->name, g->summary);
	for (const struct verb *v = g->verbs; v->name; v++)
		put_verb_line(b, v);
	buf_printf(b, "\nMore about one of them: taskerctl help %s COMMAND, and taskerctl-%s(1).\n", g->name, g->name);
}

void help_all(struct buf *b)
{
	buf_append_str(b, "usage: taskerctl [OPTIONS] COMMAND [ARGUMENTS]\n\n"
	                  "Looks at and works with a running taskerd.\n\nCommands:\n");
	FOR_EACH_VERB(g, v)
		put_verb_line(b, v);
	put_options(b, "Options of every command", global_options, NULL);
	buf_append_str(b, "\nExit codes:\n");
	for (int i = 0; exit_code_meaning(i); i++)
		buf_printf(b, "  %2d  %s\n", i, exit_code_meaning(i));
	buf_append_str(
		b,
		"\nMore about a command: taskerctl help COMMAND, and taskerctl(1). Where to begin when something is wrong: taskerctl status.\n");
}

static void put_exits(struct buf *b, const struct verb *v)
{
	if (v->exits[0].means)
		buf_append_str(b, "\nExit codes of its own (all: taskerctl help):\n");
	for (size_t i = 0; i < sizeof v->exits / sizeof *v->exits && v->exits[i].means; i++)
		buf_printf(b, "  %2d  %s\n", v->exits[i].code, v->exits[i].means);
}

static void put_examples(struct buf *b, const struct verb *v)
{
	if (v->examples[0].command)
		buf_append_str(b, "\nExamples:\n");
	for (size_t i = 0; i < sizeof v->examples / sizeof *v->examples && v->examples[i].command; i++)
		buf_printf(b, "  # %s\n  %s\n", v->examples[i].what, v->examples[i].command);
}

void help_verb(struct buf *b, const struct verb *v)
{
	char title[64];
	const char *role = verb_role(v);
	buf_printf(b, "usage: taskerctl %s%s%s\n\n%s.\n", verb_title(v, title), v->args ? " " : "",
	           v->args ? v->args : "", v->summary);
	if (v->help)
		buf_printf(b, "\n%s\n", v->help);
	if (v->listing) {
		buf_append_str(b, "\nWith --output wide also: ");
		list_titles(v->listing, true, b);
		buf_append_char(b, '\n');
	}
	put_options(b, "Options", v->opts, NULL);
	put_options(b, "Options of every command", global_options, v);
	put_exits(b, v);
	put_examples(b, v);
	if (role)
		buf_printf(b, "\nNeeds the role %s, where roles are configured: see taskerd.conf(5).\n", role);
}
