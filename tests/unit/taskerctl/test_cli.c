/* taskerctl: the command line taken apart. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/cli.h"
#include "clients/taskerctl/exits.h"
#include "daemon/core/states.h"
#include "protocol/msg.h"

static struct cli cli;
static struct buf why;
static char *words[40];
static int nwords;

/* Parse "a b c", split at blanks. */
static int parse(const char *line)
{
	static char copy[400];
	char *save = NULL;
	ck_assert_uint_lt(strlen(line), sizeof copy);
	memcpy(copy, line, strlen(line) + 1);
	static char self[] = "taskerctl";
	nwords = 0;
	words[nwords++] = self;
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		words[nwords++] = w;
	words[nwords] = NULL;
	buf_done(&why);
	buf_init(&why, 0);
	return cli_parse(nwords, words, &cli, &why);
}

static const char *title(void)
{
	static char dst[64];
	return cli.verb ? verb_title(cli.verb, dst) : "";
}

START_TEST(verbs_of_one_and_two_words)
{
	ck_assert_int_eq(parse("doctor"), 0);
	ck_assert_str_eq(title(), "doctor");
	ck_assert_int_eq(parse("task get abc"), 0);
	ck_assert_str_eq(title(), "task get");
	ck_assert_int_eq(cli.nargs, 1);
	ck_assert_str_eq(cli.args[0], "abc");
	ck_assert_int_eq(cli.timeout_ms, -1);
	ck_assert_ptr_null(cli.socket);
}
END_TEST

START_TEST(global_options_go_anywhere)
{
	static const char *const lines[] = {
	    "--socket /s --json --timeout 2m -q --color never task wait a b",
	    "task wait --socket /s a --json b --timeout 2m -q --color=never",
	    "-s /s task wait -jq a b --timeout=2m --color never",
	    "-qj --sock /s --time 120 --col never task wait -- a b",
	};
	ck_assert_int_eq(parse(lines[_i]), 0);
	ck_assert_str_eq(title(), "task wait");
	ck_assert_str_eq(cli.socket, "/s");
	ck_assert(cli.json && cli.quiet && !cli.help);
	ck_assert_int_eq(cli.timeout_ms, 120000);
	ck_assert_int_eq(cli.colour, COLOUR_NEVER);
	ck_assert_int_eq(cli.nargs, 2);
	ck_assert_str_eq(cli.args[0], "a");
	ck_assert_str_eq(cli.args[1], "b");
}
END_TEST

START_TEST(options_of_a_verb)
{
	ck_assert_int_eq(parse("task create shop/order -t x --tag=y --priority -5 -k k1 -k k2 --wait"), 0);
	size_t pos = 0;
	ck_assert_str_eq(cli_next(&cli, "tag", &pos), "x");
	ck_assert_str_eq(cli_next(&cli, "tag", &pos), "y");
	ck_assert_ptr_null(cli_next(&cli, "tag", &pos));
	ck_assert_str_eq(cli_get(&cli, "priority"), "-5");
	ck_assert_str_eq(cli_get(&cli, "key"), "k2");
	ck_assert(cli_has(&cli, "wait"));
	ck_assert(!cli_has(&cli, "from"));
	ck_assert_int_eq(parse("template validate -"), 0);
	ck_assert_str_eq(cli.args[0], "-");
}
END_TEST

START_TEST(help_needs_nothing_else)
{
	ck_assert_int_eq(parse("--help"), 0);
	ck_assert(cli.help && !cli.verb && !cli.group);
	ck_assert_int_eq(parse("task --help"), 0);
	ck_assert(cli.help && !cli.verb);
	ck_assert_str_eq(cli.group->name, "task");
	ck_assert_int_eq(parse("task wait --help"), 0);
	ck_assert(cli.help);
	ck_assert_str_eq(title(), "task wait");
	ck_assert_int_eq(parse("-V"), 0);
	ck_assert(cli.version);
}
END_TEST

static const struct {
	const char *line, *want; /* a part of the complaint */
} bad[] = {
    {"", "usage: taskerctl"},
    {"task", "usage: taskerctl task COMMAND"},
    {"taks list", "did you mean task?"},
    {"task lisst", "did you mean task list?"},
    {"docter", "did you mean doctor?"},
    {"xyzzy", "unknown command xyzzy"},
    {"--nonsense task list", "unknown option --nonsense"},
    {"task list --limt 5", "did you mean --limit?"},
    {"task list --limt=5", "did you mean --limit?"},
    {"task list --limit", "--limit needs an argument: N"},
    {"task list -l", "--limit needs an argument: N"},
    {"task list -z", "unknown option -z"},
    {"task list --all=5", "--all takes no argument"},
    {"task list --na x", "more than one option begins with --na"},
    {"task list extra", "what is this for: extra"},
    {"task get", "something is missing"},
    {"task get a b", "what is this for: b"},
    {"--color red task list", "--color: red is not a time for colours\n  there are: auto, always, never"},
    {"task list --timeout soon", "--timeout: soon is not a duration"},
    {"task list --wait", "unknown option --wait"}, /* another verb's */
    {"task list --state complte", "--state: complte is not the state of a task; did you mean complete?"},
    {"task list --state=paused", "there are: pending, initializing, "},
    {"task list -o yaml", "--output: yaml is not a kind of output\n  there are: table, wide, json, jsonl"},
    {"template graph x -o json", "--output names a file here, and json would be one\n  for JSON: --json"},
    {"task list --state=", "--state: nothing is not the state of a task"},
};

