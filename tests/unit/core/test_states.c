/* The transition tables, pair by pair against a drawing of them, and what must hold of their shape. */
#include <check.h>
#include <string.h>
#include "daemon/core/states.h"

/* One row a state, one column for each next state, both in the order of the header: s simple, c compound, .
 * nothing. */
static const char *const task_drawing[] = {
	/*                            P I E S V D R B C X K M */
	"pending                      . s . c . . . . c c s .",
	"initializing                 . . s . . s . . s . s .",
	"enqueuing_steps              . . . s . . . . . s s .",
	"steps_in_process             . . . . s . s c c c s .",
	"evaluating_results           . . s . . s . s s . s .",
	"waiting_for_dependencies     . . . . s . . . . . s .",
	"waiting_for_retry            . . s c . . . c c c s .",
	"blocked_by_failures          . . s c . . . . c s s s",
	"complete                     . . . . . . . . . . . .",
	"error                        s . . c . . . . . . . .",
	"cancelled                    . . . . . . . . . . . .",
	"resolved_manually            . . . . . . . . . . . .",
};
static const char *const step_drawing[] = {
	/*                                    P Q I O F R C X K M */
	"pending                              . s c . . s s s s s",
	"enqueued                             c . s . . s s s s s",
	"in_progress                          c c . s s s s c s s",
	"enqueued_for_orchestration           . . . . . . s s s s",
	"enqueued_as_error_for_orchestration  . . . . . s s s s s",
	"waiting_for_retry                    s c c . . . s . s s",
	"complete                             . . . . . . . . . .",
	"error                                s c c . . . s . s s",
	"cancelled                            s c . . . . . . . .",
	"resolved_manually                    . . . . . . . . . .",
};

/* Both tables behind one face. */
struct machine {
	const struct state_info *states;
	unsigned count;
	const char *const *drawing;
	bool (*may_move)(unsigned from, unsigned to, bool simple_only);
	int (*parse)(const char *name);
};

static bool task_move(unsigned from, unsigned to, bool simple_only)
{
	return task_may_move((enum task_state)from, (enum task_state)to, simple_only);
}

static bool step_move(unsigned from, unsigned to, bool simple_only)
{
	return step_may_move((enum step_state)from, (enum step_state)to, simple_only);
}

static const struct machine machines[] = {
	{task_states, TASK_STATE_COUNT, task_drawing, task_move, task_state_parse},
	{step_states, STEP_STATE_COUNT, step_drawing, step_move, step_state_parse},
};

static bool finished(const struct machine *m, unsigned state)
{
	return m->states[state].flags & STATE_FINISHED;
}

START_TEST(every_pair)
{
	const struct machine *m = &machines[_i];
	for (unsigned from = 0; from < m->count; from++) {
		const char *row = m->drawing[from], *cells = row + strcspn(row, " ");
		ck_assert_uint_eq(strlen(m->states[from].name), (size_t)(cells - row));
		ck_assert_int_eq(strncmp(row, m->states[from].name, (size_t)(cells - row)), 0);
		for (unsigned to = 0; to < m->count; to++) {
			cells += strspn(cells, " ");
			char cell = *cells++;
			ck_assert_msg(m->may_move(from, to, true) == (cell == 's') &&
					      m->may_move(from, to, false) == (cell != '.'),
				      "%s -> %s is drawn as %c", m->states[from].name, m->states[to].name,
				      cell);
		}
		ck_assert_str_eq(cells, "");
	}
}
END_TEST

START_TEST(outside_the_tables)
{
	const struct machine *m = &machines[_i];
	const unsigned odd[] = {m->count, m->count + 1, 255, ~0u};
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k <= m->count; k++) {
			ck_assert(!m->may_move(odd[i], k, false));
			ck_assert(!m->may_move(k, odd[i], false));
		}
}
END_TEST

/* Mark what can be reached from `from` by simple moves; with `inside`, only through states that are not
 * finished. */
static void reach(const struct machine *m, unsigned from, bool inside, bool *seen)
{
	for (unsigned to = 0; to < m->count; to++) {
		if (!m->may_move(from, to, true) || seen[to])
			continue;
		seen[to] = true;
		if (!inside || !finished(m, to))
			reach(m, to, inside, seen);
	}
}

