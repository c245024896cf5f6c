/* How the client library says what went wrong. */
#include "clients/c/conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Drop a character that the size limit has cut in two. */
static void trim_partial_utf8(char *s, size_t n)
{
	size_t i = n;
	while (i > 0 && ((unsigned char)s[i - 1] & 0xC0) == 0x80)
		i--;
	if (i == 0)
		return;
	unsigned char lead = (unsigned char)s[i - 1];
	size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (n - (i - 1) < need)
		s[i - 1] = '\0';
}

int tasker_fail_(struct tasker_error *e, int rc, const char *code, const char *fmt, ...)
{
	if (!e)
		return rc;
	memset(e, 0, sizeof *e);
	e->rc = rc;
	snprintf(e->code, sizeof e->code, "%s", code);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->message, sizeof e->message, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof e->message)
		trim_partial_utf8(e->message, sizeof e->message - 1);
	return rc;
}

static void copy_text(const msgpack_object *error, const char *key, char *dst, size_t size)
{
	if (tasker_copy(tasker_get(as_value(error), key), dst, size) >= size)
		trim_partial_utf8(dst, size - 1);
}

int tasker_fail_remote_(struct tasker_error *e, const msgpack_object *error)
{
	if (!e)
		return -EREMOTEIO;
	memset(e, 0, sizeof *e);
	e->rc = -EREMOTEIO;
	copy_text(error, "code", e->code, sizeof e->code);
	if (!e->code[0])
		snprintf(e->code, sizeof e->code, "internal");
	copy_text(error, "message", e->message, sizeof e->message);
	copy_text(error, "path", e->path, sizeof e->path);
	int64_t ms = tasker_int(tasker_get(as_value(error), "retry_after_ms"), 0);
	e->retry_after_ms = ms > 0 ? ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX : 0;
	return -EREMOTEIO;
}
