/* How many steps, and how many a second lately. */
#pragma once
#include <stdint.h>
#include "daemon/base/clock.h"

struct server;

struct rate {
	uint64_t done, before; /* ever; at the last tick */
	double per_s;
};

/* A result of this handler was recorded. */
void handler_did(struct server *srv, int id);
/* Of all sessions and handlers, once a second or so. */
void rates_tick(struct server *srv, usec_t now);
/* A second, to two places. */
double rate_rounded(const struct rate *r);
