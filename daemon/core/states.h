/* The states of tasks and steps and what may follow what: the one source. Names are exactly those in the
 * database. A transition marked COMPOUND passes through states that begin and end inside one transaction
 * (pending -> enqueued -> in_progress is stored as pending -> in_progress when a ready step is handed over at
 * once). A test holds every change the SQL functions make to these tables. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define TASK_STATES(X)                                                                                       \
	X(PENDING, "pending", 0)                                                                             \
	X(INITIALIZING, "initializing", 0)                                                                   \
	X(ENQUEUING_STEPS, "enqueuing_steps", 0)                                                             \
	X(STEPS_IN_PROCESS, "steps_in_process", 0)                                                           \
	X(EVALUATING_RESULTS, "evaluating_results", 0)                                                       \
	X(WAITING_FOR_DEPENDENCIES, "waiting_for_dependencies", 0)                                           \
	X(WAITING_FOR_RETRY, "waiting_for_retry", 0)                                                         \
	X(BLOCKED_BY_FAILURES, "blocked_by_failures", STATE_SETTLED)                                         \
	X(COMPLETE, "complete", STATE_FINISHED | STATE_SETTLED)                                              \
	X(ERROR, "error", STATE_FINISHED | STATE_SETTLED)                                                    \
	X(CANCELLED, "cancelled", STATE_FINISHED | STATE_SETTLED)                                            \
	X(RESOLVED_MANUALLY, "resolved_manually", STATE_FINISHED | STATE_SETTLED)

#define STEP_STATES(X)                                                                                       \
	X(PENDING, "pending", 0)                                                                             \
	X(ENQUEUED, "enqueued", 0)                                                                           \
	X(IN_PROGRESS, "in_progress", 0)                                                                     \
	X(ENQUEUED_FOR_ORCHESTRATION, "enqueued_for_orchestration", 0)                                       \
	X(ENQUEUED_AS_ERROR_FOR_ORCHESTRATION, "enqueued_as_error_for_orchestration", 0)                     \
	X(WAITING_FOR_RETRY, "waiting_for_retry", 0)                                                         \
	X(COMPLETE, "complete", STATE_FINISHED | STATE_SATISFIES)                                            \
	X(ERROR, "error", STATE_SETTLED)                                                                     \
	X(CANCELLED, "cancelled", STATE_FINISHED)                                                            \
	X(RESOLVED_MANUALLY, "resolved_manually", STATE_FINISHED | STATE_SATISFIES)

enum state_flags {
	STATE_FINISHED = 1 << 0,  /* nothing follows, but for the reset of a task in error and of a cancelled step */
	STATE_SETTLED = 1 << 1,   /* nothing moves without an operator */
	STATE_SATISFIES = 1 << 2, /* a step in it satisfies its dependants */
};

#define X(id, name, flags) TASK_##id,
enum task_state { TASK_STATES(X) TASK_STATE_COUNT };
#undef X
#define X(id, name, flags) STEP_##id,
enum step_state { STEP_STATES(X) STEP_STATE_COUNT };
#undef X

struct state_info {
	const char *name;
	unsigned flags;
};
extern const struct state_info task_states[TASK_STATE_COUNT];
extern const struct state_info step_states[STEP_STATE_COUNT];
int task_state_parse(const char *name); /* the state, or -1 */
int step_state_parse(const char *name);

/* True if the table has the transition; compound ones count unless `simple_only`. */
bool task_may_move(enum task_state from, enum task_state to, bool simple_only);
bool step_may_move(enum step_state from, enum step_state to, bool simple_only);
