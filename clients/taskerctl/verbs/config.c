/* config. */
#include "clients/taskerctl/verbs/verbs.h"

static const struct opt show_options[] = {
    {"effective", 0, NULL, "as the daemon has them (the default); without one, as files and environment say", NULL},
    {"default", 0, NULL, "what holds when nothing is configured", NULL},
    {"config", 0, "FILE", "do not ask the daemon, read this file", &kind_file},
    NO_OPTION};

const struct verb config_verbs[] =
	{{.name = "show",
          .summary = "Show the daemon's options, and where each value comes from",
          .help = "In the form of a configuration file; passwords are left out. With --json an object {from, options}.",
          .opts = show_options,
          .asks = "server.config",
          .list = "options",
          .exits = {{EXIT_NO, "the configuration has errors"}},
          .examples = {{"What the running daemon has taken over", "taskerctl config show"},
                       {"What can be configured", "taskerctl config show --default"}},
          .flags = VERB_PAGES,
          .run = run_config_show},
         NO_VERB};
