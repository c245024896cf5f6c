/* Checking a tree against the field tables, and the means by which every check reports. */
#pragma once
#include "daemon/template/yaml_tree.h"

struct check {
	struct findings *f;
	bool draft;
	size_t suggest_budget;
	size_t pattern_parts; /* see struct schema_problems */
};

/* Where a check stands, as a chain on the stack; the root of a file is a NULL path. */
struct path {
	const struct path *up;
	const char *key; /* NULL: an index */
	size_t index;
};
#define PATH_KEY(up_, key_) (&(const struct path){.up = (up_), .key = (key_)})
#define PATH_INDEX(up_, index_) (&(const struct path){.up = (up_), .index = (index_)})

void check_report(struct check *c, enum severity severity, const struct path *p, unsigned line,
                  unsigned column, const char *fmt, ...) printf_like(6, 7);
#define check_error(c, p, at, ...) check_report(c, FINDING_ERROR, p, (at)->line, (at)->column, __VA_ARGS__)
#define check_warning(c, p, at, ...)                                                                         \
	check_report(c, FINDING_WARNING, p, (at)->line, (at)->column, __VA_ARGS__)

struct field;
/* Report everything about `n` that `table` does not allow. */
void check_map(struct check *c, const struct path *p, const struct ynode *n, const struct field *table);

#define NAMESPACE_MAX 29 /* queue names are made of it, and PGMQ allows them 47 characters */
#define NAMESPACE_EXPECTS "1 to 29 letters, digits and underscores, the first not a digit"
#define VERSION_MAX 64
#define VERSION_EXPECTS "a semantic version like 1.4.0 or 2.0.0-rc.1"

/* Rules of rules.c for single values. */
void rule_name(struct check *c, const struct path *p, const struct ynode *n);
void rule_namespace(struct check *c, const struct path *p, const struct ynode *n);
void rule_version(struct check *c, const struct path *p, const struct ynode *n);
void rule_event_name(struct check *c, const struct path *p, const struct ynode *n);
void rule_publisher(struct check *c, const struct path *p, const struct ynode *n);
void rule_retry(struct check *c, const struct path *p, const struct ynode *n);
void rule_retry_override(struct check *c, const struct path *p, const struct ynode *n);
