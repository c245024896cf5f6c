/* Names of steps in their tasks. */
#pragma once
#include "daemon/store/tcache.h"

/* Write the name of step `no` as a MessagePack string: the template step's, and for an instance that a batch made the
 * id of its batch, found in its inputs (JSON). */
int step_name_put(struct buf *out, const struct tcache_template *t, int no, const char *inputs, size_t len) must_check;

struct step_named {
	const char *name; /* borrowed */
	size_t len;
	int no;
};

/* What a key of hot_row.deps says: the number of a template step, or a number, a space and the name of what a batch
 * made. */
struct step_named step_key_read(const struct tcache_template *t, const char *key, size_t len);
/* Write the field "dependency_steps": the numbers in the order of the names' bytes. Sorts `v`. */
void step_numbers_put(struct buf *out, struct step_named *v, size_t n);
