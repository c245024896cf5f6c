/* logs: what the journal holds about a task. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/taskerctl/journal.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"

struct lines {
	struct ctl *c;
	const char *task, *step;
	size_t n;
};

/* A field of journalctl's JSON: a string, or an array of bytes if it was not text. */
static const char *field(const json_t *entry, const char *key)
{
	const json_t *v = json_object_get(entry, key);
	return json_is_string(v) ? json_string_value(v) : json_is_array(v) ? "(not text)" : "";
}

static const char *level_colour(const char *priority)
{
	return *priority >= '0' && *priority <= '3' ? "31" : *priority == '4' ? "33" : NULL;
}

static void print_entry(const struct ctl *c, const json_t *e)
{
	char at[40], clean[64];
	const char *step = field(e, "TASKER_STEP_NAME"), *priority = field(e, "PRIORITY"),
		   *colour = c->colour ? level_colour(priority) : NULL;
	cleanup_(cleanup_buf) struct buf b = {0};
	if (!*step)
		step = field(e, "TASKER_STEP");
	buf_init(&b, 0);
	text_copy(clean, sizeof clean, field(e, "SYSLOG_IDENTIFIER"));
	buf_printf(&b, "%s %s[%s] ", time_text(strtoll(field(e, "__REALTIME_TIMESTAMP"), NULL, 10), at), clean,
	           field(e, "_PID"));
	if (*step) {
		text_put(&b, step, 0);
		buf_append_str(&b, ": ");
	}
	buf_printf(&b, "%s%s%s", colour ? "\033[" : "", colour ? colour : "", colour ? "m" : "");
	text_put(&b, field(e, "MESSAGE"), 0);
	buf_append_str(&b, colour ? "\033[0m\n" : "\n");
	ctl_write(&b);
}

static void take_line(struct lines *l, const char *text, size_t n)
{
	cleanup_(cleanup_json) json_t *entry = json_loadb(text, n, 0, NULL);
	if (!entry)
		return;
	l->n++;
	if (l->c->cli->json)
		ctl_print_json(l->c, entry, true);
	else
		print_entry(l->c, entry);
	(void)ctl_flush();
}

#define ARGS_MAX 24

/* What journalctl is asked for. Both the daemon's lines and those that workers write themselves carry the task. */
static void make_args(const struct lines *l, const char *since, char match[2][64], const char *argv[ARGS_MAX])
{
	const struct ctl *c = l->c;
	const char *lines = cli_get(c->cli, "lines"), *directory = getenv("TASKERCTL_JOURNAL");
	size_t n = 0;
	argv[n++] = "journalctl";
	argv[n++] = "--output=json";
	argv[n++] = "--all";
	argv[n++] = "--no-pager";
	argv[n++] = "--quiet";
	argv[n++] = cli_has(c->cli, "follow") ? "--follow" : "--no-tail";
	if (directory && *directory) {
		argv[n++] = "--directory";
		argv[n++] = directory;
	}
	if (since) {
		argv[n++] = "--since";
		argv[n++] = since;
	}
	if (lines) {
		argv[n++] = "--lines";
		argv[n++] = lines;
	}
	snprintf(match[0], 64, "TASKER_TASK=%.36s", l->task);
	argv[n++] = match[0];
	if (l->step) {
		snprintf(match[1], 64, "TASKER_STEP=%.36s", l->step);
		argv[n++] = match[1];
	}
	argv[n] = NULL;
}

/* Start it with its output in a pipe. The stream, or NULL with errno. */
static FILE *start(const char *const argv[], pid_t *ret_pid)
{
	int fd[2];
	if (pipe(fd) < 0)
		return NULL;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(fd[1], STDOUT_FILENO);
		close(fd[0]);
		close(fd[1]);
		char *copy[ARGS_MAX];
		memcpy(copy, argv, sizeof copy);
		execvp(copy[0], copy);
		_exit(127);
	}
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return NULL;
	}
	*ret_pid = pid;
	return fdopen(fd[0], "r");
}

/* `since` as RFC 3339, or NULL. */
static int run_journalctl(struct ctl *c, struct lines *l, const char *since)
{
	char from[40];
	int64_t us;
	const char *argv[ARGS_MAX] = {NULL};
	char match[2][64];
	cleanup_(cleanup_free) char *text = NULL;
	size_t cap = 0;
	int status = 0;
	pid_t pid;
	ssize_t n;
	if (since && parse_time(since, &us) == 0) { /* journalctl has its own way of writing times */
		snprintf(from, sizeof from, "@%lld", (long long)(us / 1000000));
		since = from;
	}
	make_args(l, since, match, argv);
	FILE *f = start(argv, &pid);
	if (!f)
		return ctl_fail(c, EXIT_NO, "journalctl cannot be started: %s", strerrordesc_np(errno));
	while ((n = getline(&text, &cap, f)) >= 0)
		take_line(l, text, (size_t)n);
	fclose(f);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return ctl_fail(
			c, EXIT_NO,
			"there is no journalctl: the daemon's log is where its standard error goes; search it for %s",
			l->task);
	/* It ends with 1 when nothing fits. */
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? EXIT_OK : ctl_fail(c, EXIT_NO, "journalctl has failed");
}

int journal_show(struct ctl *c, const char *task, const char *step)
{
	struct lines l = {.c = c, .task = task, .step = step};
	cleanup_(cleanup_json) json_t *when = json_object();
	int64_t lines = 0;
	int code = ctl_time_option(c, "since", when, "since");
	if (code == EXIT_OK)
		code = ctl_int_option(c, "lines", 1, 1000000, &lines);
	if (code == EXIT_OK)
		code = run_journalctl(c, &l, json_string_value(json_object_get(when, "since")));
	if (code == EXIT_OK && l.n == 0)
		ctl_note(
			c,
			"the journal has nothing about it that you may read (are you in the group systemd-journal? does the daemon run under systemd?); see also: taskerctl task history %s",
			task);
	return code;
}

int run_logs(struct ctl *c)
{
	for (int i = 0; i < c->cli->nargs; i++)
		if (!is_uuid(c->cli->args[i]))
			return ctl_fail(
				c, EXIT_USAGE,
				"%s is not the uuid of a %s\nsee what there is with: taskerctl task list, taskerctl task get UUID",
				c->cli->args[i], i == 0 ? "task" : "step");
	return journal_show(c, c->cli->args[0], c->cli->nargs > 1 ? c->cli->args[1] : NULL);
}
