/* The two transition tables. Constant data and look-ups in it: no state, any thread, nothing is ever changed
 * here.
 *
 * A SIMPLE row is a step of the documented state machine. A COMPOUND row is a run of simple ones whose states
 * in between begin and end inside one transaction, so that the database only ever stores the two ends; the
 * unit tests hold each of them to such a run. A pair that is both (an operator may complete a running step by
 * hand) is listed as simple. */
#include "daemon/core/states.h"

#include <stdint.h>
#include <string.h>

enum move { MOVE_NONE, MOVE_SIMPLE, MOVE_COMPOUND };

#define X(id, name, flags) [TASK_##id] = {name, flags},
const struct state_info task_states[TASK_STATE_COUNT] = {TASK_STATES(X)};
#undef X
#define X(id, name, flags) [STEP_##id] = {name, flags},
const struct state_info step_states[STEP_STATE_COUNT] = {STEP_STATES(X)};
#undef X

#define SIMPLE(from, to) [TASK_##from][TASK_##to] = MOVE_SIMPLE
#define COMPOUND(from, to) [TASK_##from][TASK_##to] = MOVE_COMPOUND
static const uint8_t task_moves[TASK_STATE_COUNT][TASK_STATE_COUNT] = {
	SIMPLE(PENDING, INITIALIZING),
	SIMPLE(PENDING, CANCELLED),
	COMPOUND(PENDING, STEPS_IN_PROCESS), /* created with steps */
	COMPOUND(PENDING, COMPLETE),         /* created without */
	COMPOUND(PENDING, ERROR),            /* its context does not fit its template */

	SIMPLE(INITIALIZING, ENQUEUING_STEPS),
	SIMPLE(INITIALIZING, COMPLETE),
	SIMPLE(INITIALIZING, WAITING_FOR_DEPENDENCIES),
	SIMPLE(INITIALIZING, CANCELLED),

	SIMPLE(ENQUEUING_STEPS, STEPS_IN_PROCESS),
	SIMPLE(ENQUEUING_STEPS, ERROR),
	SIMPLE(ENQUEUING_STEPS, CANCELLED),

	SIMPLE(STEPS_IN_PROCESS, EVALUATING_RESULTS),
	SIMPLE(STEPS_IN_PROCESS, WAITING_FOR_RETRY),
	SIMPLE(STEPS_IN_PROCESS, CANCELLED),
	COMPOUND(STEPS_IN_PROCESS, COMPLETE),
	COMPOUND(STEPS_IN_PROCESS, BLOCKED_BY_FAILURES),
	COMPOUND(STEPS_IN_PROCESS, ERROR), /* a limit of its life cycle */

	SIMPLE(EVALUATING_RESULTS, COMPLETE),
	SIMPLE(EVALUATING_RESULTS, ENQUEUING_STEPS),
	SIMPLE(EVALUATING_RESULTS, WAITING_FOR_DEPENDENCIES),
	SIMPLE(EVALUATING_RESULTS, BLOCKED_BY_FAILURES),
	SIMPLE(EVALUATING_RESULTS, CANCELLED),

	SIMPLE(WAITING_FOR_DEPENDENCIES, EVALUATING_RESULTS),
	SIMPLE(WAITING_FOR_DEPENDENCIES, CANCELLED),

	SIMPLE(WAITING_FOR_RETRY, ENQUEUING_STEPS),
	SIMPLE(WAITING_FOR_RETRY, CANCELLED),
	COMPOUND(WAITING_FOR_RETRY, STEPS_IN_PROCESS),
	COMPOUND(WAITING_FOR_RETRY, COMPLETE),            /* the waiting step was resolved by hand */
	COMPOUND(WAITING_FOR_RETRY, BLOCKED_BY_FAILURES), /* the same, beside another that had failed */
	COMPOUND(WAITING_FOR_RETRY, ERROR),               /* a limit of its life cycle */

	SIMPLE(BLOCKED_BY_FAILURES, ENQUEUING_STEPS), /* a fix made something ready */
	SIMPLE(BLOCKED_BY_FAILURES, ERROR),
	SIMPLE(BLOCKED_BY_FAILURES, RESOLVED_MANUALLY),
	SIMPLE(BLOCKED_BY_FAILURES, CANCELLED),
	COMPOUND(BLOCKED_BY_FAILURES, STEPS_IN_PROCESS),
	COMPOUND(BLOCKED_BY_FAILURES, COMPLETE), /* the failed step was resolved by hand and was the last */

	SIMPLE(ERROR, PENDING), /* reset */
	COMPOUND(ERROR, STEPS_IN_PROCESS),
};
#undef SIMPLE
#undef COMPOUND

