/* Filling a struct err. The text may come from a peer or the database and be cut anywhere: what is left is UTF-8. No
 * state, any thread. */
#include "daemon/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "protocol/utf8.h"

int err_vset(struct err *e, int rc, const char *code, const char *fmt, va_list ap)
{
	if (!e)
		return rc;
	memset(e, 0, sizeof *e);
	snprintf(e->code, sizeof e->code, "%s", code);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	utf8_scrub(e->text);
	return rc;
}

int err_set(struct err *e, int rc, const char *code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	err_vset(e, rc, code, fmt, ap);
	va_end(ap);
	return rc;
}

int err_limit(struct err *e, int rc, const char *limit, uint64_t max, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	err_vset(e, rc, "too_large", fmt, ap);
	va_end(ap);
	if (e) {
		e->limit = limit;
		e->max = max;
	}
	return rc;
}
