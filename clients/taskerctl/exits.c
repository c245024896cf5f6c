/* One table: error code, exit code, advice. */
#include "clients/taskerctl/exits.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *code;
	enum exit_code exit;
	const char *hint;
} table[] = {
    {"unreachable", EXIT_UNREACHABLE,
     "start taskerd, or say where its socket is with --socket PATH or TASKERD_SOCKET"},
    {"connection_lost", EXIT_UNREACHABLE,
     "taskerd may be restarting: run the command again; tasks go on without it"},
    {"timeout", EXIT_TIMEOUT, "allow more time with --timeout"},
    {"protocol_error", EXIT_NO, "compare the versions of taskerctl and taskerd with: taskerctl version"},
    {"unsupported_version", EXIT_NO, "use the taskerctl that belongs to this taskerd"},
    {"unknown_method", EXIT_NO,
     "this taskerd does not know the request: use the taskerctl that belongs to it"},
    {"bad_request", EXIT_NO, NULL},
    {"invalid_value", EXIT_NO,
     "only JSON can be stored: finite numbers, text without NUL, integers of 64 bits"},
    {"too_large", EXIT_NO, "send less at a time, or raise the limit in taskerd's configuration"},
    {"congested", EXIT_AGAIN, "try again in a moment"},
    {"not_found", EXIT_NOT_FOUND, "see what there is with: taskerctl task list, taskerctl template list"},
    {"template_not_found", EXIT_NOT_FOUND, "register it first with: taskerctl template apply FILE"},
    {"invalid_context", EXIT_NO, "see the template's input_schema with: taskerctl template show --definition"},
    {"invalid_template", EXIT_NO,
     "mend what is listed; taskerctl template validate FILE checks without the daemon"},
    {"conflict", EXIT_CONFLICT, NULL},
    {"permission_denied", EXIT_NO,
     "your user lacks the role for this; roles are given in taskerd's configuration"},
    {"overloaded", EXIT_AGAIN, "try again in a moment"},
    {"database_unavailable", EXIT_AGAIN,
     "taskerd reconnects by itself: try again; taskerctl version shows the state of its database"},
    {"shutting_down", EXIT_AGAIN, "try again when taskerd is back"},
    {"internal", EXIT_NO, "this is a defect of taskerd: its log says more"},
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

const char *error_hint(const struct tasker_error *err)
{
	if (err->rc == -EACCES)
		return "your user may not open the socket: join its group, or run this as its owner";
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (strcmp(err->code, table[i].code) == 0)
			return table[i].hint;
	return NULL;
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
