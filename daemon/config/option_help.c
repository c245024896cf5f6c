/* The text of --help, from the table. */
#include <stdio.h>
#include <string.h>

#include "daemon/config/options.h"

#define WIDTH 100
#define INDENT 29

/* Append `text`, broken between words, later lines indented; `at` is the column to begin in. */
static void put_wrapped(struct buf *out, const char *text, size_t at)
{
	for (bool first = true; *text; first = false) {
		size_t n = strcspn(text, " ");
		if (at + n > WIDTH) {
			buf_printf(out, "\n%*s", INDENT, "");
			at = INDENT;
		} else if (!first) {
			buf_append_char(out, ' ');
		}
		buf_append(out, text, n);
		at += n + 1;
		text += n + strspn(text + n, " ");
	}
	buf_append_char(out, '\n');
}

static void put_row(struct buf *out, const char *left, const char *text)
{
	int n = snprintf(NULL, 0, "  %s", left);
	buf_printf(out, "  %s", left);
	if (n >= INDENT) {
		buf_append_char(out, '\n');
		n = 0;
	}
	buf_printf(out, "%*s", INDENT - n, "");
	put_wrapped(out, text, INDENT);
}

static void put_option(struct buf *out, const struct option_row *row)
{
	char left[64], text[512];
	bool optional = row->arg && row->arg[0] == '[';
	int n = snprintf(left, sizeof left, "--%s", row->name);
	for (char *c = left; *c; c++)
		*c = *c == '_' ? '-' : *c;
	if (optional)
		snprintf(left + n, sizeof left - (size_t)n, "[=DIR]");
	else if (row->arg)
		snprintf(left + n, sizeof left - (size_t)n, "=%s", row->arg);
	const char *fallback = row->note ? row->note : row->fallback;
	if (fallback)
		snprintf(text, sizeof text, "%s (default: %s)", row->help, fallback);
	else
		snprintf(text, sizeof text, "%s", row->help);
	put_row(out, left, text);
}

void options_help(struct buf *out)
{
	buf_append_str(
	    out,
	    "Usage: taskerd --embedded[=DIR] [OPTION...]\n"
	    "       taskerd --database=URI [OPTION...]\n"
	    "\n"
	    "Runs workflows of steps, kept in PostgreSQL and executed by worker processes that connect to a\n"
	    "Unix socket.\n"
	    "\n");
	for (size_t i = 0; i < option_count; i++)
		put_option(out, &option_table[i]);
	put_row(out, "-h, --help", "show this text");
	put_row(out, "-V, --version", "show the version");
	buf_append_str(
	    out,
	    "\n"
	    "An option can also be set as TASKERD_NAME in the environment (TASKERD_BATCH_MAX) or as name: "
	    "value in\n"
	    "the configuration file (batch_max: 500), except those that say what to do instead of running. "
	    "The\n"
	    "command line wins over the environment, and that over the file. SIZE may end in KiB or MiB.\n"
	    "\n"
	    "Exit status: 0 after an orderly stop, 2 for wrong options or configuration, 1 for other "
	    "failures.\n"
	    "See taskerd(8) and taskerd.conf(5).\n");
}
