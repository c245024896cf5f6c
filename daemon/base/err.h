/* One error style. Functions return 0 or a negative errno; where a person must read the reason, the last parameter is a
 * struct err, filled exactly when the result is negative. Positive results are named conditions of that one function. */
#pragma once
#include "daemon/base/cleanup.h"

struct err {
	char code[32];	  /* an error code of PROTOCOL.md section 9, e.g. "bad_request"; never empty once set */
	char sqlstate[6]; /* five characters, or empty if the database did not say */
	char path[128];	  /* where in the input, or empty */
	char text[512];	  /* a sentence for people, UTF-8, truncated on a character boundary */
};

/* Fill `e` (which may be NULL) and return `rc`, so that callers can write `return err_set(e, -EINVAL, ...)`. */
int err_set(struct err *e, int rc, const char *code, const char *fmt, ...) printf_like(4, 5);
