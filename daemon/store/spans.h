/* Spans on their way to a collector. When a task has come to rest, a thread of its own reads from the history what this
 * node has ended of it, and sends that. Who tells it never waits: beyond a bound tasks are dropped, and counted. */
#pragma once
#include "daemon/store/store.h"

struct spans;

/* Starts the thread, if cfg.trace.url is set; else *ret is NULL, which all functions here accept. */
int spans_start(struct store *s, struct spans **ret, struct err *e) must_check;
/* Tasks have settled, says what comes from the database. */
void spans_note(struct spans *sp, const struct done *d);
/* Sends what waits, for two seconds at most. What it is told from then on is not sent. */
void spans_stop(struct spans *sp);
/* Returns NULL. */
struct spans *spans_free(struct spans *sp);
