/* What kind of terminal this is, if one. */
#include "clients/taskerctl/ctl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "clients/taskerctl/text.h"

static bool wants_colour(const struct ctl *c, bool tty)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	if (c->cli->colour != COLOUR_AUTO)
		return c->cli->colour == COLOUR_ALWAYS;
	return tty && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

void ctl_measure(struct ctl *c)
{
	struct winsize ws = {0};
	const char *env = getenv("COLUMNS");
	int64_t columns;
	c->width = 0;
	c->height = 24;
	if (!c->out_tty)
		return;
	c->width = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0) {
		c->width = ws.ws_col;
		c->height = ws.ws_row > 3 ? ws.ws_row : 24;
	} else if (env && parse_int(env, 20, 1000, &columns) == 0) {
		c->width = (size_t)columns;
	}
}

void ctl_look_at_terminal(struct ctl *c)
{
	c->out_tty = isatty(STDOUT_FILENO);
	c->err_tty = isatty(STDERR_FILENO);
	c->colour = wants_colour(c, c->out_tty);
	c->err_colour = wants_colour(c, c->err_tty);
	ctl_measure(c);
	/* What redraws itself must fit all the same. */
	if (c->cli->output == OUTPUT_WIDE && c->cli->verb && !(c->cli->verb->flags & VERB_WAITS))
		c->width = 0;
}
