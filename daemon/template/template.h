/* Task templates: from YAML or JSON text to a checked model, and from there to JSON for the database and to graphs. No I/O here.
 * Every problem of a file is found in one go; see struct finding. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "protocol/buf.h"

enum severity { FINDING_ERROR, FINDING_WARNING };

struct finding {
	enum severity severity;
	unsigned line, column; /* 1-based; 0 if the whole file is meant */
	char *key;	       /* like "steps[2].retry.max_attempts" */
	char *message;	       /* what is wrong and what was expected */
};

struct findings {
	struct finding *items;
	size_t n, cap;
	size_t errors; /* how many of them are errors */
};
void findings_done(struct findings *f);

struct template;
struct template_opts {
	const char *environment; /* name of the `environments` block to apply, or NULL */
	bool strict;		 /* warnings count as errors */
};

/* Parse and check. 0 with *ret set (the caller frees it) if there is no error (warnings may be in *f); -EINVAL with findings; -ENOMEM. */
int template_parse(const char *source, size_t len, const struct template_opts *opts, struct template **ret, struct findings *f)
	__attribute__((warn_unused_result));
struct template *template_free(struct template *t); /* returns NULL, accepts NULL */

const char *template_namespace(const struct template *t);
const char *template_name(const struct template *t);
const char *template_version(const struct template *t);
size_t template_step_count(const struct template *t);

/* What tasker.register_template() takes: one JSON object, keys in fixed order:
 * {"namespace","name","version","digest" (hex SHA-256 of "definition"),"definition": {the whole template, normalised, environments applied},
 *  "identity_strategy": "strict"|"caller_provided"|"always_unique",
 *  "steps": [{"no" (0-based, in topological order, ties in file order),"name","type","callable","handler":{callable,method?,resolver?,initialization},
 *             "retryable","max_attempts","backoff","backoff_base_ms","max_backoff_ms","timeout_seconds" (null if none),
 *             "parents":[nos],"children":[nos],"ancestors":[nos, nearest first by distance then number, at most TEMPLATE_MAX_ANCESTORS],"ancestors_cut":bool}]} */
int template_to_json(const struct template *t, struct buf *out);
#define TEMPLATE_MAX_ANCESTORS 64

enum graph_format { GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT };
/* Append a drawing of the DAG. `states`, if not NULL, has one entry per step (by "no"): a state name and a free label (timing), either may be NULL. */
struct graph_state {
	const char *state, *label;
};
int template_graph(const struct template *t, enum graph_format fmt, const struct graph_state *states, bool colour, struct buf *out);

/* {"severity","file","line","column","key","message"} objects as a JSON array. */
int findings_to_json(const struct findings *f, const char *filename, struct buf *out);
/* "FILE:LINE:COLUMN: error: KEY: MESSAGE" lines. */
int findings_to_text(const struct findings *f, const char *filename, struct buf *out);
