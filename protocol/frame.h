/* Frames: u32 big-endian length, then that many bytes. See PROTOCOL.md section 1. */
#pragma once
#include "protocol/buf.h"

#define FRAME_HEADER 4u

/* Start a frame at the end of `out`; returns the mark for frame_end, which patches the length in. Nothing may
 * be removed from the front of `out` in between. On overflow, or if the payload is empty, the buffer's sticky
 * error is set. */
size_t frame_begin(struct buf *out);
void frame_end(struct buf *out, size_t mark);

/* Look at `len` received bytes. 1: a whole frame, its payload is data[*ret_off .. *ret_off + *ret_len); 0:
 * more bytes needed; -EMSGSIZE: the announced length is 0 or above `max_payload`. */
int frame_peek(const unsigned char *data, size_t len, size_t max_payload, size_t *ret_off, size_t *ret_len);
