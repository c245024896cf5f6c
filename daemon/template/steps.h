/* What the steps of a template say about each other. */
#pragma once
#include "daemon/template/checker.h"
#include "daemon/template/dag.h"

/* The steps in the order of the file, some of which may not be maps. */
struct steps {
	const struct ynode *list; /* NULL if there is no usable list */
	uint32_t n;
	const char **by_name; /* names, sorted, each once */
	uint32_t *places;     /* of by_name[i] */
	uint32_t n_names;
	struct dag_edge *edges; /* known dependencies */
	size_t n_edges;
};

/* Read names and dependencies of root's steps, reporting repeated names, unknown dependencies and cycles,
 * steps whose types do not fit together, environments that name no step, and features that this engine does
 * not have. *d is complete if no error was reported. 0 or -ENOMEM; steps_done and dag_done in every case. */
int steps_check(struct check *c, const struct ynode *root, struct steps *s, struct dag *d) must_check;
void steps_done(struct steps *s);
/* Place of the step with this name, or DAG_NONE. */
uint32_t steps_find(const struct steps *s, const char *name);
