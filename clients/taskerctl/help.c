/* Help texts, made from the tables of verbs, options and exit codes. */
#include "clients/taskerctl/cli.h"

#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/exits.h"

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

static void put_options(struct buf *b, const char *title, const struct opt *opts)
{
	if (!opts || !opts->name)
		return;
	buf_printf(b, "\n%s:\n", title);
	for (; opts->name; opts++)
		put_option(b, opts);
}

static void put_verb_line(struct buf *b, const struct verb *v)
{
	char title[64], left[128];
	snprintf(left, sizeof left, "%s%s%s", verb_title(v, title), *v->args ? " " : "", v->args);
	if (strlen(left) < 34)
		buf_printf(b, "  %-34s%s\n", left, v->summary);
	else
		buf_printf(b, "  %s\n  %-34s%s\n", left, "", v->summary);
}

void help_group(struct buf *b, const char *group)
{
	buf_printf(b, "usage: taskerctl %s COMMAND\n\n", group);
	for (const struct verb *v = verbs; v->name; v++)
		if (v->group && strcmp(v->group, group) == 0)
			put_verb_line(b, v);
	buf_printf(b, "\nMore about one of them: taskerctl help %s COMMAND\n", group);
}

void help_all(struct buf *b)
{
	buf_append_str(b, "usage: taskerctl [OPTIONS] COMMAND [ARGUMENTS]\n\n"
	                  "Looks at and works with a running taskerd.\n\nCommands:\n");
	for (const struct verb *v = verbs; v->name; v++)
		put_verb_line(b, v);
	put_options(b, "Options of every command", global_options);
	buf_append_str(b, "\nExit codes:\n");
	for (int i = 0; exit_code_meaning(i); i++)
		buf_printf(b, "  %d  %s\n", i, exit_code_meaning(i));
	buf_append_str(b, "\nMore about a command: taskerctl help COMMAND, and taskerctl(1).\n");
}

void help_verb(struct buf *b, const struct verb *v)
{
	char title[64];
	buf_printf(b, "usage: taskerctl %s%s%s\n\n%s.\n", verb_title(v, title), *v->args ? " " : "", v->args,
	           v->summary);
	if (v->help)
		buf_printf(b, "\n%s\n", v->help);
	put_options(b, "Options", v->opts);
	put_options(b, "Options of every command", global_options);
}
