/* Shared by the files that count and show metrics. */
#pragma once
#include "daemon/metrics/histogram.h"

struct server;
extern const struct histogram_kind step_times, call_times, call_sizes;
#define METRICS_FRESH_US (5 * USEC_PER_SEC)  /* how old what the database has said may be for a scrape */
#define METRICS_PATIENCE_MS 2000	     /* how long a scrape waits for the database */
#define METRICS_STALE_US (60 * USEC_PER_SEC) /* after which it is not shown */
/* metrics_scrape.c: nobody waits any more. */
void metrics_stop_waiting(struct server *srv);
