/* Every verb and every option, once. Parsing, --help and the test of the manual page derive from these
 * tables. */
#include "clients/taskerctl/ctl.h"

#define END                                                                                                  \
	{                                                                                                    \
		NULL, 0, NULL, NULL                                                                          \
	}

const struct opt global_options[] = {
    {"socket", 's', "PATH", "the daemon's socket; else TASKERD_SOCKET, the user's own, the system's"},
    {"json", 'j', NULL, "print the daemon's answer as JSON"},
    {"color", 0, "WHEN", "auto (the default: on a terminal, unless NO_COLOR is set), always, never"},
    {"timeout", 0, "DURATION", "how long to wait for the answer (30s, 2m, 500ms), 30s by default"},
    {"quiet", 'q', NULL, "no headings, no notes"},
    {"help", 'h', NULL, "show help and exit"},
    {"version", 'V', NULL, "show the version and exit"},
    END};

static const struct opt none[] = {END};

static const struct opt validate_options[] = {
    {"strict", 0, NULL, "warnings count as errors"},
    {"environment", 'e', "NAME", "apply this block of `environments` first"},
    END};

static const struct opt apply_options[] = {
    {"strict", 0, NULL, "warnings count as errors"},
    {"replace-unused", 0, NULL, "replace a version that no task was made from"},
    END};

static const struct opt template_list_options[] = {{"namespace", 'n', "NAME", "only this namespace"}, END};

static const struct opt show_options[] = {
    {"definition", 'd', NULL, "print the definition as JSON and nothing else"}, END};

static const struct opt graph_options[] = {
    {"format", 'f', "FORMAT", "text (the default), mermaid, dot or svg (needs graphviz)"},
    {"output", 'o', "FILE", "write to this file"},
    {"environment", 'e', "NAME", "of a file: apply this block of `environments` first"},
    END};

#define GENERATE                                                                                             \
	{"language", 'l', "NAME", "python, ruby, typescript, rust or c"},                                    \
	{                                                                                                    \
		"force", 0, NULL, "overwrite files that are there"                                           \
	}

static const struct opt types_options[] = {
    GENERATE,
    {"style", 0, "NAME", "python: dataclass, pydantic; ruby: struct, data, dry; typescript: interface, zod"},
    {"output", 'o', "FILE", "write to this file"},
    END};

static const struct opt handler_options[] = {GENERATE,
                                             {"step", 0, "NAME", "of this step only"},
                                             {"output", 'o', "FILE", "write to this file"},
                                             END};

static const struct opt scaffold_options[] = {
    GENERATE, {"output", 'o', "DIR", "the directory; by default the template's name"}, END};

static const struct opt create_options[] = {
    {"context", 'c', "JSON", "what the steps work on: a JSON object, @FILE, or - for standard input"},
    {"key", 'k', "KEY", "idempotency key: a second task with the same key is not made"},
    {"tag", 't', "TAG", "a tag; may be repeated"},
    {"priority", 'p', "N", "-100 to 100, higher first; 0 by default"},
    {"run-at", 0, "TIME", "when it begins: 2030-01-31T09:00:00Z, or +90s from now"},
    {"initiator", 0, "TEXT", "who asks for it"},
    {"source-system", 0, "TEXT", "where it comes from"},
    {"reason", 0, "TEXT", "why"},
    {"correlation-id", 0, "ID", "ties it to others; by default the task's uuid"},
    {"parent-correlation-id", 0, "ID", "of what caused it"},
    {"traceparent", 0, "TEXT", "W3C trace context, handed to the handlers"},
    {"from", 0, "FILE", "make a task of each line of this JSON Lines file (- for standard input)"},
    {"wait", 'w', NULL, "wait until it is settled"},
    END};

static const struct opt get_options[] = {{"no-steps", 0, NULL, "leave the steps out"}, END};

static const struct opt task_list_options[] = {{"namespace", 'n', "NAME", "only this namespace"},
                                               {"name", 0, "NAME", "only tasks of this template"},
                                               {"state", 0, "STATE", "only tasks in this state"},
                                               {"tag", 0, "TAG", "only tasks with this tag"},
                                               {"correlation-id", 0, "ID", "only tasks with this correlation id"},
                                               {"limit", 'l', "N", "at most this many, 50 by default"},
                                               {"all", 'a', NULL, "all there are"},
                                               END};

static const struct opt watch_options[] = {
    {"follow", 0, NULL, "go on when the task is blocked by failures, until it is finished"}, END};

static const struct opt tail_options[] = {
    {"namespace", 'n', "NAME", "only this namespace; may be repeated"},
    {"count", 'c', "N", "end after so many"},
    END};

