/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once
#include <stddef.h>

/* The number of leading bytes of `p` that are well-formed UTF-8 in whole characters; `n` if all are. U+0000
 * is well-formed. */
size_t utf8_span(const void *p, size_t n);
/* The longest prefix of at most `max` bytes of the well-formed text `p` that does not cut a character in two.
 */
size_t utf8_prefix(const void *p, size_t n, size_t max);
/* Copy the well-formed text `p` into `to`, which has room for `size` > 0 bytes with the NUL, whole characters only.
 * Returns how many bytes were copied. */
size_t utf8_copy(char *to, size_t size, const void *p, size_t n);
/* Take every byte that is not part of a whole character out of the NUL-terminated `s`, in place. */
void utf8_scrub(char *s);