#define SIMPLE(from, to) [STEP_##from][STEP_##to] = MOVE_SIMPLE
#define COMPOUND(from, to) [STEP_##from][STEP_##to] = MOVE_COMPOUND
/* An operator may end any step that is not finished. */
#define BY_HAND(from) SIMPLE(from, COMPLETE), SIMPLE(from, RESOLVED_MANUALLY), SIMPLE(from, CANCELLED)
static const uint8_t step_moves[STEP_STATE_COUNT][STEP_STATE_COUNT] = {
	BY_HAND(PENDING),
	SIMPLE(PENDING, ENQUEUED),
	SIMPLE(PENDING, WAITING_FOR_RETRY),
	SIMPLE(PENDING, ERROR),
	COMPOUND(PENDING, IN_PROGRESS), /* ready, and handed over at once */

	BY_HAND(ENQUEUED),
	SIMPLE(ENQUEUED, IN_PROGRESS),
	SIMPLE(ENQUEUED, WAITING_FOR_RETRY),
	SIMPLE(ENQUEUED, ERROR),
	COMPOUND(ENQUEUED, PENDING), /* its task was paused */

	BY_HAND(IN_PROGRESS),
	SIMPLE(IN_PROGRESS, ENQUEUED_FOR_ORCHESTRATION),
	SIMPLE(IN_PROGRESS, ENQUEUED_AS_ERROR_FOR_ORCHESTRATION),
	SIMPLE(IN_PROGRESS, WAITING_FOR_RETRY),
	COMPOUND(IN_PROGRESS, ENQUEUED), /* another try without delay, or given back */
	COMPOUND(IN_PROGRESS, ERROR),
	COMPOUND(IN_PROGRESS, PENDING), /* another try, when its task is paused no more */

	BY_HAND(ENQUEUED_FOR_ORCHESTRATION),
	SIMPLE(ENQUEUED_FOR_ORCHESTRATION, ERROR),

	BY_HAND(ENQUEUED_AS_ERROR_FOR_ORCHESTRATION),
	SIMPLE(ENQUEUED_AS_ERROR_FOR_ORCHESTRATION, WAITING_FOR_RETRY),
	SIMPLE(ENQUEUED_AS_ERROR_FOR_ORCHESTRATION, ERROR),

	BY_HAND(WAITING_FOR_RETRY),
	SIMPLE(WAITING_FOR_RETRY, PENDING),
	COMPOUND(WAITING_FOR_RETRY, IN_PROGRESS),
	COMPOUND(WAITING_FOR_RETRY, ENQUEUED), /* reset */

	BY_HAND(ERROR),
	SIMPLE(ERROR, PENDING),
	COMPOUND(ERROR, ENQUEUED), /* reset, with all parents satisfied */
	COMPOUND(ERROR, IN_PROGRESS),

	SIMPLE(CANCELLED, PENDING), /* reset, of a step that was to end with others */
	COMPOUND(CANCELLED, ENQUEUED),
};

static int parse(const struct state_info *table, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(table[i].name, name) == 0)
			return i;
	return -1;
}

int task_state_parse(const char *name)
{
	return parse(task_states, TASK_STATE_COUNT, name);
}

int step_state_parse(const char *name)
{
	return parse(step_states, STEP_STATE_COUNT, name);
}

static bool listed(uint8_t move, bool simple_only)
{
	return move == MOVE_SIMPLE || (move == MOVE_COMPOUND && !simple_only);
}

bool task_may_move(enum task_state from, enum task_state to, bool simple_only)
{
	if ((unsigned)from >= TASK_STATE_COUNT || (unsigned)to >= TASK_STATE_COUNT)
		return false;
	return listed(task_moves[from][to], simple_only);
}

bool step_may_move(enum step_state from, enum step_state to, bool simple_only)
{
	if ((unsigned)from >= STEP_STATE_COUNT || (unsigned)to >= STEP_STATE_COUNT)
		return false;
	return listed(step_moves[from][to], simple_only);
}
