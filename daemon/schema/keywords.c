/* The keywords, one row each, and how their values are read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema_impl.h"

/* ---- what several keywords share ---- */

static const struct jnode *value_of(const struct compiler *c, const struct kw *k)
{
	return jnode(&c->s->doc, k->node);
}

static int room(struct kw *k, uint32_t n)
{
	k->n_subs = n;
	k->subs = calloc(n + (size_t)1, sizeof(struct snode *));
	return k->subs ? 0 : -ENOMEM;
}

static int parse_limit(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	if (n->type != J_NUMBER || !number_to_count(&n->u.number, &k->limit))
		return schema_error(c, k->node, "expected a whole number, at least 0");
	return 0;
}

static int parse_number(struct compiler *c, struct snode *s, struct kw *k)
{
	(void)s;
	return value_of(c, k)->type == J_NUMBER ? 0 : schema_error(c, k->node, "expected a number");
}

static int parse_multiple(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	bool fine = n->type == J_NUMBER && n->u.number.digits > 0 && !n->u.number.negative;
	return fine ? 0 : schema_error(c, k->node, "expected a number greater than 0");
}

static int parse_flag(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	k->limit = n->type == J_BOOL && n->u.boolean;
	return n->type == J_BOOL ? 0 : schema_error(c, k->node, "expected true or false");
}

static int parse_text(struct compiler *c, struct snode *s, struct kw *k)
{
	(void)s;
	return value_of(c, k)->type == J_STRING ? 0 : schema_error(c, k->node, "expected a text");
}

static int parse_schema(struct compiler *c, struct snode *s, struct kw *k)
{
	(void)s;
	int rc = room(k, 1);
	return rc < 0 ? rc : compile_node(c, k->node, &k->subs[0]);
}

static int compile_children(struct compiler *c, struct kw *k)
{
	uint32_t n = value_of(c, k)->n;
	int rc = room(k, n);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = compile_node(c, jdoc_child(&c->s->doc, k->node, i), &k->subs[i]);
	return rc;
}

static int parse_schemas(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	if (n->type != J_ARRAY || n->n == 0)
		return schema_error(c, k->node, "expected a list of schemas, at least one");
	return compile_children(c, k);
}

static int parse_schema_map(struct compiler *c, struct snode *s, struct kw *k)
{
	(void)s;
	if (value_of(c, k)->type != J_OBJECT)
		return schema_error(c, k->node, "expected a map of names to schemas");
	return compile_children(c, k);
}

/* What stands at `node` must be a list of different texts. */
static int check_texts(struct compiler *c, uint32_t node)
{
	const struct jdoc *d = &c->s->doc;
	const struct jnode *n = jnode(d, node);
	uint64_t work = UINT64_MAX;
	bool fine = n->type == J_ARRAY;
	for (uint32_t i = 0; fine && i < n->n; i++)
		fine = jnode(d, jdoc_child(d, node, i))->type == J_STRING;
	for (uint32_t i = 0; fine && n->n < 1000 && i < n->n; i++)
		for (uint32_t j = 0; fine && j < i; j++)
			fine = jdoc_compare(d, jdoc_child(d, node, i), d, jdoc_child(d, node, j), &work) != 0;
	return fine ? 0 : schema_error(c, node, "expected a list of texts, each once");
}

static int parse_texts(struct compiler *c, struct snode *s, struct kw *k)
{
	(void)s;
	return check_texts(c, k->node);
}

static int parse_text_lists(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	int rc = 0;
	(void)s;
	if (n->type != J_OBJECT)
		return schema_error(c, k->node, "expected a map of names to lists of names");
	for (uint32_t i = 0; rc == 0 && i < n->n; i++)
		rc = check_texts(c, jdoc_child(&c->s->doc, k->node, i));
	return rc;
}

