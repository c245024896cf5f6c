/* The tables of verbs, a file a group, and what their rows share. */
#pragma once
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/list.h"

#define NO_OPTION                                                                                                      \
	{                                                                                                              \
		NULL, 0, NULL, NULL, NULL                                                                              \
	}
#define NO_VERB                                                                                                        \
	{                                                                                                              \
		.name = NULL                                                                                           \
	}

/* ---- options of several verbs ---- */

#define OPT_NAMESPACE                                                                                                  \
	{                                                                                                              \
		"namespace", 'n', "NAME", "only this namespace", &kind_namespace                                       \
	}
#define OPT_NAME                                                                                                       \
	{                                                                                                              \
		"name", 0, "NAME", "only tasks of this template", &kind_template_name                                  \
	}
#define OPT_LIMIT(n)                                                                                                   \
	{                                                                                                              \
		"limit", 'l', "N", "at most this many, " n " by default", &kind_number                                 \
	}
/* Of lists that come in pages. */
#define OPT_PAGES(n)                                                                                                   \
	OPT_LIMIT(n), {"cursor", 0, "CURSOR", "go on where a list has ended (next_cursor)", NULL},                     \
	{                                                                                                              \
		"all", 'a', NULL, "all there are", NULL                                                                \
	}
#define OPT_BY_WHOM                                                                                                    \
	{"reason", 'r', "TEXT", "why; kept in the history with who did it", NULL},                                     \
	{                                                                                                              \
		"operator", 0, "NAME", "who it is done for, if not for yourself", NULL                                 \
	}
/* What picks tasks, or steps of them. */
#define OPT_FILTERS                                                                                                    \
	{"namespace", 'n', "NAME", "all of this namespace", &kind_namespace},                                          \
	    {"name", 0, "NAME", "of this template", &kind_template_name},                                              \
	    {"template-version", 0, "VERSION", "of this version", NULL},                                               \
	    {"state", 0, "STATE", "whose task is in this state", &kind_task_state},                                    \
	    {"tag", 't', "TAG", "with this tag", NULL},                                                                \
	    {"after", 0, "TIME", "created then or later", &kind_time},                                                 \
	    {"before", 0, "TIME", "created before", &kind_time},                                                       \
	    {"correlation-id", 0, "ID", "with this correlation id", NULL},                                             \
	    {"step", 0, "NAME", "with a step of this name", &kind_step_name},                                          \
	    {"step-state", 0, "STATE", "with a step in this state", &kind_step_state},                                 \
	    {"error-type", 0, "TYPE", "with a step that failed in this way", NULL},                                    \
	    {"all", 'a', NULL, "whatever there is", NULL},                                                             \
	{                                                                                                              \
		"dry-run", 0, NULL, "change nothing, say what would be done", NULL                                     \
	}
#define OPT_FORMAT                                                                                                     \
	{                                                                                                              \
		"format", 'f', "FORMAT", "text (the default), mermaid, dot or svg (needs graphviz)", &kind_drawing     \
	}
#define OPT_TO_FILE                                                                                                    \
	{                                                                                                              \
		"output", 'o', "FILE", "write to this file", &kind_file                                                \
	}

extern const struct opt logs_options[], no_options[], by_whom_options[], act_options[], namespace_options[];
/* What the verbs that act on tasks or steps say. */
extern const char acts_help[];

/* ---- the groups ---- */

extern const struct verb template_verbs[], generate_verbs[], task_verbs[], step_verbs[], namespace_verbs[],
	worker_verbs[], node_verbs[], queue_verbs[], analytics_verbs[], dlq_verbs[], events_verbs[], token_verbs[],
	profile_verbs[], config_verbs[], own_verbs[];
