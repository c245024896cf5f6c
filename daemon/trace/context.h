/* W3C trace context: the text that travels with tasks, and the ids of our own spans. They follow from what the spans
 * are of, so that every daemon and every restart names the same ones without asking (tasker.span_id in SQL makes them
 * too). Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"

#define TRACEPARENT_LEN 55 /* of version 00 */
#define TRACE_ID_TEXT 33   /* bytes, with the NUL */
#define SPAN_ID_TEXT 17

struct span_id {
	uint8_t b[8];
};

struct trace_context {
	uint8_t trace[16];
	struct span_id parent;
	bool given;   /* it came with the task; else the rest says nothing */
	bool sampled;
};

/* "00-<32 hex>-<16 hex>-<2 hex>", or of a later version, which may be longer. False: it is none, and *ret is as if
 * there were none. */
bool traceparent_parse(const char *p, size_t n, struct trace_context *ret);
void traceparent_format(const struct trace_context *c, const struct span_id *parent, char out[TRACEPARENT_LEN + 1]);
/* The trace of the task `uuid`: that which came with it, or one of its own, whose id is the UUID and of which `percent`
 * in a hundred are sampled. */
struct trace_context trace_of_task(const struct trace_context *given, const uint8_t uuid[16], unsigned percent);
/* The span of an attempt: a step's UUID and the fence of its claim; of a run of a task: its UUID and how many there
 * were before. */
struct span_id span_id_of(const uint8_t uuid[16], uint32_t no);
void trace_id_format(const uint8_t trace[16], char out[TRACE_ID_TEXT]);
void span_id_format(const struct span_id *id, char out[SPAN_ID_TEXT]);