START_TEST(every_state_is_reachable_from_the_first)
{
	const struct machine *m = &machines[_i];
	bool seen[16] = {true};
	reach(m, 0, false, seen);
	for (unsigned i = 0; i < m->count; i++)
		ck_assert_msg(seen[i], "nothing leads to %s", m->states[i].name);
}
END_TEST

START_TEST(every_unfinished_state_can_end)
{
	const struct machine *m = &machines[_i];
	for (unsigned from = 0; from < m->count; from++) {
		bool seen[16] = {false}, ends = false;
		reach(m, from, true, seen);
		for (unsigned i = 0; i < m->count; i++)
			ends |= seen[i] && finished(m, i);
		ck_assert_msg(finished(m, from) || ends, "%s has no way out", m->states[from].name);
	}
}
END_TEST

START_TEST(every_unfinished_state_can_be_cancelled)
{
	const struct machine *m = &machines[_i];
	unsigned cancelled = (unsigned)m->parse("cancelled");
	for (unsigned from = 0; from < m->count; from++)
		ck_assert_int_eq(m->may_move(from, cancelled, true), !finished(m, from));
}
END_TEST

START_TEST(nothing_follows_the_end)
{
	const struct machine *m = &machines[_i];
	for (unsigned from = 0; from < m->count; from++)
		for (unsigned to = 0; to < m->count; to++)
			if (finished(m, from) && m->may_move(from, to, false))
				ck_assert_str_eq(m->states[from].name, /* what can be reset */
						 m->states == task_states ? "error" : "cancelled");
}
END_TEST

START_TEST(no_state_follows_itself)
{
	const struct machine *m = &machines[_i];
	for (unsigned i = 0; i < m->count; i++)
		ck_assert(!m->may_move(i, i, false));
}
END_TEST

/* A compound move stands for two or more simple ones. */
START_TEST(compounds_are_runs_of_simple_moves)
{
	const struct machine *m = &machines[_i];
	for (unsigned from = 0; from < m->count; from++)
		for (unsigned to = 0; to < m->count; to++) {
			bool seen[16] = {false};
			reach(m, from, true, seen);
			bool compound = m->may_move(from, to, false) && !m->may_move(from, to, true);
			ck_assert_msg(!compound || seen[to], "no run from %s to %s", m->states[from].name,
				      m->states[to].name);
		}
}
END_TEST

START_TEST(names_and_back)
{
	const struct machine *m = &machines[_i];
	for (unsigned i = 0; i < m->count; i++)
		ck_assert_int_eq(m->parse(m->states[i].name), (int)i);
	ck_assert_int_eq(m->parse(""), -1);
	ck_assert_int_eq(m->parse("Pending"), -1);
	ck_assert_int_eq(m->parse("pending "), -1);
	ck_assert_int_eq(m->parse("pend"), -1);
}
END_TEST

START_TEST(flags)
{
	ck_assert_int_eq(task_state_parse("in_progress"), -1);
	ck_assert_int_eq(step_state_parse("blocked_by_failures"), -1);
	for (unsigned i = 0; i < TASK_STATE_COUNT; i++)
		if (task_states[i].flags & STATE_FINISHED)
			ck_assert(task_states[i].flags & STATE_SETTLED);
	for (unsigned i = 0; i < STEP_STATE_COUNT; i++)
		ck_assert_int_eq(!!(step_states[i].flags & STATE_SATISFIES),
				 i == STEP_COMPLETE || i == STEP_RESOLVED_MANUALLY);
	ck_assert(!(step_states[STEP_ERROR].flags & STATE_FINISHED));
	ck_assert(!(task_states[TASK_BLOCKED_BY_FAILURES].flags & STATE_FINISHED));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("states");
	TCase *tc = tcase_create("states");
	tcase_add_loop_test(tc, every_pair, 0, 2);
	tcase_add_loop_test(tc, outside_the_tables, 0, 2);
	tcase_add_loop_test(tc, every_state_is_reachable_from_the_first, 0, 2);
	tcase_add_loop_test(tc, every_unfinished_state_can_end, 0, 2);
	tcase_add_loop_test(tc, every_unfinished_state_can_be_cancelled, 0, 2);
	tcase_add_loop_test(tc, nothing_follows_the_end, 0, 2);
	tcase_add_loop_test(tc, no_state_follows_itself, 0, 2);
	tcase_add_loop_test(tc, compounds_are_runs_of_simple_moves, 0, 2);
	tcase_add_loop_test(tc, names_and_back, 0, 2);
	tcase_add_test(tc, flags);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
