/* Names of steps in their tasks. */
#pragma once
#include "daemon/store/tcache.h"

/* Write the name of step `no` as a MessagePack string: the template step's, and for an instance that a batch made the id of its batch, found in its inputs (JSON). */
int step_name_put(struct buf *out, const struct tcache_template *t, int no, const char *inputs, size_t len) must_check;
/* The same for a key of hot_row.deps: the number of a template step, or a name as it is. */
void step_key_put(struct buf *out, const struct tcache_template *t, const char *key, size_t len);
