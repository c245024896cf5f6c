/* A growable byte buffer with a ceiling and a sticky error: append ten things, check once. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct buf {
	unsigned char *data;
	size_t len, cap;
	size_t max;   /* never grows beyond this many bytes */
	int failed;   /* 0, or -ENOMEM / -EMSGSIZE from the first append that did not fit; later appends do nothing */
};

/* `max` 0 means no ceiling but SIZE_MAX/2. */
void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
/* Forget the content and the error, keep the memory. */
void buf_reset(struct buf *b);
void buf_append(struct buf *b, const void *p, size_t n);
/* What another buffer holds. If that has failed, so has this one: half of something must not be sent as if it were
 * whole. */
void buf_join(struct buf *b, const struct buf *part);
void buf_append_str(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Remove `n` bytes from the front. */
void buf_consume(struct buf *b, size_t n);
/* Make room for `n` more bytes and return where they go, or NULL (sticky error set). Follow with buf_added. */
void *buf_reserve(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);
/* NUL-terminate (not counted in len) and return the text, or NULL if failed. Valid until the next append. */
char *buf_text(struct buf *b);
/* Hand the memory to the caller (NUL-terminated), leaving the buffer empty; NULL if failed. */
char *buf_take_text(struct buf *b);
