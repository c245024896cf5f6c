/* Traces: which one a step belongs to, for its handler and for the log. */
#include "daemon/server/traces.h"

#include <string.h>
#include "daemon/core/uuid.h"
#include "daemon/server/notes.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/trace/context.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

/* Bytes of a short string with its head. */
static size_t string_size(const unsigned char *p)
{
	if (p[0] >> 5 == 5)
		return 1u + (p[0] & 31u);
	return p[0] == 0xd9 ? 2u + p[1] : 3u + ((size_t)p[1] << 8 | p[2]);
}

/* Where the task's text is left alone: no spans are sent, or it says itself that nobody wants any. */
static bool keeps_text(const struct server *srv, const struct claim *c)
{
	return !srv->opt->trace_url || c->fields == 0 || (c->trace.given && !c->trace.sampled);
}

void step_put(const struct server *srv, const struct claim *c, struct buf *out)
{
	char text[TRACEPARENT_LEN + 1];
	if (keeps_text(srv, c)) {
		mp_map(out, c->fields);
		buf_join(out, &c->body);
		return;
	}
	struct uuid step = uuid_for_step(&c->task, (unsigned)c->step_no);
	struct trace_context t = trace_of_task(&c->trace, c->task.b, (unsigned)srv->opt->trace_sample_percent);
	struct span_id span = span_id_of(step.b, (uint32_t)c->fence);
	size_t at = c->parts.traceparent ? c->parts.carry + c->parts.traceparent : 0, old = 0;
	traceparent_format(&t, &span, text);
	mp_map(out, c->fields + (at ? 0 : 1));
	if (at) /* the pair is there: all up to its value */
		mp_raw(out, c->body.data, at);
	else
		mp_str(out, "traceparent");
	mp_str(out, text);
	if (at)
		old = string_size(c->body.data + at);
	mp_raw(out, c->body.data + at + old, c->body.len - at - old);
}

void note_trace(struct note *n, const struct server *srv, const struct trace_context *trace, const struct uuid *task,
                const struct uuid *step, int fence)
{
	if (!srv->opt->trace_url && !trace->given)
		return;
	struct trace_context t = trace_of_task(trace, task->b, 0);
	struct span_id span = span_id_of(step->b, (uint32_t)fence);
	trace_id_format(t.trace, n->trace);
	if (srv->opt->trace_url)
		span_id_format(&span, n->span);
}