static const struct opt consume_options[] = {
    {"namespace", 'n', "NAME", "of this namespace; \"default\" by default"},
    {"count", 'c', "N", "end after so many"},
    {"wait", 'w', NULL, "when there are no more, wait for some"},
    {"keep", 'k', NULL, "do not acknowledge: they come again"},
    {"visibility", 0, "DURATION", "nobody else gets them for so long, 30s by default"},
    END};

static const struct opt publish_options[] = {
    {"payload", 'p', "JSON", "what it is about: JSON, @FILE, or - for standard input"},
    {"namespace", 'n', "NAME", "in this namespace; \"default\" by default"},
    {"mode", 'm', "MODE", "durable (the default), fast or broadcast"},
    {"correlation-id", 0, "ID", "ties it to others; by default its own id"},
    {"metadata", 0, "JSON", "a JSON object that is added to the event's metadata"},
    {"event-id", 0, "UUID", "its id; by default a new one"},
    END};

#define BY_WHOM                                                                                              \
	{"reason", 'r', "TEXT", "why; kept in the history with who did it"},                                 \
	{                                                                                                    \
		"operator", 0, "NAME", "who it is done for, if not for yourself"                             \
	}
#define FILTERS                                                                                              \
	{"namespace", 'n', "NAME", "all of this namespace"}, {"name", 0, "NAME", "of this template"},        \
	    {"template-version", 0, "VERSION", "of this version"},                                           \
	    {"state", 0, "STATE", "whose task is in this state"}, {"tag", 't', "TAG", "with this tag"},      \
	    {"after", 0, "TIME", "created then or later"}, {"before", 0, "TIME", "created before"},          \
	    {"correlation-id", 0, "ID", "with this correlation id"},                                         \
	    {"step", 0, "NAME", "with a step of this name"},                                                 \
	    {"step-state", 0, "STATE", "with a step in this state"},                                         \
	    {"error-type", 0, "TYPE", "with a step that failed in this way"},                                \
	    {"all", 'a', NULL, "whatever there is"},                                                         \
	{                                                                                                    \
		"dry-run", 0, NULL, "change nothing, say what would be done"                                 \
	}

static const struct opt act_options[] = {BY_WHOM, FILTERS, END};
static const struct opt complete_options[] = {
    BY_WHOM, {"result", 0, "JSON", "the step's result: JSON, @FILE, or - for standard input"}, FILTERS, END};
static const struct opt by_options[] = {BY_WHOM, END};

static const struct opt tree_options[] = {
    {"format", 'f', "FORMAT", "text (the default), mermaid, dot or svg (needs graphviz)"},
    {"output", 'o', "FILE", "write to this file"},
    END};

static const struct opt retention_options[] = {
    {"state", 0, "STATE", "only for tasks that ended like this: complete, error, cancelled, resolved_manually"},
    {"keep", 'k', "DURATION", "how long (30m, 72h; whole minutes), forever, or default"},
    {"action", 0, "ACTION", "archive or delete what is kept no longer"},
    END};

static const struct opt dlq_list_options[] = {
    {"status", 0, "STATUS", "pending, manually_resolved, permanently_failed or cancelled"},
    {"reason", 0, "REASON", "staleness_timeout, max_retries_exceeded, worker_unavailable, ..."},
    {"namespace", 'n', "NAME", "only this namespace"},
    {"name", 0, "NAME", "only tasks of this template"},
    {"limit", 'l', "N", "at most this many, 50 by default"},
    END};

static const struct opt dlq_queue_options[] = {{"namespace", 'n', "NAME", "only this namespace"},
                                               {"limit", 'l', "N", "at most this many, 100 by default"},
                                               END};

static const struct opt dlq_add_options[] = {{"notes", 0, "TEXT", "why it needs to be looked at"},
                                             {"metadata", 0, "JSON", "an object that is kept with the entry"},
                                             END};

static const struct opt dlq_update_options[] = {
    {"status", 0, "STATUS", "pending, manually_resolved, permanently_failed or cancelled"},
    {"notes", 0, "TEXT", "what was found; replaces earlier notes"},
    {"resolved-by", 0, "NAME", "who closed it; your user by default"},
    {"metadata", 0, "JSON", "an object; its keys are added"},
    END};

static const struct opt redrive_options[] = {
    {"reason", 'r', "TEXT", "why; required, stored with the task and the entry"},
    {"operator", 0, "NAME", "who you act for"},
    END};

static const struct opt staleness_options[] = {{"namespace", 'n', "NAME", "only this namespace"},
                                               {"health", 0, "WORD", "healthy, warning (from 80 %) or stale"},
                                               {"limit", 'l', "N", "at most this many, 100 by default"},
                                               END};

