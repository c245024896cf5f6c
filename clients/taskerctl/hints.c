#include "clients/taskerctl/hints.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The first that fits holds. {verb} is the command that was run, {args} its arguments, {1} the first of them. */
static const struct {
	const char *code, *group, *verb; /* NULL: any */
	const char *hint;
} table[] = {
	{"unreachable", NULL, NULL,
         "start it with: systemctl start taskerd; see why it does not run with: systemctl status taskerd; or say where its socket is with --socket PATH or TASKERD_SOCKET"},
	{"connection_lost", NULL, NULL,
         "taskerd may be restarting: run the command again, or see how it is with: taskerctl version; tasks go on without it"},
	{"timeout", NULL, NULL,
         "allow more time with --timeout 2m; see whether taskerd has its database with: taskerctl version"},
	{"protocol_error", NULL, NULL, "compare the versions of taskerctl and taskerd with: taskerctl version"},
	{"unsupported_version", NULL, NULL,
         "use the taskerctl that belongs to this taskerd; compare the versions with: taskerctl version"},
	{"unknown_method", NULL, NULL,
         "this taskerd does not know the request: compare the versions with: taskerctl version"},
	{"invalid_value", NULL, NULL,
         "only JSON can be stored: finite numbers, text without NUL, integers of 64 bits; see: taskerctl help {verb}"},
	{"too_large", "task", "get", "leave the steps out with: taskerctl task get {1} --no-steps"},
	{"too_large", NULL, NULL,
         "send less at a time, or raise the limit in taskerd's configuration; what holds is shown by: taskerctl config show"},
	{"congested", NULL, NULL, "try again in a moment; see what goes on with: taskerctl stats --once"},
	{"overloaded", NULL, NULL, "try again in a moment; see what goes on with: taskerctl stats --once"},
	{"database_unavailable", NULL, NULL,
         "taskerd reconnects by itself: try again; see how its database is with: taskerctl version"},
	{"shutting_down", NULL, NULL, "try again when taskerd is back; see whether it is with: taskerctl version"},
	{"permission_denied", NULL, NULL,
         "see which role is needed with: taskerctl help {verb}; roles are given in taskerd's configuration, see taskerd.conf(5)"},
	{"internal", NULL, NULL,
         "this is a defect of taskerd: keep what its log says, journalctl -u taskerd, and: taskerctl doctor"},
	{"invalid_context", NULL, NULL,
         "see the template's input_schema with: taskerctl template show {1} --definition"},
	{"invalid_template", "template", NULL,
         "mend what is listed, and check it without the daemon with: taskerctl template validate {args}"},
	{"template_not_found", "task", "create",
         "see what there is with: taskerctl template list; register it with: taskerctl template apply FILE"},
	{"template_not_found", NULL, NULL, "see what there is with: taskerctl template list"},

	{"not_found", "template", NULL, "see what there is with: taskerctl template list"},
	{"not_found", "generate", NULL, "see what there is with: taskerctl template list"},
	{"not_found", "task", "create", "see what there is with: taskerctl template list"},
	{"not_found", "step", NULL,
         "see the steps of a task with: taskerctl task get UUID; see the tasks with: taskerctl task list"},
	{"not_found", "worker", NULL, "see who is connected with: taskerctl worker list"},
	{"not_found", "node", NULL, "see what there is with: taskerctl node list"},
	{"not_found", "queue", NULL, "see what there is with: taskerctl queue list"},
	{"not_found", "namespace", NULL, "see what there is with: taskerctl namespace list"},
	{"not_found", "events", NULL, "see which namespaces there are with: taskerctl namespace list"},
	{"not_found", "dlq", NULL, "see what there is with: taskerctl dlq list"},
	{"not_found", "token", NULL, "see what there is with: taskerctl token list --all"},
	{"not_found", NULL, NULL, "see what there is with: taskerctl task list"},

	{"conflict", "template", NULL,
         "running tasks keep the version they began with: give the changed template a new version; see those there are with: taskerctl template list"},
	{"conflict", "task", "create",
         "there is a task with this key: find it with: taskerctl task list; give the new one another --key"},
	{"conflict", "task", "restore",
         "the namespace has this template with other content: restore into another with --namespace; see those there are with: taskerctl namespace list"},
	{"conflict", "task", NULL,
         "see how it stands with: taskerctl task get {1}; who did what: taskerctl task history {1}"},
	{"conflict", "step", NULL, "see how it stands with: taskerctl step get {args}"},
	{"conflict", "worker", NULL, "see who is connected with: taskerctl worker list"},
	{"conflict", "queue", NULL, "see which are paused, since when and by whom with: taskerctl namespace list"},
	{"conflict", "namespace", NULL, "see which are paused, since when and by whom with: taskerctl namespace list"},
	{"conflict", "dlq", NULL, "see the entry with: taskerctl dlq show {1}"},
	{"conflict", "token", NULL, "see what there is with: taskerctl token list"},
};

static bool fits(const char *wanted, const char *is)
{
	return !wanted || (is && strcmp(wanted, is) == 0);
}

static const char *find(const char *code, const struct cli *cli)
{
	const struct group *g = cli->verb ? verb_group(cli->verb) : NULL;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (strcmp(table[i].code, code) == 0 && fits(table[i].group, g ? g->name : NULL) &&
		    fits(table[i].verb, cli->verb ? cli->verb->name : NULL))
			return table[i].hint;
	return NULL;
}

/* What can be typed as it is: a command to copy must not do something else. */
static bool is_plain(const char *word)
{
	return *word && *word != '-' &&
	       word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@:+,=%")] == '\0';
}

/* The arguments; if one of them cannot be typed, what the verb calls them. */
static void put_args(struct buf *b, const struct cli *cli, int most)
{
	int n = cli->nargs < most ? cli->nargs : most;
	bool plain = n > 0;
	for (int i = 0; i < n; i++)
		plain = plain && is_plain(cli->args[i]);
	if (!plain)
		buf_append_str(b, cli->verb && cli->verb->args ? cli->verb->args : "UUID");
	for (int i = 0; plain && i < n; i++)
		buf_printf(b, "%s%s", i ? " " : "", cli->args[i]);
}

static void put_verb(struct buf *b, const struct cli *cli)
{
	char title[64];
	if (cli->verb)
		buf_append_str(b, verb_title(cli->verb, title));
}

static void put_words(struct buf *b, const char *hint, const struct cli *cli)
{
	for (const char *at; (at = strchr(hint, '{')); hint = strchr(at, '}') + 1) {
		buf_printf(b, "%.*s", (int)(at - hint), hint);
		if (strncmp(at, "{verb}", 6) == 0)
			put_verb(b, cli);
		else
			put_args(b, cli, strncmp(at, "{1}", 3) == 0 ? 1 : INT32_MAX);
	}
	buf_append_str(b, hint);
}

void put_help_hint(struct buf *b, const struct cli *cli)
{
	put_words(b, cli->verb ? "see: taskerctl help {verb}" : "see: taskerctl help", cli);
}

void put_hint(struct buf *b, const struct tasker_error *err, const struct cli *cli)
{
	const char *hint = find(err->code, cli);
	char socket[256] = "";
	if (err->rc == -EACCES) {
		if (!cli->socket)
			tasker_default_socket(socket, sizeof socket);
		buf_printf(
			b,
			"your user may not open the socket: join its group, or run this as its owner; see who that is with: ls -l %s",
			cli->socket && is_plain(cli->socket) ? cli->socket
			: *socket                            ? socket
							     : "SOCKET");
	} else if (hint) {
		put_words(b, hint, cli);
	} else {
		put_help_hint(b, cli);
	}
}
