/* Templates and outcomes as words, for programs that others drive: see predict.c. What cannot be read ends the
 * program. */
#pragma once
#include "daemon/core/progress.h"

#define WORDS_STEPS 64

struct words_shape {
	unsigned n;
	struct progress_step steps[WORDS_STEPS];
	unsigned children[WORDS_STEPS][WORDS_STEPS];
};
struct words_response {
	char word[200]; /* is taken apart */
	struct progress_outcome outcome;
	unsigned names[WORDS_STEPS];
};

void __attribute__((noreturn)) words_die(const char *what, const char *text);
unsigned words_number(const char *text);
/* What follows "step" in a line that strtok_r takes apart. */
void words_step(struct words_shape *s, char **save);
void words_outcome(struct words_response *r);
