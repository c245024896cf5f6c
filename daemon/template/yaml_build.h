/* Inside of the reader: what its two front ends, YAML events and JSON text, share. */
#pragma once
#include "daemon/template/yaml_tree.h"

struct mark {
	unsigned line, column;
};

struct yaml_tree {
	struct chunk *chunks;
	struct ynode *root;
	size_t nodes;
};

struct builder {
	struct yaml_tree *tree;
	struct yaml_limits limits;
	struct findings *f;
	struct frame *stack; /* limits.max_depth + 1 of them */
	unsigned depth;      /* open containers */
};

/* All return 0, -ENOMEM, or -EINVAL after a finding that makes it pointless to go on. */
int builder_init(struct builder *b, const struct yaml_limits *limits, struct findings *f) must_check;
void builder_done(struct builder *b);
int builder_open(struct builder *b, enum ynode_kind kind, struct mark at) must_check;
int builder_close(struct builder *b) must_check;
/* A plain scalar is resolved, any other is text. In a map the first of each two scalars is the key. */
int builder_scalar(struct builder *b, const char *text, size_t len, bool plain, struct mark at) must_check;
/* Something that was reported stands here. */
int builder_invalid(struct builder *b, struct mark at) must_check;
/* An error at `at` whose key path is where the builder stands. */
void builder_report(struct builder *b, enum severity severity, struct mark at, const char *fmt, ...)
    printf_like(4, 5);

/* Give `n` the kind and value of the plain scalar `n->text`. NULL, or why the number cannot be represented
 * (static text). */
const char *yaml_resolve_plain(struct ynode *n);
/* A whole number with a zero in front, which YAML 1.1 took for octal. */
bool yaml_leading_zero(const struct ynode *n);

/* Try to read `len` bytes as strict JSON. 0: the builder holds the tree. 1: this is not JSON; nothing was
 * reported or built. -EINVAL after a finding (bounds); -ENOMEM. */
int yaml_read_json(struct builder *b, const char *source, size_t len) must_check;

/* The first byte that YAML does not allow (bad UTF-8, NUL, other control characters): 0 if there is none,
 * -EINVAL after a finding. */
int yaml_check_bytes(const char *source, size_t len, struct findings *f) must_check;
