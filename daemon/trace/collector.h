/* A collector of spans: OTLP over HTTP, in JSON. For one thread, which waits here. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"

struct collector;
struct collector_config {
	const char *url;     /* without a path, /v1/traces is added */
	const char *headers; /* as collector_next_header reads them; or NULL */
	const char *version, *node;
	int stop_fd; /* readable: a request under way is given up, unless its deadline is within grace_ms */
	int grace_ms;
};

enum collector_verdict {
	COLLECTOR_TOOK,	   /* but for ret_refused */
	COLLECTOR_REFUSED, /* and would again */
	COLLECTOR_LATER,   /* it may take them another time */
};

int collector_new(const struct collector_config *cfg, struct collector **ret, struct err *e) must_check;
/* Returns NULL, accepts NULL. Waits for nothing. */
struct collector *collector_free(struct collector *c);
/* A request with `spans`, objects with commas between them; it ends before `deadline` (monotonic). *e says why, unless
 * all were taken; *ret_wait_ms how long to wait before the next try, if the collector has said so, else 0. */
enum collector_verdict collector_send(struct collector *c, const char *spans, usec_t deadline, uint64_t *ret_refused,
                                      int *ret_wait_ms, struct err *e);
