/* JSON text as an array of nodes, made for reading once and asking often: members are sorted by key, so that looking
 * one up and comparing two values need no tables. Strings without escapes point into the text, which must live as
 * long as the document. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"
#include "daemon/schema/number.h"
#include "protocol/buf.h"

enum jtype { J_NULL, J_BOOL, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT };
#define J_BIT(type) (1u << (type))

struct jnode {
	const char *key; /* in an object */
	uint32_t key_len;
	uint32_t parent; /* of the root: itself */
	uint32_t index;	 /* in an array */
	uint32_t next;	 /* while reading */
	uint32_t n;	 /* bytes, items or members */
	enum jtype type;
	union {
		bool boolean;
		struct number number;
		const char *text;
		uint32_t first; /* into jdoc.children */
	} u;
};

struct jdoc {
	struct jnode *nodes;
	uint32_t n, cap;
	uint32_t *children; /* numbers of nodes, the members of an object by key */
	uint32_t n_children, cap_children;
	char *strings; /* those that had escapes */
	size_t used;
};

#define JDOC_MAX_DEPTH 64u
#define JNONE UINT32_MAX

/* `d` begins as {0}; node 0 is the root. 0, -EINVAL (not JSON, or a key twice), -E2BIG (too deep or too large),
 * -ENOMEM. */
int jdoc_parse(struct jdoc *d, const char *text, size_t len) must_check;
void jdoc_done(struct jdoc *d);

static inline const struct jnode *jnode(const struct jdoc *d, uint32_t no)
{
	return &d->nodes[no];
}
static inline uint32_t jdoc_child(const struct jdoc *d, uint32_t no, uint32_t i)
{
	return d->children[d->nodes[no].u.first + i];
}
/* Place of the member among the children of an object, or JNONE. */
uint32_t jdoc_find(const struct jdoc *d, uint32_t object, const char *key, size_t len);
/* Its node, or JNONE. */
uint32_t jdoc_member(const struct jdoc *d, uint32_t object, const char *key);
bool jdoc_is(const struct jdoc *d, uint32_t no, const char *text);

/* A total order in which two values that JSON Schema calls equal are equal. `work` falls by what it costs. */
int jdoc_compare(const struct jdoc *a, uint32_t x, const struct jdoc *b, uint32_t y, uint64_t *work);
/* Append the JSON pointer of a node ("" for the root). */
void jdoc_pointer(const struct jdoc *d, uint32_t no, struct buf *out);
