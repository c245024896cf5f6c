/* Regular expressions as JSON Schema writes them (ECMA-262, by code points), searched in time proportional to the text:
 * all alternatives are followed at once, so no pattern and no text can make it explode. Lookahead, lookbehind and the
 * general categories of Unicode are there; back references and other Unicode properties are not. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"

struct regex;

/* `why` (at least REGEX_WHY bytes) says what is wrong with -EINVAL. -ENOMEM. */
int regex_compile(const char *pattern, size_t len, struct regex **ret, char *why) must_check;
#define REGEX_WHY 120
struct regex *regex_free(struct regex *r); /* returns NULL, accepts NULL */
DEFINE_CLEANUP(struct regex, cleanup_regex, regex_free)

/* How large it is: instructions and ranges. */
size_t regex_parts(const struct regex *r);

/* 1: found somewhere in the text; 0: not; -E2BIG: `work` (which falls by what was done) was not enough; -ENOMEM. */
int regex_search(const struct regex *r, const char *text, size_t len, uint64_t *work) must_check;
