/* A stream of frames, read in pieces of any size as a session does, yields the same frames and the same end
 * as read at once. The first byte of the input chooses the pieces. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/frame.h"
#include "protocol/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_PAYLOAD 4096u

struct seen {
	size_t frames, bytes, good; /* whole frames, bytes of them, and how many held one well-formed value */
	int end;                    /* what frame_peek last said: 0 or -EMSGSIZE */
};

static void must(int ok)
{
	if (!ok)
		abort();
}

/* Take all whole frames off the front of `in`. */
static void drain(struct buf *in, struct seen *s)
{
	static const struct scan_limits limits = {.max_items = 4096, .max_depth = 30};
	struct scan_error se;
	size_t off, len;
	while ((s->end = frame_peek(in->data, in->len, MAX_PAYLOAD, &off, &len)) == 1) {
		must(off == FRAME_HEADER && len >= 1 && len <= MAX_PAYLOAD && off + len <= in->len);
		s->good += scan_value(in->data + off, len, &limits, &se) == 0;
		s->frames++;
		s->bytes += off + len;
		buf_consume(in, off + len);
	}
	must(s->end == 0 || s->end == -EMSGSIZE);
}

static struct seen read_in_pieces(const uint8_t *data, size_t size, unsigned pattern)
{
	struct seen s = {0};
	struct buf in;
	buf_init(&in, FRAME_HEADER + MAX_PAYLOAD + 256);
	for (size_t at = 0, n; at < size && s.end == 0; at += n) {
		n = pattern % 255 + 1;
		n = n < size - at ? n : size - at;
		pattern = pattern * 1103515245u + 12345u;
		buf_append(&in, data + at, n);
		must(in.failed == 0); /* a session's buffer never needs more than one frame and one piece */
		drain(&in, &s);
	}
	buf_done(&in);
	return s;
}

static struct seen read_at_once(const uint8_t *data, size_t size)
{
	struct seen s = {0};
	struct buf in;
	buf_init(&in, 0);
	buf_append(&in, data, size);
	drain(&in, &s);
	buf_done(&in);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct seen whole = read_at_once(data + 1, size - 1),
	            cut = read_in_pieces(data + 1, size - 1, data[0]);
	must(whole.frames == cut.frames && whole.bytes == cut.bytes && whole.good == cut.good &&
	     whole.end == cut.end);
	return 0;
}
