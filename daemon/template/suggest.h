/* "did you mean": the nearest of some names to a mistyped one. */
#pragma once
#include <stddef.h>

/* The name of `names` that is nearest to `word`, if it is near enough to be a slip (letter case aside, about
 * one letter in three), else NULL. `budget` is counted down with the work; once it is used up the answer is
 * NULL, so a hostile file costs a bounded time. */
const char *suggest_nearest(const char *word, const char *const *names, size_t n, size_t *budget);
#define SUGGEST_BUDGET 200000 /* a comparison costs 1, and 1 for each 64 pairs of letters */
