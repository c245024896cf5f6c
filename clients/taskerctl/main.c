/* taskerctl: parse the command line, run one verb, end with its exit code. */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/profile.h"
#include "protocol/utf8.h"

/* Everything given ends up in JSON or on a terminal. */
static int check_encoding(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		size_t n = strlen(argv[i]);
		if (utf8_span((const unsigned char *)argv[i], n) < n) {
			fprintf(stderr, "taskerctl: argument %d is not UTF-8\n", i);
			return -EINVAL;
		}
	}
	return 0;
}

/* --help, wherever it was written. */
static int show_help(struct cli *cli)
{
	struct ctl c = {.cli = cli};
	struct buf b;
	buf_init(&b, 0);
	if (cli->verb)
		help_verb(&b, cli->verb);
	else if (cli->group)
		help_group(&b, cli->group);
	else
		help_all(&b);
	ctl_look_at_terminal(&c);
	pager_begin(&c);
	ctl_write(&b);
	pager_end(&c);
	buf_done(&b);
	return EXIT_OK;
}

/* Who waits a second for a task does not want to be told that the daemon took longer to say hello, nor to
 * wait for hours until a daemon that hangs does. */
static int request_timeout(const struct cli *cli)
{
	bool waits = cli->verb && (cli->verb->flags & VERB_WAITS || cli_has(cli, "wait"));
	int64_t least = waits ? 5000 : 1, most = waits ? DEFAULT_TIMEOUT_MS : INT_MAX,
	        given = cli->timeout_ms;
	if (given < 0)
		return DEFAULT_TIMEOUT_MS;
	return (int)(given < least ? least : given > most ? most : given);
}

/* What the command line leaves open is as the profile has it. EXIT_OK, or EXIT_USAGE after having said why. */
static int use_profile(struct cli *cli, struct profiles *all)
{
	const struct profile *one = NULL;
	cleanup_(cleanup_buf) struct buf why = {0};
	buf_init(&why, 0);
	if (cli->verb && cli->verb->flags & VERB_NO_PROFILE)
		return EXIT_OK;
	bool read = profiles_read(all, &why) == 0;
	if (read && profile_choose(all, cli, &one, &why) == 0) {
		if (one)
			profile_apply(one, cli);
		return EXIT_OK;
	}
	return profile_refuse(&(struct ctl){.cli = cli}, read, &why);
}

static int run_verb(struct ctl *c, const struct cli *cli)
{
	c->timeout_ms = request_timeout(cli);
	ctl_look_at_terminal(c);
	if (cli->verb && cli->verb->flags & VERB_PAGES)
		pager_begin(c);
	int code = cli->version ? run_version(c) : cli->verb->run(c);
	pager_end(c);
	tasker_close(c->conn);
	return code;
}

static int run(struct cli *cli)
{
	struct ctl c = {.cli = cli};
	struct profiles profiles = {0};
	if (cli->help)
		return show_help(cli);
	int code = use_profile(cli, &profiles);
	if (code == EXIT_OK)
		code = run_verb(&c, cli);
	profiles_done(&profiles);
	return code;
}

/* What was printed must have arrived: a full disk behind stdout is a failure. A closed pipe is not. */
static int finish(int code)
{
	int failed = ctl_flush();
	if (failed && failed != EPIPE) {
		fprintf(stderr, "taskerctl: cannot write the output: %s\n", strerrordesc_np(failed));
		return code ? code : EXIT_NO;
	}
	return code;
}

/* What is wrong with the command line, which may have ended before the option that asks for JSON. */
static void complain(struct cli *cli, int argc, char **argv, const char *why)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0)
			cli->json = true;
	const struct ctl c = {.cli = cli};
	if (why && strncmp(why, "usage:", 6) == 0)
		fputs(why, stderr);
	else
		ctl_fail_text(&c, EXIT_USAGE, why ? why : "out of memory");
}

int main(int argc, char **argv)
{
	struct cli cli;
	struct buf why;
	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN);
	if (check_encoding(argc, argv) < 0)
		return EXIT_USAGE;
	buf_init(&why, 0);
	int rc = cli_parse(argc, argv, &cli, &why);
	if (rc < 0) {
		complain(&cli, argc, argv, buf_text(&why));
		buf_done(&why);
		return EXIT_USAGE;
	}
	buf_done(&why);
	return finish(run(&cli));
}
