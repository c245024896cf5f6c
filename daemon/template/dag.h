/* The graph of a template's steps: order, cycles, ancestors. Knows nothing of YAML. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"

struct dag_edge {
	uint32_t parent, child; /* places in the file */
	uint32_t item;          /* which entry of the child's dependencies it is */
};

/* A step's number ("no") is its place in topological order. Lists are ascending. */
struct dag {
	uint32_t n;
	uint32_t *order; /* no -> place in the file */
	/* Place in the file -> no; DAG_NONE for a step that a cycle keeps from being ordered. */
	uint32_t *no_of;
	/* Those of `no` are parents[parent_start[no]] up to parents[parent_start[no + 1]]. */
	uint32_t *parent_start, *parents;
	uint32_t *child_start, *children;
};
#define DAG_NONE UINT32_MAX

/* `edges` are grouped by child, children in the order of the file, no edge twice. Kahn's algorithm; of
 * several steps that could be next, the first in the file is. 0; 1 if there is a cycle (only no_of is of use
 * then; see dag_cycles); -ENOMEM. dag_done in every case. */
int dag_build(struct dag *d, uint32_t n, const struct dag_edge *edges, size_t n_edges) must_check;
void dag_done(struct dag *d);

/* After dag_build returned 1: call `found` for at least one cycle of each knot of steps that wait for each
 * other, with the steps in the order in which they would run, beginning with the first in the file, and the
 * edge from the last to the first. 0 or -ENOMEM. */
typedef void dag_cycle_fn(void *arg, const uint32_t *steps, size_t n, const struct dag_edge *closing);
int dag_cycles(const struct dag *d, const struct dag_edge *edges, size_t n_edges, dag_cycle_fn *found,
               void *arg) must_check;

/* The at most `max` (<= DAG_ANCESTORS_MAX) nearest ancestors of `no`, by distance and then number, into
 * `ret`. `stamp` has d->n entries, zeroed before the first call and kept between calls. Returns their number;
 * *ret_cut tells whether there are more. The cost does not depend on how many there are. */
#define DAG_ANCESTORS_MAX 64
size_t dag_ancestors(const struct dag *d, uint32_t no, uint32_t *stamp, uint32_t *ret, size_t max,
                     bool *ret_cut);
