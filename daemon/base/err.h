/* One error style. Functions return 0 or a negative errno; where a person must read the reason, the last parameter is a
 * struct err, filled exactly when the result is negative. Positive results are named conditions of that one
 * function. */
#pragma once
#include <stdarg.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"

struct err {
	char code[32];	  /* an error code of PROTOCOL.md section 9, e.g. "bad_request"; never empty once set */
	char sqlstate[6]; /* five characters, or empty if the database did not say */
	char path[128];	  /* where in the input, or empty */
	char text[512];	  /* a sentence for people, UTF-8, truncated on a character boundary */
	const char *limit; /* with too_large: the limit that was exceeded (static text), or NULL */
	uint64_t max;	  /* with `limit`: what it allows */
};

/* Fill `e` (which may be NULL) and return `rc`, so that callers can write `return err_set(e, -EINVAL, ...)`. Arguments
 * that are not UTF-8, or are cut by a precision, lose the bytes that are not. */
int err_set(struct err *e, int rc, const char *code, const char *fmt, ...) printf_like(4, 5);
int err_vset(struct err *e, int rc, const char *code, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));
/* The same for the code too_large: `limit` (static text) says which limit, `max` what it allows. */
int err_limit(struct err *e, int rc, const char *limit, uint64_t max, const char *fmt, ...) printf_like(5, 6);
