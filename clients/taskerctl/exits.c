/* Exit codes: of errors, of the ends of tasks, and what they mean. */
#include "clients/taskerctl/exits.h"

#include <stddef.h>
#include <string.h>

/* The others are EXIT_NO. */
static const struct {
	const char *code;
	enum exit_code exit;
} table[] = {
    {"unreachable", EXIT_UNREACHABLE}, {"connection_lost", EXIT_UNREACHABLE}, {"timeout", EXIT_TIMEOUT},
    {"congested", EXIT_AGAIN},         {"overloaded", EXIT_AGAIN},            {"database_unavailable", EXIT_AGAIN},
    {"shutting_down", EXIT_AGAIN},     {"not_found", EXIT_NOT_FOUND},         {"template_not_found", EXIT_NOT_FOUND},
    {"conflict", EXIT_CONFLICT},
};

enum exit_code exit_code_for(const struct tasker_error *err)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (strcmp(err->code, table[i].code) == 0)
			return table[i].exit;
	return EXIT_NO;
}

enum exit_code exit_code_for_state(const char *state)
{
	static const struct {
		const char *state;
		enum exit_code exit;
	} ends[] = {
	    {"complete", EXIT_OK},
	    {"resolved_manually", EXIT_OK},
	    {"error", EXIT_TASK_ERROR},
	    {"blocked_by_failures", EXIT_TASK_BLOCKED},
	    {"cancelled", EXIT_TASK_CANCELLED},
	};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (strcmp(state, ends[i].state) == 0)
			return ends[i].exit;
	return EXIT_NO;
}

const char *exit_code_meaning(int code)
{
	static const char *const meanings[] = {
	    [EXIT_OK] = "done",
	    [EXIT_NO] = "failed, or the answer is no: doctor found something, a template is invalid",
	    [EXIT_USAGE] = "the command line is wrong",
	    [EXIT_UNREACHABLE] = "taskerd cannot be reached",
	    [EXIT_NOT_FOUND] = "no such task or template",
	    [EXIT_CONFLICT] = "conflict with what is there",
	    [EXIT_TIMEOUT] = "not in time",
	    [EXIT_AGAIN] = "try again: taskerd is overloaded, stopping, or without its database",
	    [EXIT_TASK_ERROR] = "a task that was waited for ended in error",
	    [EXIT_TASK_BLOCKED] = "it is blocked by failures: nothing moves without an operator",
	    [EXIT_TASK_CANCELLED] = "it was cancelled",
	};
	return code >= 0 && (size_t)code < sizeof meanings / sizeof *meanings ? meanings[code] : NULL;
}
