/* The tables of daemon/core/states.h as text, for tests in other languages. One fact a line:
 *   state task|step NAME FLAGS          flags: finished, settled, satisfies, joined by commas, or -
 *   move task|step FROM TO simple|compound */
#include <stdio.h>
#include "daemon/core/states.h"

typedef bool may_move_fn(unsigned from, unsigned to, bool simple_only);

static bool task_move(unsigned from, unsigned to, bool simple_only)
{
	return task_may_move((enum task_state)from, (enum task_state)to, simple_only);
}

static bool step_move(unsigned from, unsigned to, bool simple_only)
{
	return step_may_move((enum step_state)from, (enum step_state)to, simple_only);
}

static void print_state(const char *kind, const struct state_info *s)
{
	static const char *const names[] = {"finished", "settled", "satisfies"};
	const char *comma = "";
	printf("state %s %s ", kind, s->name);
	for (unsigned i = 0; i < 3; i++) {
		if (!(s->flags & 1u << i))
			continue;
		printf("%s%s", comma, names[i]);
		comma = ",";
	}
	printf("%s\n", s->flags ? "" : "-");
}

static void print_table(const char *kind, const struct state_info *states, unsigned count,
			may_move_fn *may_move)
{
	for (unsigned i = 0; i < count; i++)
		print_state(kind, &states[i]);
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < count; k++)
			if (may_move(i, k, false))
				printf("move %s %s %s %s\n", kind, states[i].name, states[k].name,
				       may_move(i, k, true) ? "simple" : "compound");
}

int main(void)
{
	print_table("task", task_states, TASK_STATE_COUNT, task_move);
	print_table("step", step_states, STEP_STATE_COUNT, step_move);
	return fflush(stdout) == 0 ? 0 : 1;
}
