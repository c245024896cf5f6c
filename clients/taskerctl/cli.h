/* The command line: verbs, their options, and what was given. Parsing is pure but for getopt_long's own
 * state. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "protocol/buf.h"

struct ctl;

struct opt {
	const char *name;
	char letter;     /* or 0 */
	const char *arg; /* what the argument is called; NULL: the option takes none */
	const char *help;
};

struct verb {
	const char *group; /* "task", or NULL for a verb of one word */
	const char *name;
	const char *args;       /* as shown in the usage line */
	const char *summary;    /* one line, no full stop */
	const char *help;       /* more paragraphs, or NULL */
	const struct opt *opts; /* ends with a NULL name */
	int min_args, max_args; /* max -1: any number */
	bool waits; /* --timeout is for the tasks, not for a request; an option --wait means the same */
	int (*run)(struct ctl *c); /* returns an exit code */
};

extern const struct opt global_options[];
extern const struct verb verbs[]; /* ends with a NULL name */

enum colour_mode { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

struct optval {
	const struct opt *opt;
	const char *value; /* NULL for an option without argument */
};

#define CLI_MAX_OPTIONS 128u

struct cli {
	const struct verb *verb;
	const char *group; /* set instead of `verb` for "task --help" */
	char **args;
	int nargs;
	struct optval values[CLI_MAX_OPTIONS];
	size_t nvalues;
	/* the global ones, decoded */
	const char *socket;
	bool json, quiet, help, version;
	enum colour_mode colour;
	int64_t timeout_ms; /* -1: not given */
};

/* Take `argv` apart (it is reordered, and must stay). 0: ret->verb is set, or ret->help (with ret->group or
 * not) or ret->version without a verb; -EINVAL: `why` holds a complaint for people, one line or more. */
int cli_parse(int argc, char **argv, struct cli *ret, struct buf *why);

/* The last value of an option, or NULL; "" for one without argument that was given. */
const char *cli_get(const struct cli *c, const char *name);
bool cli_has(const struct cli *c, const char *name);
/* The values of an option that may be repeated, one after the other: start with *pos 0; NULL at the end. */
const char *cli_next(const struct cli *c, const char *name, size_t *pos);

/* Name of a verb as typed: "task get". Returns `dst`. */
const char *verb_title(const struct verb *v, char dst[64]);
/* The verb of one or two words, NULL if there is none. *ret_words says how many words it took. */
const struct verb *verb_find(int nwords, char *const *words, int *ret_words);
/* Are there verbs of this group? */
bool verb_is_group(const char *word);

/* help.c */
void help_all(struct buf *b); /* every verb, one line each */
void help_group(struct buf *b, const char *group);
void help_verb(struct buf *b, const struct verb *v); /* usage, options, words */
