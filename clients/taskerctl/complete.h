/* What may be written where, from the table of verbs. Pure. */
#pragma once
#include "clients/taskerctl/cli.h"
#include "protocol/buf.h"

#define LINE_OPTIONS 16u
#define LINE_ARGS 4

/* What stands before the word that is being completed. */
struct line {
	const struct group *group;
	const struct verb *verb;
	const char *args[LINE_ARGS]; /* of the verb, the first ones */
	int nargs;
	struct optval values[LINE_OPTIONS];
	size_t nvalues;
	const struct opt *awaits; /* the word is its value */
	bool ended;               /* behind -- */
	bool lost;                /* a word is no command: nothing can follow */
};

struct offers {
	struct buf *buf;    /* lines: value, tab, about */
	const char *before; /* in front of each value: "--state=" */
	int before_len;
	const char *prefix; /* what they begin with */
};

/* The last value of an option that was given, or NULL. */
const char *line_value(const struct line *l, const char *option);
/* Offer a value, if it begins as the word does and can stand in one line. */
void offer(struct offers *o, const char *value, const char *about);
/* The last of `words` is being completed. Offers all that the tables know; the kind of value that may stand there as
 * well is returned, NULL if none. */
const struct kind *complete_words(int nwords, char *const *words, struct line *ret, struct offers *o);

struct completion_script {
	const char *shell, *text;
};
extern const struct completion_script completion_scripts[]; /* made from completion/; ends with NULL */
