/* What the protocol's tests share: bytes as hex, and the runner. */
#pragma once
#include <check.h>
#include <stddef.h>
#include <stdlib.h>
#include "protocol/buf.h"

#define N_OF(a) (sizeof(a) / sizeof *(a))

/* Append the bytes of `hex` (blanks are skipped). Anything else than pairs of hex digits fails the test. */
void unhex(struct buf *b, const char *hex);
/* Append `n` bytes of the value `c`. */
void fill(struct buf *b, int c, size_t n);
/* Fail the test unless the content of `b` is `hex`. */
void assert_hex(const struct buf *b, const char *hex, const char *what);
/* Run the suite as TAP; the exit status. */
int run_suite(Suite *s);
