/* What the log is told of steps and workers. */
#pragma once
#include "daemon/core/uuid.h"
#include "daemon/store/request.h"
#include "daemon/trace/context.h"

struct server;
struct session;

struct note {
	char task[UUID_TEXT], step[UUID_TEXT], worker[UUID_TEXT], attempt[16], trace[TRACE_ID_TEXT], span[SPAN_ID_TEXT];
	const char *fields[21];
};
/* The fields, which point into *n. Of a result under way; of a step of that session, or of its worker alone (step
 * NULL). */
const char *const *note_result(struct note *n, struct server *srv, const struct req *r);
const char *const *note_step(struct note *n, const struct session *s, const struct uuid *step);
/* Remember what its template is called, before its inputs are thrown away. */
void note_template(struct server *srv, const struct claim *c);
void note_failure(struct server *srv, const struct req *r);
void note_refused_events(struct server *srv, const struct req *r);
void note_worker_gone(struct session *s, const char *why);
void notes_free(struct server *srv);