static int compile_pattern(struct compiler *c, uint32_t node, const char *text, size_t len, struct regex **ret)
{
	char why[REGEX_WHY];
	if (c->problems->parts > SCHEMA_MAX_PARTS)
		return schema_error(c, node, "the patterns up to here are too large together");
	int rc = regex_compile(text, len, ret, why);
	c->problems->parts += 1 + (rc == 0 ? regex_parts(*ret) : len);
	return rc == -EINVAL ? schema_error(c, node, "the pattern %s cannot be used: %s", SHOW(text, len), why) : rc;
}

static int parse_pattern(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	k->regexes = calloc(1, sizeof(struct regex *));
	if (!k->regexes)
		return -ENOMEM;
	k->n_subs = 1;
	if (n->type != J_STRING)
		return schema_error(c, k->node, "expected a text that is a pattern");
	return compile_pattern(c, k->node, n->u.text, n->n, &k->regexes[0]);
}

static int parse_pattern_map(struct compiler *c, struct snode *s, struct kw *k)
{
	int rc = parse_schema_map(c, s, k);
	k->regexes = calloc(k->n_subs + (size_t)1, sizeof(struct regex *));
	if (!k->regexes)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < k->n_subs; i++) {
		uint32_t child = jdoc_child(&c->s->doc, k->node, i);
		const struct jnode *n = jnode(&c->s->doc, child);
		rc = compile_pattern(c, child, n->key, n->key_len, &k->regexes[i]);
	}
	s->patterns = k;
	return rc;
}

/* ---- those with something of their own ---- */

static const struct {
	const char *name;
	unsigned bits;
} type_names[] = {
    {"null", J_BIT(J_NULL)},	 {"boolean", J_BIT(J_BOOL)}, {"number", J_BIT(J_NUMBER)},
    {"string", J_BIT(J_STRING)}, {"array", J_BIT(J_ARRAY)},  {"object", J_BIT(J_OBJECT)},
    {"integer", 1u << 8},
};

static int add_type(struct compiler *c, struct kw *k, uint32_t node)
{
	for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
		if (jdoc_is(&c->s->doc, node, type_names[i].name)) {
			k->limit |= type_names[i].bits;
			return 0;
		}
	return schema_error(c, node, "expected a type: null, boolean, number, integer, string, array or object");
}

static int parse_type(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	int rc = 0;
	(void)s;
	if (n->type != J_ARRAY)
		return add_type(c, k, k->node);
	if (n->n == 0)
		return schema_error(c, k->node, "expected at least one type");
	for (uint32_t i = 0; rc == 0 && i < n->n; i++)
		rc = add_type(c, k, jdoc_child(&c->s->doc, k->node, i));
	return rc;
}

static int by_value(const void *va, const void *vb, void *doc)
{
	uint64_t work = UINT64_MAX;
	return jdoc_compare(doc, *(const uint32_t *)va, doc, *(const uint32_t *)vb, &work);
}

static int parse_enum(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	(void)s;
	if (n->type != J_ARRAY || n->n == 0)
		return schema_error(c, k->node, "expected a list of values, at least one");
	k->order = calloc(n->n, sizeof *k->order);
	if (!k->order)
		return -ENOMEM;
	for (uint32_t i = 0; i < n->n; i++)
		k->order[i] = jdoc_child(&c->s->doc, k->node, i);
	qsort_r(k->order, n->n, sizeof *k->order, by_value, &c->s->doc);
	return 0;
}

static int parse_ref(struct compiler *c, struct snode *s, struct kw *k)
{
	int rc = room(k, 1);
	if (rc < 0 || value_of(c, k)->type != J_STRING)
		return rc < 0 ? rc : schema_error(c, k->node, "expected a text that is a reference");
	struct pending *p = malloc(sizeof *p);
	if (!p)
		return -ENOMEM;
	*p = (struct pending){.next = c->pending, .from = s, .kw = k, .anchor = JNONE};
	c->pending = p;
	return 0;
}

static int parse_dynamic_ref(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct pending *before = c->pending;
	int rc = parse_ref(c, s, k);
	if (c->pending != before)
		c->pending->dynamic = true;
	return rc;
}

