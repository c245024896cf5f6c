#include "clients/taskerctl/verbs/verbs.h"

static const struct opt create_options[] = {
    {"role", 0, "ROLE", "what it may do: read, submit, work, operate or admin; may be repeated", &kind_role},
    {"namespace", 'n', "NAME", "where; may be repeated. Everywhere by default", &kind_namespace},
    {"expires", 'e', "TIME", "until when: a time, a duration from now (30d; 90d by default), or never", &kind_expiry},
    OPT_BY_WHOM,
    NO_OPTION};

static const struct opt list_options[] = {{"all", 'a', NULL, "those that have expired or were revoked too", NULL},
                                          NO_OPTION};

const struct verb token_verbs[] = {
	{.name = "create",
         .args = "NAME",
         .min_args = 1,
         .max_args = 1,
         .summary = "Make a bearer token for HTTP",
         .help = "Prints it, this once: the daemon keeps a hash of it. Whoever sends it may do what its roles say, as token:NAME.",
         .opts = create_options,
         .asks = "token.create",
         .exits = {{EXIT_CONFLICT, "there is an active token of this name"}},
         .examples = {{"For a job that creates tasks",
                       "taskerctl token create nightly --role submit --role read --namespace shop --expires 30d"}},
         .run = run_token_create},
	{.name = "list",
         .summary = "List the bearer tokens",
         .opts = list_options,
         .asks = "token.list",
         .list = "tokens",
         .examples = {{"Who has one, and who uses it", "taskerctl token list"}},
         .flags = VERB_PAGES,
         .listing = &list_tokens,
         .run = run_list},
	{.name = "revoke",
         .args = "TOKEN...",
         .kinds = {&kind_token},
         .min_args = 1,
         .max_args = -1,
         .summary = "End bearer tokens",
         .help = "By id, or by the name of an active one. All daemons refuse them within seconds.",
         .opts = by_whom_options,
         .asks = "token.revoke",
         .exits = {{EXIT_NOT_FOUND, "there is no such token"}},
         .examples = {{"One that is no longer needed", "taskerctl token revoke nightly --reason 'the job is gone'"}},
         .run = run_token_revoke},
	NO_VERB};
