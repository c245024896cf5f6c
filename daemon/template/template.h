/* Task templates: from YAML or JSON text to a checked model, and from there to JSON for the database and to
 * graphs. No I/O here. Every problem of a file is found in one go; see struct finding (findings.h). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "protocol/buf.h"
#include "daemon/template/findings.h"

struct template;
struct template_opts {
	/* Name of the `environments` block to apply, or NULL; a template need not have it. */
	const char *environment;
	/* Warnings count as errors. */
	bool strict;
	/* For drawing and editing: what this version of the engine does not run is only a warning. */
	bool draft;
};

/* Parse and check. `opts` may be NULL (all defaults); *f begins as {0}.
 * 0: *ret is set, the caller frees it; *f may hold warnings. -EINVAL: *f says why, in the order of the file.
 * -ENOMEM. */
int template_parse(const char *source, size_t len, const struct template_opts *opts, struct template **ret,
                   struct findings *f) must_check;
struct template *template_free(struct template *t); /* returns NULL, accepts NULL */
DEFINE_CLEANUP(struct template, cleanup_template, template_free)

/* These live as long as the template. */
const char *template_namespace(const struct template *t);
const char *template_name(const struct template *t);
const char *template_version(const struct template *t);
size_t template_step_count(const struct template *t);
/* Name of the step with this "no", or NULL if there is none. */
const char *template_step_name(const struct template *t, size_t no);

/* What tasker.register_template() takes: one JSON object, keys in this order:
 *
 *   namespace, name, version
 *   digest             hex SHA-256 of the text of `definition`
 *   definition         the whole template, normalised, environments applied
 *   identity_strategy  "strict", "caller_provided" or "always_unique"
 *   input_schema       if there is one
 *   steps              in topological order, ties in file order; each
 *     no               from 0 in that order
 *     name, type, callable
 *     handler          {callable, method?, resolver?, initialization}
 *     retryable, max_attempts, backoff, backoff_base_ms, max_backoff_ms
 *     timeout_seconds  null if there is none
 *     result_schema    if there is one
 *     publishes_events a list of {name, condition, schema, delivery_mode, publisher?, ...}; absent if there are none
 *     batch_config     if there is one
 *     parents, children, ancestors
 *                      lists of nos; ancestors nearest first (by distance, then number), at most
 *                      TEMPLATE_MAX_ANCESTORS
 *     ancestors_cut    there are more ancestors
 *
 * The definition is itself a template: parsing it gives the same definition and digest. Aliases are replaced
 * by the proper names, defaults written out, unknown keys left out (x- keys stay), keys of free maps sorted,
 * so that two files that say the same have the same digest. 0, or -ENOMEM / -EMSGSIZE. */
int template_to_json(const struct template *t, struct buf *out) must_check;
#define TEMPLATE_MAX_ANCESTORS 64

/* The format as a JSON Schema (2020-12), for editors. 0, or -ENOMEM / -EMSGSIZE. */
int template_schema(struct buf *out) must_check;

enum graph_format { GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT };
/* Append a drawing of the DAG. `states`, if not NULL, has one entry per step (by "no"): a state name and a
 * free label (timing), either may be NULL. `colour` means ANSI colours in text and fill colours by state in
 * the others. Text is UTF-8, one row a step and one for each branching, at most as wide as two columns for
 * each edge that is open at a time (beyond GRAPH_MAX_LANES it becomes a list). 0, or -ENOMEM / -EMSGSIZE. */
struct graph_state {
	const char *state, *label;
};
int template_graph(const struct template *t, enum graph_format fmt, const struct graph_state *states,
                   bool colour, struct buf *out) must_check;
#define GRAPH_MAX_LANES 24
