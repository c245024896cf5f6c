/* Every group, once, and the options that all verbs have. Parsing, --help, completion, `taskerctl help --json` and the
 * test of the manual pages derive from these tables. */
#include "clients/taskerctl/verbs/verbs.h"

const struct opt global_options[] = {
    {"socket", 's', "PATH", "the daemon's socket; else TASKERD_SOCKET, the user's own, the system's", &kind_file},
    {"profile", 0, "NAME", "speak with the daemon of this name in taskerctl.yaml; else TASKERCTL_PROFILE",
     &kind_profile},
    {"output", 'o', "FORMAT", "table (the default); wide: all columns, nothing cut; json; jsonl: a line for each item",
     &kind_output},
    {"json", 'j', NULL, "print the daemon's answer as JSON: --output json", NULL},
    {"color", 0, "WHEN", "auto (the default: on a terminal, unless NO_COLOR is set), always, never", &kind_colour},
    {"timeout", 0, "DURATION", "how long to wait for the answer (30s, 2m, 500ms), 30s by default", &kind_duration},
    {"no-pager", 0, NULL, "no pager for what is longer than the terminal", NULL},
    {"quiet", 'q', NULL, "no headings, no notes", NULL},
    {"help", 'h', NULL, "show help and exit", NULL},
    {"version", 'V', NULL, "show the version and exit", NULL},
    NO_OPTION};

const struct opt no_options[] = {NO_OPTION};
const struct opt by_whom_options[] = {OPT_BY_WHOM, NO_OPTION};
const struct opt act_options[] = {OPT_BY_WHOM, OPT_FILTERS, NO_OPTION};
const struct opt namespace_options[] = {OPT_NAMESPACE, NO_OPTION};

const char acts_help[] =
	"What is meant is named, or picked by options that all must hold; --dry-run shows it first. The task goes on at once.\n"
	"With --json the daemon's answer.";

const struct group groups[] = {
    {"template", "Templates: check, register, draw", template_verbs},
    {"generate", "Code from templates: types, handlers, projects", generate_verbs},
    {"task", "Tasks: create, look at, follow, mend", task_verbs},
    {"step", "Steps of tasks: look at, mend", step_verbs},
    {"namespace", "Namespaces: pause, and how long they keep tasks", namespace_verbs},
    {"worker", "Workers of this host", worker_verbs},
    {"node", "The daemons on one database", node_verbs},
    {"queue", "Queues of steps that are ready", queue_verbs},
    {"analytics", "Where time goes, and what fails", analytics_verbs},
    {"dlq", "Dead-letter entries: what needs a person", dlq_verbs},
    {"events", "Domain events: listen, take, publish", events_verbs},
    {"token", "Bearer tokens for HTTP: make, list, revoke", token_verbs},
    {"profile", "Names for several daemons", profile_verbs},
    {"config", "The daemon's options", config_verbs},
    {NULL, NULL, own_verbs},
    {NULL, NULL, NULL},
};
