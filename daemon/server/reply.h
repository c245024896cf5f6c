/* What is said to a peer. It goes into the session's output, and from there to the peer at the end of the turn. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "protocol/buf.h"

struct session;

/* A response: write exactly one value to s->out between begin and end. */
size_t reply_begin(struct session *s, uint32_t id);
void reply_end(struct session *s, size_t mark);
/* An error response whose map the caller writes between begin and end. */
size_t error_begin(struct session *s, uint32_t id);
void error_end(struct session *s, size_t mark);
void reply_error(struct session *s, uint32_t id, const struct err *e);
void reply_errorf(struct session *s, uint32_t id, const char *code, const char *path, const char *fmt, ...)
	printf_like(5, 6);
/* Append the error map itself. */
void write_error(struct buf *b, const struct err *e);
/* A whole frame with it, for whoever has no session: the notification `error`. */
void write_farewell(struct buf *b, const struct err *e);
/* `details` (MessagePack) may be NULL or empty. */
void write_error_details(struct buf *b, const struct err *e, const struct buf *details);
size_t notify_begin(struct session *s, const char *method);
void notify_end(struct session *s, size_t mark);
void notify_error(struct session *s, const struct err *e);
/* Say why, and close the connection. */
void refuse_session(struct session *s, const struct err *e);
void protocol_error(struct session *s, const char *code, const char *fmt, ...) printf_like(3, 4);
