/* Domain events, before they are published: what a template declares for a step, and what the daemon knows of the end
 * of an attempt that the database cannot: the words of the worker's publishers, and which payloads do not fit their
 * schema. */
#pragma once
#include "daemon/base/err.h"
#include "daemon/store/request.h"

struct schema;

enum event_condition { EVENT_SUCCESS, EVENT_FAILURE, EVENT_RETRYABLE_FAILURE, EVENT_PERMANENT_FAILURE, EVENT_ALWAYS };

struct declared_event {
	char *name;
	enum event_condition condition;
	struct schema *schema;
};

/* Of one step, in the order of the template. */
struct declared_events {
	struct declared_event *list;
	size_t n;
	struct buf words; /* MessagePack: publishes_events of step.execute */
};

/* From the JSON list of the database. 0 or negative with *e. *d begins as {0}. */
int declared_read(struct declared_events *d, const char *json, size_t len, struct err *e) must_check;
void declared_done(struct declared_events *d);

/* Whether the end of an attempt meets a condition; `final`: the step has failed with it. As tasker.event_fires. */
bool event_fires(enum event_condition c, enum outcome outcome, bool final);

/* Write p_events of tasker.publish_events into q->known, once, and put what is wrong into the attempt's metadata.
 * `final`: a failure is the step's last. Returns how many events are refused, or -ENOMEM. */
int fire_prepare(const struct declared_events *d, struct req_result *q, bool final);
