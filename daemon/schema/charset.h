/* Sets of code points, while they are being made. */
#pragma once
#include <stddef.h>
#include "daemon/schema/regex_impl.h"

#define CODE_POINT_MAX 0x10ffffu

/* 0 or -ENOMEM. */
int charset_add(struct charset *s, uint32_t lo, uint32_t hi) must_check;
/* What stands for many: 'd', 'w', 's', their opposites 'D', 'W', 'S', and '.'. 1 if the letter is none. */
int charset_add_class(struct charset *s, char letter) must_check;
/* Bring it into order; the opposite if `negated`. */
int charset_finish(struct charset *s, bool negated) must_check;
/* A Unicode property, like "Letter", "Lu" or "gc=Lu", or what lacks it. 1 if there is none of this name. */
int charset_add_property(struct charset *s, const char *name, size_t len, bool negated) must_check;

/* The general categories, made by gen_unicode.py; ends with a NULL name. */
struct category {
	const char *name;
	const struct range *ranges;
	size_t n;
};
extern const struct category categories[];
