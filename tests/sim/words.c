/* Reading of templates and outcomes, for programs that others drive. */
#include "tests/sim/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void words_die(const char *what, const char *text)
{
	fprintf(stderr, "model: %s: %s\n", what, text);
	exit(2);
}

unsigned words_number(const char *text)
{
	return (unsigned)strtoul(text ? text : "", NULL, 10);
}

static int look_up(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (name && strcmp(names[i], name) == 0)
			return i;
	words_die("unknown word", name ? name : "none");
}

void words_step(struct words_shape *s, char **save)
{
	static const char *const kinds[] = {"standard",  "decision",     "deferred_convergence",
	                                    "batchable", "batch_worker", NULL};
	static const char *const strategies[] = {"isolate", "continue_on_failure", "fail_fast", NULL};
	if (s->n == WORDS_STEPS)
		words_die("too many steps", "");
	struct progress_step *p = &s->steps[s->n];
	p->kind = (enum progress_kind)look_up(kinds, strtok_r(NULL, " ", save));
	p->max_attempts = words_number(strtok_r(NULL, " ", save));
	p->retryable = words_number(strtok_r(NULL, " ", save));
	p->strategy = (enum progress_strategy)look_up(strategies, strtok_r(NULL, " ", save));
	p->parallelism = words_number(strtok_r(NULL, " ", save));
	for (const char *t; (t = strtok_r(NULL, " ", save));) {
		struct progress_step *parent = &s->steps[words_number(t)];
		s->children[words_number(t)][parent->n_children++] = s->n;
	}
	p->children = s->children[s->n++];
}

void words_outcome(struct words_response *r)
{
	char *save = NULL, *word = strtok_r(r->word, ":", &save), *rest = strtok_r(NULL, ":", &save);
	struct progress_outcome *o = &r->outcome;
	*o = (struct progress_outcome){.type = OUTCOME_NONE, .steps = r->names};
	if (strcmp(word, "none") == 0) {
		o->type = OUTCOME_NO_BRANCHES;
	} else if (strcmp(word, "bad") == 0) {
		o->type = OUTCOME_MALFORMED;
	} else if (strcmp(word, "batches") == 0 || strcmp(word, "nobatches") == 0) {
		o->type = word[0] == 'n' ? OUTCOME_NO_BATCHES : OUTCOME_CREATE_BATCHES;
		o->worker = strcmp(rest, "-1") == 0 ? PROGRESS_EVERY : words_number(rest);
		o->n_instances = words_number(strtok_r(NULL, ":", &save));
	} else if (strcmp(word, "names") == 0) {
		o->type = OUTCOME_CREATE_STEPS;
		for (char *t = strtok_r(rest, ",", &save); t && o->n_steps < WORDS_STEPS;
		     t = strtok_r(NULL, ",", &save))
			r->names[o->n_steps++] = words_number(t);
	}
}
