/* The four bytes around every payload. Pure functions over a struct buf or over received bytes; they keep
 * nothing, may run on any thread, and never look inside the payload (that is scan.c's work). */
#include "protocol/frame.h"

#include <errno.h>

static uint32_t load_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

size_t frame_begin(struct buf *out)
{
	static const unsigned char blank[FRAME_HEADER];
	size_t mark = out->len;
	buf_append(out, blank, sizeof blank);
	return mark;
}

void frame_end(struct buf *out, size_t mark)
{
	if (out->failed)
		return;
	size_t n = out->len - mark - FRAME_HEADER;
	if (n == 0 || n > UINT32_MAX) {
		out->failed = -EMSGSIZE;
		return;
	}
	store_be32(out->data + mark, (uint32_t)n);
}

int frame_peek(const unsigned char *data, size_t len, size_t max_payload, size_t *ret_off, size_t *ret_len)
{
	if (len < FRAME_HEADER)
		return 0;
	size_t n = load_be32(data);
	if (n == 0 || n > max_payload)
		return -EMSGSIZE;
	if (len - FRAME_HEADER < n)
		return 0;
	*ret_off = FRAME_HEADER;
	*ret_len = n;
	return 1;
}
