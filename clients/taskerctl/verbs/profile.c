#include "clients/taskerctl/verbs/verbs.h"

const struct verb profile_verbs[] = {
    {.name = "list",
     .summary = "List the profiles: names for daemons, with what to assume there",
     .help = "They are read from taskerctl.yaml of the user and of the system. The one that holds is marked.",
     .list = "profiles",
     .exits = {{EXIT_USAGE, "a file has mistakes; all are shown"}},
     .examples = {{"Which there are, and which holds", "taskerctl profile list"}},
     .flags = VERB_PAGES | VERB_NO_PROFILE,
     .listing = &list_profiles,
     .run = run_list},
    {.name = "show",
     .args = "[NAME]",
     .kinds = {&kind_profile},
     .max_args = 1,
     .summary = "Show a profile, or what holds now",
     .exits = {{EXIT_NOT_FOUND, "there is no such profile"}},
     .examples = {{"With which daemon do I speak?", "taskerctl profile show"}},
     .flags = VERB_NO_PROFILE,
     .run = run_profile_show},
    NO_VERB};