static int read_anchor(struct compiler *c, struct snode *s, struct kw *k, bool dynamic)
{
	const struct jnode *n = value_of(c, k);
	static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-";
	bool fine = n->type == J_STRING && n->n > 0 && !strchr("0123456789.-", n->u.text[0]);
	for (uint32_t i = 0; fine && i < n->n; i++)
		fine = n->u.text[i] && strchr(ok, n->u.text[i]);
	if (!fine)
		return schema_error(c, k->node, "expected a name of letters, digits, '-', '_' and '.'");
	return add_anchor(c, s->node, n->u.text, n->n, dynamic);
}

static int parse_anchor(struct compiler *c, struct snode *s, struct kw *k)
{
	return read_anchor(c, s, k, false);
}

static int parse_dynamic_anchor(struct compiler *c, struct snode *s, struct kw *k)
{
	return read_anchor(c, s, k, true);
}

/* Of an older draft: under each name a list of names or a schema. */
static int parse_dependencies(struct compiler *c, struct snode *s, struct kw *k)
{
	const struct jnode *n = value_of(c, k);
	int rc = room(k, n->type == J_OBJECT ? n->n : 0);
	(void)s;
	if (rc < 0 || n->type != J_OBJECT)
		return rc < 0 ? rc : schema_error(c, k->node, "expected a map");
	for (uint32_t i = 0; rc == 0 && i < n->n; i++) {
		uint32_t child = jdoc_child(&c->s->doc, k->node, i);
		rc = jnode(&c->s->doc, child)->type == J_ARRAY ? check_texts(c, child)
		                                               : compile_node(c, child, &k->subs[i]);
	}
	return rc;
}

static int parse_items(struct compiler *c, struct snode *s, struct kw *k)
{
	s->items = k;
	if (value_of(c, k)->type == J_ARRAY)
		return schema_error(c, k->node, "a list here is of an older draft: name it prefixItems");
	return parse_schema(c, s, k);
}

static int parse_unevaluated(struct compiler *c, struct snode *s, struct kw *k)
{
	s->unevaluated = true;
	return parse_schema(c, s, k);
}

/* Keywords that others ask for. */
#define REMEMBER(name, field, how)                                                                                     \
	static int name(struct compiler *c, struct snode *s, struct kw *k)                                             \
	{                                                                                                              \
		s->field = k;                                                                                          \
		return how(c, s, k);                                                                                   \
	}
REMEMBER(parse_properties, properties, parse_schema_map)
REMEMBER(parse_prefix, prefix, parse_schemas)
REMEMBER(parse_contains, contains, parse_schema)
REMEMBER(parse_min_contains, min_contains, parse_limit)
REMEMBER(parse_max_contains, max_contains, parse_limit)
REMEMBER(parse_then, then_kw, parse_schema)
REMEMBER(parse_else, else_kw, parse_schema)

#define ANY 0xffu
#define NUM J_BIT(J_NUMBER)
#define STR J_BIT(J_STRING)
#define ARR J_BIT(J_ARRAY)
#define OBJ J_BIT(J_OBJECT)

