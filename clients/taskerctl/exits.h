/* Exit codes. Pure. */
#pragma once
#include "clients/c/tasker.h"

enum exit_code {
	EXIT_OK = 0,
	EXIT_NO = 1,          /* the operation failed, or the answer is "no" */
	EXIT_USAGE = 2,       /* the command line is wrong */
	EXIT_UNREACHABLE = 3, /* no connection to the daemon */
	EXIT_NOT_FOUND = 4,
	EXIT_CONFLICT = 5,
	EXIT_TIMEOUT = 6,
	EXIT_AGAIN = 7, /* overloaded, database unavailable, shutting down */
	/* How a task ended that was waited for. */
	EXIT_TASK_ERROR = 8,
	EXIT_TASK_BLOCKED = 9, /* nothing moves without an operator */
	EXIT_TASK_CANCELLED = 10,
};

/* The exit code for an error. */
enum exit_code exit_code_for(const struct tasker_error *err);
/* The exit code for the state of a task that was waited for: 0 for complete and resolved_manually. */
enum exit_code exit_code_for_state(const char *state);
/* The table behind `taskerctl help` and the man page: NULL when `code` has no meaning. */
const char *exit_code_meaning(int code);
