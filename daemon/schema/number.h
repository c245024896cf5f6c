/* JSON numbers as decimals, exact to 19 significant digits: comparing and dividing them needs no floating point,
 * so that 0.3 is a multiple of 0.1 and no locale can interfere. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* (-1)^negative * digits * 10^exponent. `digits` has no trailing zeros; zero is {0}. */
struct number {
	uint64_t digits;
	int32_t exponent;
	bool negative;
};

/* Reads a number at `p`, as JSON spells it; returns where it ends, or NULL if there is none. Digits beyond the 19th
 * count only by their place. */
const char *number_read(const char *p, const char *end, struct number *ret);
static inline bool number_is_integer(const struct number *n)
{
	return n->exponent >= 0;
}
int number_compare(const struct number *a, const struct number *b);
/* Whether a / b is an integer; b is not zero. */
bool number_is_multiple(const struct number *a, const struct number *b);
/* True if it is an integer from 0 to 2^53; then *ret is that. */
bool number_to_count(const struct number *n, uint64_t *ret);