START_TEST(complaints_say_what_and_what_else)
{
	ck_assert_int_eq(parse(bad[_i].line), -EINVAL);
	const char *text = buf_text(&why);
	ck_assert_msg(strstr(text, bad[_i].want) != NULL, "%s\n%s", bad[_i].line, text);
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
}
END_TEST

START_TEST(too_many_options_are_refused)
{
	static char line[] = "task list -a", self[] = "taskerctl", all[] = "-a", task[] = "task",
	            list[] = "list";
	static char *many[CLI_MAX_OPTIONS + 8];
	(void)line;
	int n = 0;
	many[n++] = self;
	many[n++] = task;
	many[n++] = list;
	for (unsigned i = 0; i <= CLI_MAX_OPTIONS; i++)
		many[n++] = all;
	buf_done(&why);
	buf_init(&why, 0);
	ck_assert_int_eq(cli_parse(n, many, &cli, &why), -EINVAL);
	ck_assert_int_eq(cli_parse(n - 1, many, &cli, &why), 0);
}
END_TEST

/* ---- the tables ---- */

START_TEST(every_verb_is_complete)
{
	FOR_EACH_VERB(g, v) {
		ck_assert(g->summary || !g->name);
		ck_assert(v->summary && v->run);
		ck_assert(v->max_args == -1 || v->max_args >= v->min_args);
		ck_assert_int_eq(v->args != NULL, v->max_args != 0);
		ck_assert_int_ne(v->summary[strlen(v->summary) - 1], '.');
		ck_assert_msg(!v->asks || msg_find(v->asks, strlen(v->asks), MSG_TO_DAEMON) >= 0, "%s", v->name);
		ck_assert_msg(v->flags & VERB_HIDDEN || v->examples[0].command, "%s has no example", v->name);
		for (size_t i = 0; i < 4 && v->exits[i].means; i++)
			ck_assert_ptr_nonnull(exit_code_meaning(v->exits[i].code));
		for (const struct opt *o = v->opts; o && o->name; o++) {
			ck_assert_ptr_nonnull(o->help);
			ck_assert(o->arg || !o->kind);
			for (const struct opt *all = global_options; all->name; all++) {
				if (o->kind && (o->kind->files || o->kind->dirs) && strcmp(o->name, "output") == 0)
					continue; /* names a file there */
				ck_assert_str_ne(o->name, all->name);
				ck_assert(!o->letter || o->letter != all->letter);
			}
			for (const struct opt *p = v->opts; p < o; p++) {
				ck_assert_str_ne(o->name, p->name);
				ck_assert(!o->letter || o->letter != p->letter);
			}
		}
	}
}
END_TEST

static void same_words(const struct kind *k, const struct state_info *states, int n)
{
	int i = 0;
	for (; i < n && k->words[i]; i++)
		ck_assert_str_eq(k->words[i], states[i].name);
	ck_assert(i == n && !k->words[i]);
}

START_TEST(states_are_those_of_the_daemon)
{
	same_words(&kind_task_state, task_states, TASK_STATE_COUNT);
	same_words(&kind_step_state, step_states, STEP_STATE_COUNT);
	int finals = 0;
	for (int i = 0; i < TASK_STATE_COUNT; i++)
		if (task_states[i].flags & STATE_FINISHED)
			ck_assert_str_eq(kind_final_state.words[finals++], task_states[i].name);
	ck_assert_ptr_null(kind_final_state.words[finals]);
}
END_TEST

START_TEST(roles_come_from_the_protocol)
{
	static const char *const cases[][2] = {{"task get", "read"},
	                                       {"task create", "submit"},
	                                       {"task cancel", "operate"},
	                                       {"template apply", "admin"}};
	for (size_t i = 0; i < 4; i++) {
		parse(cases[i][0]);
		ck_assert_str_eq(verb_role(cli.verb), cases[i][1]);
	}
	parse("template validate x");
	ck_assert_ptr_null(verb_role(cli.verb));
}
END_TEST

START_TEST(help_names_every_option)
{
	FOR_EACH_VERB(g, v) {
		struct buf b;
		buf_init(&b, 0);
		help_verb(&b, v);
		for (const struct opt *o = v->opts; o && o->name; o++)
			ck_assert_ptr_nonnull(strstr(buf_text(&b), o->name));
		buf_done(&b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("taskerctl");
	TCase *c = tcase_create("command line");
	tcase_add_test(c, verbs_of_one_and_two_words);
	tcase_add_loop_test(c, global_options_go_anywhere, 0, 4);
	tcase_add_test(c, options_of_a_verb);
	tcase_add_test(c, help_needs_nothing_else);
	tcase_add_loop_test(c, complaints_say_what_and_what_else, 0, (int)(sizeof bad / sizeof *bad));
	tcase_add_test(c, too_many_options_are_refused);
	tcase_add_test(c, every_verb_is_complete);
	tcase_add_test(c, states_are_those_of_the_daemon);
	tcase_add_test(c, roles_come_from_the_protocol);
	tcase_add_test(c, help_names_every_option);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
