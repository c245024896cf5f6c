/* Which templates have time series of their own. The first so many that are asked for get a number; all that come later
 * share number 0 and are shown as "other", so that no template, however it got there, makes the output grow without
 * bound. Any thread. */
#pragma once
#include <stdint.h>

#define SERIES_OTHER "other"

struct series;

/* `max`: how many, besides the others. NULL: no memory. */
struct series *series_new(unsigned max);
struct series *series_free(struct series *s); /* returns NULL, accepts NULL */
/* The number of a template: 1 to series_count(); 0 for the others, for NULL and when memory has run out. */
unsigned series_of(struct series *s, const char *ns, const char *name);
unsigned series_count(struct series *s);
/* What a number stands for. The texts live as long as `s`. */
void series_names(struct series *s, unsigned id, const char **ret_ns, const char **ret_name);
/* How many templates share number 0. Counted up to SERIES_FOLDED_MAX. */
#define SERIES_FOLDED_MAX 65536u
unsigned series_folded(struct series *s);
