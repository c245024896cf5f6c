/* YAML or JSON text to a tree of values that know their place, within bounds. One document; anchors, aliases
 * and tags are refused; keys are text and occur once in a map; plain scalars follow the core schema of
 * YAML 1.2 (null, true, false, numbers), everything in quotes is text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/template/findings.h"

enum ynode_kind {
	YNODE_INVALID, /* already reported; to be skipped without another finding */
	YNODE_NULL,
	YNODE_BOOL,
	YNODE_INT,
	YNODE_FLOAT, /* always finite */
	YNODE_STR,   /* UTF-8 without U+0000, NUL-terminated */
	YNODE_SEQ,
	YNODE_MAP,
};

struct ynode;

struct ypair {
	const char *key;
	unsigned line, column; /* of the key */
	struct ynode *value;
};

struct ynode {
	enum ynode_kind kind;
	unsigned line, column; /* 1-based */
	size_t n;              /* bytes of text, items or pairs */
	const char *text;      /* scalars: as written, without the quotes */
	union {
		bool boolean;
		int64_t integer;
		double real;
		struct ynode **items;
		struct ypair *pairs; /* in the order of the file */
	} u;
};

struct yaml_limits {
	size_t max_bytes, max_nodes;
	unsigned max_depth; /* a lone scalar has depth 0, a list of scalars 1 */
};
#define YAML_LIMITS_DEFAULT ((struct yaml_limits){.max_bytes = 16 << 20, .max_nodes = 2000000, .max_depth = 32})

/* Owns the nodes and their text; nothing points into the source. */
struct yaml_tree;

/* Read `len` bytes. `limits` NULL means YAML_LIMITS_DEFAULT.
 * 0: *ret is a whole tree, to be freed by the caller. Findings may have been added even so, errors among them
 * (an alias, a key twice): compare f->errors before and after; the place of what was refused is a
 * YNODE_INVALID or left out, so checking the rest makes sense. -EINVAL: no tree; at least one error was
 * added. -ENOMEM. */
int yaml_tree_parse(const char *source, size_t len, const struct yaml_limits *limits, struct yaml_tree **ret,
                    struct findings *f) must_check;
struct yaml_tree *yaml_tree_free(struct yaml_tree *t); /* returns NULL, accepts NULL */
DEFINE_CLEANUP(struct yaml_tree, cleanup_yaml_tree, yaml_tree_free)

const struct ynode *yaml_tree_root(const struct yaml_tree *t);

/* Memory that lives as long as the tree, zeroed; NULL if there is none. */
void *yaml_tree_alloc(struct yaml_tree *t, size_t size);

/* The value under `key`, or NULL if `map` is NULL, is not a map or has no such key. */
const struct ynode *ynode_get(const struct ynode *map, const char *key);
const struct ypair *ynode_pair(const struct ynode *map, const char *key);
/* The text of a string node, or NULL for anything else. */
const char *ynode_str(const struct ynode *n);
static inline bool ynode_is(const struct ynode *n, enum ynode_kind kind)
{
	return n && n->kind == kind;
}

/* What a node is, for messages: nothing, true, the number 5, the text "abc", a list, a map. */
const char *ynode_describe(struct quoted *q, const struct ynode *n);
#define DESCRIBE(n) ynode_describe(&(struct quoted){.text = ""}, (n))
