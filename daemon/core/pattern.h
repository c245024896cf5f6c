/* Patterns of event names: `*` stands for any characters, everything else for itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define PATTERN_MAX 255u /* bytes */

/* 1 to PATTERN_MAX bytes without control characters; the bytes are UTF-8. */
bool pattern_valid(const char *pattern, size_t n);
/* In time that grows with the sum of the lengths: who subscribes to the worst patterns does not slow the others. */
bool pattern_fits(const char *pattern, size_t pattern_len, const char *name, size_t name_len);