static const char acts[] =
    "What is meant is named, or picked by options that all must hold; --dry-run shows it first. The task goes "
    "on at once.\n"
    "With --json the daemon's answer.";

const struct verb verbs[] = {
    {"template", "validate", "FILE...", "Check templates without the daemon",
     "All findings of all files are shown as FILE:LINE:COLUMN. - stands for standard input.\n"
     "With --json an array with one object {file, ok, findings} for each file.",
     validate_options, 1, -1, false, run_template_validate},
    {"template", "apply", "FILE...", "Register templates with the daemon",
     "A version that is there with other content cannot be changed: raise the version instead, or, if no\n"
     "task was made from it yet, use --replace-unused.\n"
     "With --json an array with the daemon's answer for each file.",
     apply_options, 1, -1, false, run_template_apply},
    {"template", "list", "", "List the registered templates", NULL, template_list_options, 0, 0, false,
     run_template_list},
    {"template", "show", "NS/NAME[@VERSION]", "Show a registered template and its steps",
     "Without a version the newest; without a namespace \"default\".", show_options, 1, 1, false,
     run_template_show},
    {"template", "graph", "FILE|NS/NAME[@VERSION]", "Draw the steps of a template",
     "What exists as a file, or ends in .yaml, .yml or .json, is read as one; - is standard input.",
     graph_options, 1, 1, false, run_template_graph},
    {"template", "schema", "", "Print the JSON Schema of the template format, for editors", NULL, none, 0, 0, false,
     run_template_schema},
    {"generate", "types", "FILE|NS/NAME[@VERSION]", "Write types of a template's schemas",
     "One type for the task's context (input_schema), one for each result_schema and each schema of an event, and those "
     "they\nare made of. What exists as a file, or ends in .yaml, .yml or .json, is read as one.",
     types_options, 1, 1, false, run_generate_types},
    {"generate", "handler", "FILE|NS/NAME[@VERSION]", "Write handlers for a template's steps, to be filled in",
     "Each returns a value that fits its step's schema.", handler_options, 1, 1, false, run_generate_handler},
    {"generate", "scaffold", "FILE|NS/NAME[@VERSION]", "Make a project: template, types, handlers and a test that runs",
     NULL, scaffold_options, 1, 1, false, run_generate_scaffold},
    {"task", "create", "[NS/NAME[@VERSION]]", "Create a task, or many",
     "Prints the uuid of each task. With --from every line of the file is a JSON object: the context of a "
     "task of the\n"
     "template named, or without a template all parameters of the task ({\"name\": ..., \"context\": ...}). "
     "The other\n"
     "options then hold for every line.",
     create_options, 0, 1, false, run_task_create},
    {"task", "get", "UUID", "Show a task and its steps", NULL, get_options, 1, 1, false, run_task_get},
    {"task", "list", "", "List tasks, newest first", NULL, task_list_options, 0, 0, false, run_task_list},
    {"task", "wait", "UUID...", "Wait until tasks are settled",
     "Settled means finished, or blocked by failures so that nothing moves without an operator. Waits "
     "without limit\n"
     "unless --timeout is given. With --json an array with the daemon's answer for each task.",
     none, 1, -1, true, run_task_wait},
    {"task", "watch", "UUID", "Follow a task until it is settled",
     "On a terminal one block, redrawn; otherwise a line for each event, with --json as JSON Lines (the "
     "first one is the\n"
     "task).",
     watch_options, 1, 1, true, run_task_watch},
    {"task", "cancel", "[UUID...]", "Cancel tasks", acts, act_options, 0, -1, false, run_task_cancel},
    {"task", "retry", "[UUID...]", "Reset all failed steps of tasks", acts, act_options, 0, -1, false,
     run_task_retry},
    {"task", "resolve", "[UUID...]", "Call blocked tasks resolved", acts, act_options, 0, -1, false,
     run_task_resolve},
    {"task", "pause", "[UUID...]", "Start no more steps of tasks", acts, act_options, 0, -1, false,
     run_task_pause},
    {"task", "resume", "[UUID...]", "Go on with paused tasks", acts, act_options, 0, -1, false,
     run_task_resume},
    {"task", "tree", "UUID", "Draw the steps of a task with states and timings", NULL, tree_options, 1, 1,
     false, run_task_tree},
    {"task", "history", "UUID", "Show what has happened to a task",
     "Every state it rested in with node and cause, how each attempt of its steps ended, and what was done by "
     "hand.",
     none, 1, 1, false, run_task_history},
    {"step", "get", "UUID|TASK STEP", "Show a step", NULL, none, 1, 2, false, run_step_get},
    {"step", "history", "UUID STEP", "Show what has happened to a step of a task",
     "When it became ready, began, was finished by its worker and recorded, for every attempt. STEP is its name "
     "or uuid.",
     none, 2, 2, false, run_step_history},
    {"step", "reset", "[UUID|TASK STEP]", "Give failed steps all their attempts back", acts, act_options, 0, 2,
     false, run_step_reset},
    {"step", "resolve", "[UUID|TASK STEP]", "Call steps done, without a result", acts, act_options, 0, 2, false,
     run_step_resolve},
    {"step", "complete", "[UUID|TASK STEP]", "Give steps their result by hand", acts, complete_options, 0, 2,
     false, run_step_complete},
    {"step", "skip", "[UUID|TASK STEP]", "Pass over steps", acts, act_options, 0, 2, false, run_step_skip},
    {"namespace", "list", "", "List the namespaces, and which are paused", NULL, none, 0, 0, false,
     run_namespace_list},
    {"namespace", "pause", "NAME", "Start no more steps of a namespace", NULL, by_options, 1, 1, false,
     run_namespace_pause},
    {"namespace", "resume", "NAME", "Go on with a paused namespace", NULL, by_options, 1, 1, false,
     run_namespace_resume},
    {"worker", "list", "", "List the connected workers", NULL, none, 0, 0, false, run_worker_list},
    {"node", "list", "", "List the daemons on this database", NULL, none, 0, 0, false, run_node_list},
    {"queue", "list", "", "List the queues: what is ready, and who could run it", NULL, none, 0, 0, false,
     run_queue_list},
    {"namespace", "retention", "NAMESPACE", "Show or set how long a namespace keeps its finished tasks",
     "With --keep the namespace has a rule of its own, for one state or for all; with --keep default the\n"
     "daemon's options hold again. Without it the rules are shown.",
     retention_options, 1, 1, false, run_namespace_retention},
    {"dlq", "list", "", "List the dead-letter entries, newest first", NULL, dlq_list_options, 0, 0, false,
     run_dlq_list},
    {"dlq", "show", "ENTRY|TASK", "Show an entry with the snapshot of its task",
     "By the entry's own uuid, or the newest of a task.", none, 1, 1, false, run_dlq_show},
    {"dlq", "stats", "", "Count the entries by reason and status", NULL, template_list_options, 0, 0, false,
     run_dlq_stats},
    {"dlq", "queue", "", "List what is pending, the most urgent first",
     "The score is 1000 for a cycle, 500 for used-up retries, 100 for a stale task, 50 for missing workers, "
     "10 else, plus\n"
     "the minutes it has waited.",
     dlq_queue_options, 0, 0, false, run_dlq_queue},
    {"dlq", "add", "TASK", "File a task by hand", NULL, dlq_add_options, 1, 1, false, run_dlq_add},
    {"dlq", "update", "ENTRY|TASK", "Add notes to an entry, or close it",
     "Closing an entry changes nothing about its task.", dlq_update_options, 1, 1, false, run_dlq_update},
    {"dlq", "redrive", "ENTRY|TASK", "Try the failed steps of a task again, and close its entry", NULL,
     redrive_options, 1, 1, false, run_dlq_redrive},
    {"dlq", "staleness", "", "List tasks by how much of a limit of their template they have used", NULL,
     staleness_options, 0, 0, false, run_dlq_staleness},
    {"events", "tail", "[PATTERN...]", "Show fast domain events as they happen",
     "A pattern is a name in which * stands for any characters: payment.*. Without one all are shown. Ends "
     "only when it is\n"
     "interrupted, unless --count or --timeout is given. With --json a line of JSON for each.",
     tail_options, 0, -1, true, run_events_tail},
    {"events", "consume", "[PATTERN...]", "Take durable domain events from their queue",
     "Prints what there is, oldest first, and acknowledges it. With --json a line of JSON for each message.",
     consume_options, 0, -1, true, run_events_consume},
    {"events", "publish", "NAME", "Publish a domain event", "Prints its id.", publish_options, 1, 1, false,
     run_events_publish},
    {"events", "list", "", "List the queues of durable domain events", NULL, none, 0, 0, false,
     run_events_list},
    {NULL, "doctor", "", "Check that nothing is stranded", "Exit code 1 if a check has found something.",
     none, 0, 0, false, run_doctor},
    {NULL, "version", "", "Show the versions of taskerctl and, if it can be reached, of the daemon", NULL,
     none, 0, 0, false, run_version},
    {NULL, "help", "[COMMAND]", "Show help", NULL, none, 0, 2, false, run_help},
    {NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
