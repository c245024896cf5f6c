/* Sets of code points, while they are being made. */
#pragma once
#include "daemon/schema/regex_impl.h"

#define CODE_POINT_MAX 0x10ffffu

/* 0 or -ENOMEM. */
int charset_add(struct charset *s, uint32_t lo, uint32_t hi) must_check;
/* What stands for many: 'd', 'w', 's', their opposites 'D', 'W', 'S', and '.'. 1 if the letter is none. */
int charset_add_class(struct charset *s, char letter) must_check;
/* Bring it into order; the opposite if `negated`. */
int charset_finish(struct charset *s, bool negated) must_check;
