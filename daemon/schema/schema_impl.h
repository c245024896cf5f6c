/* The compiled form, shared by compile.c, keywords.c, resolve.c and check*.c. */
#pragma once
#include "daemon/schema/doc.h"
#include "daemon/schema/regex.h"
#include "daemon/schema/schema.h"

struct compiler;
struct run;
struct snode;
struct kw;

/* Which children of the value at hand some schema has looked at; for the unevaluated keywords. */
struct marks {
	unsigned char *seen;
	uint32_t n;
};

typedef bool check_fn(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m);
typedef int parse_fn(struct compiler *c, struct snode *s, struct kw *k);

struct keyword {
	const char *name;
	parse_fn *parse;
	check_fn *check; /* NULL: what it says is used by another keyword, or by nobody */
	unsigned types;	 /* of values that it speaks of: J_BIT of each */
	int phase;	 /* later ones build on earlier ones */
	bool in_place;	 /* its schemas are for the same value */
};
extern const struct keyword keywords[]; /* ends with a NULL name */
const struct keyword *keyword_find(const char *name, size_t len);

struct kw {
	const struct keyword *def;
	uint32_t node; /* its value in the schema's text */
	uint64_t limit;
	uint32_t *order; /* enum: the values, sorted; $dynamicRef: the resource of each schema but the first */
	struct snode **subs;
	struct regex **regexes;
	uint32_t n_subs;
	struct kw *next; /* in the order of phases */
};

struct snode {
	uint32_t node; /* in the schema's text */
	uint32_t resource;
	bool always, never;
	bool unevaluated; /* has such a keyword */
	unsigned char visit; /* while looking for circles */
	struct kw *kws;
	/* Those that others ask for. */
	const struct kw *properties, *patterns, *prefix, *items, *contains, *min_contains, *max_contains, *then_kw,
		*else_kw;
	struct snode *made;
};

struct resource {
	char *uri; /* without fragment */
	uint32_t root;
};

struct anchor {
	uint32_t resource, node;
	const char *name;
	uint32_t len;
	bool dynamic;
};

struct schema {
	char *text;
	struct jdoc doc;
	struct snode **by_node; /* the schema at each node of the text, or NULL */
	struct snode *root, *made;
	struct resource *resources;
	struct anchor *anchors;
	uint32_t n_resources, n_anchors;
};

/* A reference whose target is not known yet. */
struct pending {
	struct pending *next;
	struct snode *from;
	struct kw *kw;
	bool dynamic;
	uint32_t anchor; /* the dynamic one that it names, or JNONE */
};

struct compiler {
	struct schema *s;
	struct schema_problems *problems;
	struct pending *pending, *dynamic; /* `dynamic`: those whose first target is known */
	uint32_t resource; /* that the schema at hand belongs to */
};

/* Note a problem with the node; returns 0, so that a parser goes on with what follows. */
int schema_problem(struct compiler *c, uint32_t node, bool warning, const char *fmt, ...) printf_like(4, 5);
#define schema_error(c, node, ...) schema_problem(c, node, false, __VA_ARGS__)
/* The schema at a node of the text, made if need be; *ret stays NULL if what stands there is none. 0 or -ENOMEM. */
int compile_node(struct compiler *c, uint32_t node, struct snode **ret) must_check;
/* Find what the references mean. 0 or -ENOMEM. */
int resolve_references(struct compiler *c) must_check;
int add_anchor(struct compiler *c, uint32_t node, const char *name, uint32_t len, bool dynamic) must_check;

/* ---- checking ---- */

/* The resources that checking has come through, the last first. */
struct scope {
	const struct scope *up;
	uint32_t resource;
};

struct run {
	const struct schema *s;
	struct jdoc doc; /* the value */
	struct violations *out;
	uint64_t work;
	const struct scope *scope;
	unsigned depth;
	unsigned quiet; /* nobody wants to know why: stop at the first violation */
	int failed;	/* -ENOMEM */
	bool gave_up;
};

bool check_schema(struct run *r, const struct snode *s, uint32_t value, struct marks *m);
/* Note a violation; returns false. */
bool violate(struct run *r, uint32_t value, uint32_t keyword, const char *fmt, ...) printf_like(4, 5);
bool run_spend(struct run *r, uint32_t value, uint64_t cost);
/* 1, 0, or -1 if it gave up. */
int run_regex(struct run *r, const struct regex *re, uint32_t value, const char *text, size_t len);
void mark(struct marks *m, uint32_t i);
struct shown {
	char text[80];
};
/* A text from outside, in quotes, cut and on one line. */
const char *show_text(struct shown *b, const char *text, size_t len);
#define SHOW(p, n) show_text(&(struct shown){.text = ""}, (p), (n))

check_fn check_type, check_enum, check_const, check_multiple, check_maximum, check_exclusive_maximum, check_minimum,
	check_exclusive_minimum;
check_fn check_max_length, check_min_length, check_pattern;
check_fn check_max_items, check_min_items, check_unique, check_prefix, check_items, check_contains,
	check_unevaluated_items;
check_fn check_max_properties, check_min_properties, check_required, check_dependent_required, check_properties,
	check_patterns, check_additional, check_names, check_dependent_schemas, check_unevaluated_properties;
check_fn check_ref, check_dynamic_ref, check_all, check_any, check_one, check_not, check_if;
