/* What is said to a peer: responses, errors, notifications. */
#include "daemon/server/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "protocol/buf.h"
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

size_t reply_begin(struct session *s, uint32_t id)
{
	size_t mark = frame_begin(&s->wire.out);
	mp_array(&s->wire.out, 4);
	mp_uint(&s->wire.out, ENV_RESPONSE);
	mp_uint(&s->wire.out, id);
	mp_nil(&s->wire.out);
	return mark;
}

void reply_end(struct session *s, size_t mark)
{
	frame_end(&s->wire.out, mark);
	session_mark_first(s);
}

void write_error_details(struct buf *b, const struct err *e, const struct buf *details)
{
	bool with = details && details->len > 0 && !details->failed;
	bool retry = strcmp(e->code, "overloaded") == 0 || strcmp(e->code, "database_unavailable") == 0;
	mp_map(b, 2u + (e->path[0] != 0) + retry + (e->limit != NULL || with));
	mp_str(b, "code");
	mp_str(b, e->code[0] ? e->code : "internal");
	mp_str(b, "message");
	mp_str(b, e->text);
	if (e->path[0]) {
		mp_str(b, "path");
		mp_str(b, e->path);
	}
	if (retry) {
		mp_str(b, "retry_after_ms");
		mp_uint(b, 500);
	}
	if (with) {
		mp_str(b, "details");
		buf_join(b, details);
	} else if (e->limit) {
		mp_str(b, "details");
		mp_map(b, 2);
		mp_str(b, "limit");
		mp_str(b, e->limit);
		mp_str(b, "max");
		mp_uint(b, e->max);
	}
}

void write_error(struct buf *b, const struct err *e)
{
	write_error_details(b, e, NULL);
}

void write_farewell(struct buf *b, const struct err *e)
{
	size_t mark = frame_begin(b);
	mp_array(b, 3);
	mp_uint(b, ENV_NOTIFICATION);
	mp_str(b, "error");
	write_error(b, e);
	frame_end(b, mark);
}

size_t error_begin(struct session *s, uint32_t id)
{
	size_t mark = frame_begin(&s->wire.out);
	mp_array(&s->wire.out, 4);
	mp_uint(&s->wire.out, ENV_RESPONSE);
	mp_uint(&s->wire.out, id);
	return mark;
}

void error_end(struct session *s, size_t mark)
{
	mp_nil(&s->wire.out);
	reply_end(s, mark);
}

void reply_error(struct session *s, uint32_t id, const struct err *e)
{
	size_t mark = error_begin(s, id);
	write_error(&s->wire.out, e);
	error_end(s, mark);
}

void reply_errorf(struct session *s, uint32_t id, const char *code, const char *path, const char *fmt, ...)
{
	struct err e;
	va_list ap;
	va_start(ap, fmt);
	err_vset(&e, 0, code, fmt, ap);
	va_end(ap);
	snprintf(e.path, sizeof e.path, "%s", path ? path : "");
	reply_error(s, id, &e);
}

size_t notify_begin(struct session *s, const char *method)
{
	size_t mark = frame_begin(&s->wire.out);
	mp_array(&s->wire.out, 3);
	mp_uint(&s->wire.out, ENV_NOTIFICATION);
	mp_str(&s->wire.out, method);
	return mark;
}

void notify_end(struct session *s, size_t mark)
{
	frame_end(&s->wire.out, mark);
	session_mark_dirty(s);
}

void notify_error(struct session *s, const struct err *e)
{
	size_t mark = notify_begin(s, "error");
	write_error(&s->wire.out, e);
	notify_end(s, mark);
}

void refuse_session(struct session *s, const struct err *e)
{
	char left_out[LEFT_OUT_MAX] = "";
	if (ratelimit_ok(&s->srv->peer_log, now_mono(), left_out))
		log_event(LOG_PEER_MISBEHAVES, NULL, "session %llu (pid %d, uid %u): %s%s", (unsigned long long)s->id,
		          (int)s->who.pid, (unsigned)s->who.uid, e->text, left_out);
	notify_error(s, e);
	session_close_after_flush(s);
}

void protocol_error(struct session *s, const char *code, const char *fmt, ...)
{
	struct err e = {0};
	va_list ap;
	va_start(ap, fmt);
	err_vset(&e, 0, code, fmt, ap);
	va_end(ap);
	s->srv->c_protocol_errors++;
	refuse_session(s, &e);
}