// clang-format off
const struct keyword keywords[] = {
	/* name, how its value is read, how it checks, what it speaks of, phase, for the same value */
	{"type", parse_type, check_type, ANY, 0, false},
	{"enum", parse_enum, check_enum, ANY, 0, false},
	{"const", NULL, check_const, ANY, 0, false},
	{"multipleOf", parse_multiple, check_multiple, NUM, 0, false},
	{"maximum", parse_number, check_maximum, NUM, 0, false},
	{"exclusiveMaximum", parse_number, check_exclusive_maximum, NUM, 0, false},
	{"minimum", parse_number, check_minimum, NUM, 0, false},
	{"exclusiveMinimum", parse_number, check_exclusive_minimum, NUM, 0, false},
	{"maxLength", parse_limit, check_max_length, STR, 0, false},
	{"minLength", parse_limit, check_min_length, STR, 0, false},
	{"pattern", parse_pattern, check_pattern, STR, 0, false},
	{"maxItems", parse_limit, check_max_items, ARR, 0, false},
	{"minItems", parse_limit, check_min_items, ARR, 0, false},
	{"uniqueItems", parse_flag, check_unique, ARR, 0, false},
	{"prefixItems", parse_prefix, check_prefix, ARR, 0, false},
	{"items", parse_items, check_items, ARR, 0, false},
	{"contains", parse_contains, check_contains, ARR, 0, false},
	{"minContains", parse_min_contains, NULL, ARR, 0, false},
	{"maxContains", parse_max_contains, NULL, ARR, 0, false},
	{"unevaluatedItems", parse_unevaluated, check_unevaluated_items, ARR, 2, false},
	{"maxProperties", parse_limit, check_max_properties, OBJ, 0, false},
	{"minProperties", parse_limit, check_min_properties, OBJ, 0, false},
	{"required", parse_texts, check_required, OBJ, 0, false},
	{"dependentRequired", parse_text_lists, check_dependent_required, OBJ, 0, false},
	{"properties", parse_properties, check_properties, OBJ, 0, false},
	{"patternProperties", parse_pattern_map, check_patterns, OBJ, 0, false},
	{"additionalProperties", parse_schema, check_additional, OBJ, 0, false},
	{"propertyNames", parse_schema, check_names, OBJ, 0, false},
	{"unevaluatedProperties", parse_unevaluated, check_unevaluated_properties, OBJ, 2, false},
	{"dependentSchemas", parse_schema_map, check_dependent_schemas, OBJ, 1, true},
	{"dependencies", parse_dependencies, check_dependent_schemas, OBJ, 1, true},
	{"$ref", parse_ref, check_ref, ANY, 1, true},
	{"$dynamicRef", parse_dynamic_ref, check_dynamic_ref, ANY, 1, true},
	{"allOf", parse_schemas, check_all, ANY, 1, true},
	{"anyOf", parse_schemas, check_any, ANY, 1, true},
	{"oneOf", parse_schemas, check_one, ANY, 1, true},
	{"not", parse_schema, check_not, ANY, 1, true},
	{"if", parse_schema, check_if, ANY, 1, true},
	{"then", parse_then, NULL, ANY, 1, true},
	{"else", parse_else, NULL, ANY, 1, true},
	{"$defs", parse_schema_map, NULL, ANY, 0, false},
	{"definitions", parse_schema_map, NULL, ANY, 0, false},
	{"$anchor", parse_anchor, NULL, ANY, 0, false},
	{"$dynamicAnchor", parse_dynamic_anchor, NULL, ANY, 0, false},
	/* Notes. */
	{"$id", NULL, NULL, ANY, 0, false},
	{"$schema", parse_text, NULL, ANY, 0, false},
	{"$vocabulary", NULL, NULL, ANY, 0, false},
	{"$comment", NULL, NULL, ANY, 0, false},
	{"title", NULL, NULL, ANY, 0, false},
	{"description", NULL, NULL, ANY, 0, false},
	{"default", NULL, NULL, ANY, 0, false},
	{"examples", NULL, NULL, ANY, 0, false},
	{"example", NULL, NULL, ANY, 0, false},
	{"deprecated", NULL, NULL, ANY, 0, false},
	{"readOnly", NULL, NULL, ANY, 0, false},
	{"writeOnly", NULL, NULL, ANY, 0, false},
	{"format", parse_text, NULL, ANY, 0, false},
	{"contentEncoding", NULL, NULL, ANY, 0, false},
	{"contentMediaType", NULL, NULL, ANY, 0, false},
	{"contentSchema", parse_schema, NULL, ANY, 0, false},
	{NULL, NULL, NULL, 0, 0, false},
};
// clang-format on

const char *schema_keyword(size_t i)
{
	return keywords[i].name;
}

const struct keyword *keyword_find(const char *name, size_t len)
{
	for (const struct keyword *k = keywords; k->name; k++)
		if (strlen(k->name) == len && memcmp(k->name, name, len) == 0)
			return k;
	return NULL;
}
