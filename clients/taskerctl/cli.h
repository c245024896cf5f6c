/* The command line: verbs, their options, and what was given. Parsing is pure but for getopt_long's own
 * state. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "protocol/buf.h"

struct ctl;
struct listing;

/* What a value may be: what is no such thing is refused before anything is asked, and completion offers it. */
struct kind {
	const char *name;          /* as `taskerctl help --json` calls it */
	const char *what;          /* "the state of a task": for complaints; NULL for what is not checked */
	const char *const *words;  /* the only values there are, ends with NULL; or NULL */
	bool files, dirs;          /* completed as the shell does names of files, of directories */
};
/* kinds.c. NULL stands for any text. */
extern const struct kind kind_file, kind_dir, kind_number, kind_duration, kind_time, kind_json, kind_template,
	kind_template_or_file, kind_template_name, kind_namespace, kind_task, kind_task_or_step, kind_step_name,
	kind_worker, kind_node, kind_dlq_entry, kind_event, kind_verb, kind_task_state, kind_final_state,
	kind_step_state, kind_dlq_status, kind_dlq_reason, kind_health, kind_action, kind_drawing, kind_language,
	kind_style, kind_event_mode, kind_retention, kind_colour, kind_restore_state, kind_rows, kind_keep, kind_output,
	kind_profile, kind_shell, kind_role, kind_expiry, kind_token;

struct opt {
	const char *name;
	char letter;     /* or 0 */
	const char *arg; /* what the argument is called; NULL: the option takes none */
	const char *help;
	const struct kind *kind; /* of the argument */
};

/* An exit code that has a meaning of its own for a verb. */
struct exit_note {
	int code;
	const char *means;
};

/* A command that works as it stands in a shell: a test runs it. $task and the like are set there. */
struct example {
	const char *what; /* "See why a task is stuck" */
	const char *command;
};

enum verb_flags {
	VERB_WAITS = 1,  /* --timeout is for the tasks, not for a request; an option --wait means the same */
	VERB_PAGES = 2,  /* its output may be long: a pager is of use */
	VERB_HIDDEN = 4, /* for programs: not in any help */
	VERB_NO_PROFILE = 8, /* it does without profiles, or reads them itself */
};

struct verb {
	const char *name;
	const char *args;            /* as shown in the usage line; NULL if it takes none */
	const struct kind *kinds[3]; /* of its arguments; the last one given is that of all that follow */
	int min_args, max_args;      /* max -1: any number */
	const char *summary;         /* one line, no full stop */
	const char *help;            /* more paragraphs, or NULL */
	const struct opt *opts;      /* ends with a NULL name; or NULL */
	/* the message it sends, of several the most demanding: tells the role that is needed. NULL: none */
	const char *asks;
	const char *list;            /* the member of the answer that --output jsonl prints line by line, or NULL */
	struct exit_note exits[7];
	struct example examples[4];
	unsigned flags;
	const struct listing *listing; /* list.h: of a verb that shows a list, what it shows */
	int (*run)(struct ctl *c);     /* returns an exit code */
};

struct group {
	const char *name; /* the first word of its verbs; NULL: they have one word */
	const char *summary;
	const struct verb *verbs; /* ends with a NULL name */
};

extern const struct opt global_options[];
extern const struct group groups[]; /* ends with NULL verbs */

/* Walk over all verbs, in the order of the help. */
#define FOR_EACH_VERB(g, v)                                                                                            \
	for (const struct group *g = groups; g->verbs; g++)                                                            \
		for (const struct verb *v = g->verbs; v->name; v++)

enum output { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON, OUTPUT_JSONL };
enum colour_mode { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

struct optval {
	const struct opt *opt;
	const char *value; /* NULL for an option without argument */
};

#define CLI_MAX_OPTIONS 128u

struct cli {
	const struct verb *verb;
	const struct group *group; /* set instead of `verb` for "task --help" */
	char **args;
	int nargs;
	struct optval values[CLI_MAX_OPTIONS];
	size_t nvalues;
	/* the global ones, decoded */
	const char *socket;
	enum output output;
	bool json; /* one of the two kinds of JSON */
	bool quiet, help, version, no_pager;
	const char *space; /* the namespace that a profile has; or NULL */
	const char *pager; /* a profile's; or NULL */
	enum colour_mode colour;
	int64_t timeout_ms; /* -1: not given */
};

/* Take `argv` apart (it is reordered, and must stay). 0: ret->verb is set, or ret->help (with ret->group or
 * not) or ret->version without a verb; -EINVAL: `why` holds a complaint for people, one line or more. */
int cli_parse(int argc, char **argv, struct cli *ret, struct buf *why);

/* What a profile says for a global option, or for "namespace" and "pager": holds where nothing was given. */
void cli_default(struct cli *c, const char *name, const char *value);
/* May a global option, "namespace" or "pager" have this value? 0, or -EINVAL with a complaint. */
int cli_check_global(const char *name, const char *value, struct buf *why);
/* The namespace to look at: the option --namespace, else the profile's. NULL: all, or the default one. */
const char *cli_namespace(const struct cli *c);

/* The last value of an option, or NULL; "" for one without argument that was given. */
const char *cli_get(const struct cli *c, const char *name);
bool cli_has(const struct cli *c, const char *name);
/* The values of an option that may be repeated, one after the other: start with *pos 0; NULL at the end. */
const char *cli_next(const struct cli *c, const char *name, size_t *pos);

/* Name of a verb as typed: "task get". Returns `dst`. */
const char *verb_title(const struct verb *v, char dst[64]);
/* The verb of one or two words, NULL if there is none. *ret_words says how many words it took. */
const struct verb *verb_find(int nwords, char *const *words, int *ret_words);
/* The group that a verb is in. */
const struct group *verb_group(const struct verb *v);
/* The group of that name, or NULL. */
const struct group *group_find(const char *word);
/* A global option that a verb has another of under the same name or letter. */
bool verb_hides(const struct verb *v, const struct opt *global);
/* The role that a verb needs, as the protocol's table has it; NULL if none. */
const char *verb_role(const struct verb *v);

/* help.c */
void help_all(struct buf *b); /* every verb, one line each */
void help_group(struct buf *b, const struct group *g);
void help_verb(struct buf *b, const struct verb *v); /* usage, options, words */
