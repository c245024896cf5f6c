#include "protocol/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max ? max : SIZE_MAX / 2};
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = 0;
}

void *buf_reserve(struct buf *b, size_t n)
{
	if (b->failed)
		return NULL;
	if (n > b->max || b->len > b->max - n) {
		b->failed = -EMSGSIZE;
		return NULL;
	}
	size_t need = b->len + n + 1; /* room for buf_text's NUL */
	if (need > b->cap) {
		size_t cap = b->cap ? b->cap : 256;
		while (cap < need)
			cap *= 2;
		unsigned char *p = realloc(b->data, cap);
		if (!p) {
			b->failed = -ENOMEM;
			return NULL;
		}
		b->data = p;
		b->cap = cap;
	}
	return b->data + b->len;
}

void buf_added(struct buf *b, size_t n)
{
	b->len += n;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	void *at = buf_reserve(b, n);
	if (!at)
		return;
	memcpy(at, p, n);
	b->len += n;
}

void buf_join(struct buf *b, const struct buf *part)
{
	buf_append(b, part->data, part->len);
	if (part->failed && !b->failed)
		b->failed = part->failed;
}

void buf_append_str(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_append_char(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	char *at = n < 0 ? NULL : buf_reserve(b, (size_t)n);
	if (at) {
		vsnprintf(at, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (n < b->len)
		memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

char *buf_text(struct buf *b)
{
	if (!b->data && !buf_reserve(b, 1))
		return NULL;
	if (b->failed)
		return NULL;
	b->data[b->len] = '\0';
	return (char *)b->data;
}

char *buf_take_text(struct buf *b)
{
	char *t = buf_text(b);
	if (!t)
		return NULL;
	*b = (struct buf){.max = b->max};
	return t;
}
