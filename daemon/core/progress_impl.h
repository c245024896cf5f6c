/* Inside the model of progress: what its files share. */
#pragma once
#include <stddef.h>
#include "daemon/core/progress.h"

/* A step of the template. */
struct shape {
	enum progress_kind kind;
	enum progress_strategy strategy;
	enum progress_existence existence;
	unsigned max_attempts, parallelism;
	unsigned n_children, n_parents;
	size_t first_child, first_parent; /* indices into edges */
	unsigned depth;                   /* decisions above it and, being one, itself */
	bool retryable;
	bool counts;                   /* the task is not complete without it */
	bool named;                    /* by a decision */
	bool decided;                  /* a decision that is satisfied */
	unsigned first, n;             /* a batch worker's instances among the nodes */
	unsigned n_unsatisfied;        /* of the instances */
	/* The gate of a batch with parallelism: so many instances have been let through, so many of them have
	 * not ended. Those that were reset come back to it and go first. */
	unsigned n_released, n_inside, n_returned;
};

/* A step that runs: nodes[0] to nodes[n_steps - 1] are those of the template, then come instances. */
struct node {
	enum step_state state;
	unsigned of; /* the step of the template */
	unsigned pending_parents, attempts, fence, checkpoints;
	unsigned returned; /* its place among those that came back to the gate; 0: it is not there */
	bool tolerated; /* in error, and yet satisfied */
	bool delayed;   /* was waiting for a retry when the task was paused */
};

struct progress {
	enum task_state state;
	struct progress_counts counts;
	bool counted, dynamic, paused;
	unsigned n_steps, n_nodes, n_ready;
	unsigned n_open; /* steps that exist and are not satisfied */
	size_t n_edges;
	struct shape *steps; /* one block with the edges, all children and then all parents */
	unsigned *edges;
	struct node *nodes;
	unsigned *ready; /* numbers of steps; room for every node */
};

/* progress.c */
void progress_settle(struct progress *p);
unsigned progress_number(const struct progress *p, unsigned node);
struct node *progress_node(const struct progress *p, unsigned step); /* NULL: there is none */

/* progress_steps.c */
bool progress_satisfied(const struct node *n);
/* Change the state and what is counted by it. */
void progress_move(struct progress *p, struct node *n, enum step_state to);
/* Enqueue the node if nothing keeps it; it is pending, without pending parents. */
void progress_make_ready(struct progress *p, struct node *n);
/* The node has become satisfied: its dependants, and what its outcome creates. The outcome has been checked
 * and room reserved. */
void progress_satisfy(struct progress *p, struct node *n, const struct progress_outcome *outcome);
/* One parent less for a step of the template, or for all its instances. */
void progress_count_down(struct progress *p, unsigned step);
/* let through the gate of its batch, if there is one */
bool progress_is_inside(const struct progress *p, const struct node *n);
/* An instance that was inside has ended. */
void progress_leave(struct progress *p, const struct node *n);
/* Let instances through while there is room. */
void progress_open_gate(struct progress *p, unsigned of);

/* progress_dynamic.c */
/* 0, -EINVAL (it cannot be applied), -ENOMEM. Reserves the nodes that it takes. */
int progress_check_outcome(struct progress *p, unsigned of, const struct progress_outcome *outcome);
void progress_apply_outcome(struct progress *p, unsigned of, const struct progress_outcome *outcome);
/* Create what can be created now, rule out what cannot. */
void progress_propagate(struct progress *p);
void progress_fail_batch(struct progress *p, unsigned of);
