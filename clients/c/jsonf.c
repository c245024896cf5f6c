/* JSON text by a pattern. The pattern is read as text, so the result is parsed once: what is no JSON is not
 * returned. */
#include "clients/c/conn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"

/* A value as JSON, through its MessagePack: escapes and the spelling of numbers are in one place. */
static void put_mp(struct buf *out, const struct buf *mp)
{
	struct mp_value v;
	if (mp->failed || mp_decode(mp->data, mp->len, &v) < 0) {
		out->failed = out->failed ? out->failed : -1;
		return;
	}
	if (mp_to_json(&v.root, "", out, NULL) < 0)
		out->failed = out->failed ? out->failed : -1;
	mp_value_done(&v);
}

static void put_string(struct buf *out, const char *s)
{
	struct buf mp;
	buf_init(&mp, 0);
	mp_str(&mp, s);
	put_mp(out, &mp);
	buf_done(&mp);
}

static void put_double(struct buf *out, double d)
{
	struct buf mp;
	buf_init(&mp, 0);
	mp_double(&mp, d);
	put_mp(out, &mp);
	buf_done(&mp);
}

static void put_value(struct buf *out, const tasker_value *v)
{
	char *json = tasker_json(v);
	if (json)
		buf_append_str(out, json);
	else
		out->failed = out->failed ? out->failed : -1;
	free(json);
}

/* `%`, then l, ll or z, then d or u. Returns how many characters of the pattern it took, 0 if it is something
 * else. */
static size_t put_integer(struct buf *out, const char *f, va_list *args)
{
	size_t longs = strspn(f, "l"), n = longs;
	bool size = f[n] == 'z';
	n += size;
	if ((f[n] != 'd' && f[n] != 'u') || longs > 2 || (size && longs))
		return 0;
	if (f[n] == 'd')
		buf_printf(out, "%lld",
		           size         ? (long long)va_arg(*args, ssize_t)
		           : longs == 0 ? (long long)va_arg(*args, int)
		           : longs == 1 ? (long long)va_arg(*args, long)
		                        : va_arg(*args, long long));
	else
		buf_printf(out, "%llu",
		           size         ? (unsigned long long)va_arg(*args, size_t)
		           : longs == 0 ? (unsigned long long)va_arg(*args, unsigned)
		           : longs == 1 ? (unsigned long long)va_arg(*args, unsigned long)
		                        : va_arg(*args, unsigned long long));
	return n + 1;
}

/* `f` is behind the percent sign. Returns where the pattern goes on, or NULL. */
static const char *put_argument(struct buf *out, const char *f, va_list *args)
{
	const char *text;
	size_t n = put_integer(out, f, args);
	if (n > 0)
		return f + n;
	switch (*f) {
	case 's':
		put_string(out, va_arg(*args, const char *));
		return f + 1;
	case 'f':
		put_double(out, va_arg(*args, double));
		return f + 1;
	case 'b':
		buf_append_str(out, va_arg(*args, int) ? "true" : "false");
		return f + 1;
	case 'j':
		text = va_arg(*args, const char *);
		buf_append_str(out, text ? text : "null");
		return f + 1;
	case 'v':
		put_value(out, va_arg(*args, const tasker_value *));
		return f + 1;
	case '%':
		buf_append_char(out, '%');
		return f + 1;
	default:
		return NULL;
	}
}

static bool is_json(struct buf *text)
{
	struct buf mp;
	const char *s = buf_text(text);
	buf_init(&mp, 0);
	bool good = s && json_to_mp(s, text->len, &mp, NULL) == 0;
	buf_done(&mp);
	return good;
}

char *tasker_vjsonf(const char *format, va_list args)
{
	struct buf out;
	va_list ap;
	const char *f = format;
	buf_init(&out, 0);
	va_copy(ap, args);
	while (f && *f) {
		size_t plain = strcspn(f, "%");
		buf_append(&out, f, plain);
		f += plain;
		if (*f == '%')
			f = put_argument(&out, f + 1, &ap);
	}
	va_end(ap);
	char *text = f && is_json(&out) ? buf_take_text(&out) : NULL;
	buf_done(&out);
	return text;
}

char *tasker_jsonf(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	char *text = tasker_vjsonf(format, ap);
	va_end(ap);
	return text;
}
