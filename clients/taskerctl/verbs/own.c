/* Verbs of one word. */
#include "clients/taskerctl/verbs/verbs.h"

const struct verb own_verbs[] = {
    {.name = "doctor",
     .summary = "Check that nothing is stranded",
     .help = "Exit code 1 if a check has found something.",
     .asks = "doctor",
     .list = "checks",
     .exits = {{EXIT_NO, "a check has found something"}},
     .examples = {{"Is all well?", "taskerctl doctor"}},
     .flags = VERB_PAGES,
     .run = run_doctor},
    {.name = "version",
     .summary = "Show the versions of taskerctl and, if it can be reached, of the daemon",
     .asks = "server.info",
     .examples = {{"Do they fit?", "taskerctl version"}},
     .run = run_version},
    {.name = "help",
     .args = "[COMMAND]",
     .kinds = {&kind_verb, &kind_verb},
     .max_args = 2,
     .summary = "Show help",
     .help = "Of a command, of a group of commands, or of all. With --json the table of all commands, for programs.",
     .examples = {{"About a command", "taskerctl help task create"}},
     .flags = VERB_PAGES,
     .run = run_help},
    NO_VERB};
