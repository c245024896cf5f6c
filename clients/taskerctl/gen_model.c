/* From a template's schemas to records. */
#include "clients/taskerctl/gen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 24

struct at {
	struct gen_model *m;
	const json_t *root; /* the schema that $ref is about */
	int depth;
	bool failed;
};

static void type_of(struct at *a, const json_t *schema, const char *hint, struct gen_type *ret);

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static bool is_type(const json_t *schema, const char *word)
{
	const json_t *type = json_object_get(schema, "type"), *t;
	size_t i;
	if (json_is_string(type))
		return strcmp(json_string_value(type), word) == 0;
	json_array_foreach(type, i, t) if (json_is_string(t) && strcmp(json_string_value(t), word) == 0) return true;
	return false;
}

/* Of the alternatives that are not null the only one, or NULL. */
static const json_t *only_alternative(const json_t *list, bool *ret_null)
{
	const json_t *found = NULL, *s;
	size_t i;
	json_array_foreach(list, i, s)
	{
		if (is_type(s, "null"))
			*ret_null = true;
		else if (found)
			return NULL;
		else
			found = s;
	}
	return found;
}

/* What "#/$defs/x" names in the schema, and x. */
static const json_t *resolve(const json_t *root, const char *ref, const char **ret_name)
{
	char path[512];
	char *rest = path, *part;
	const json_t *at = root;
	*ret_name = NULL;
	if (ref[0] != '#' || (size_t)snprintf(path, sizeof path, "%s", ref + 1) >= sizeof path)
		return NULL;
	while (at && (part = strsep(&rest, "/"))) {
		if (!*part)
			continue;
		*ret_name = strrchr(ref, '/') ? strrchr(ref, '/') + 1 : NULL;
		at = json_is_array(at) ? json_array_get(at, strtoul(part, NULL, 10)) : json_object_get(at, part);
	}
	return at;
}

static struct gen_record *known(const struct gen_model *m, const json_t *schema)
{
	for (struct gen_record *r = m->first; r; r = r->next)
		if (r->schema == schema)
			return r;
	return NULL;
}

static bool name_taken(const struct gen_model *m, const char *name)
{
	for (const struct gen_record *r = m->first; r; r = r->next)
		if (strcmp(r->name, name) == 0)
			return true;
	return false;
}

static char *unique_name(const struct gen_model *m, const char *hint)
{
	char *base = gen_pascal(hint), *name = base ? strdup(base) : NULL;
	for (int i = 2; name && name_taken(m, name); i++) {
		free(name);
		if (asprintf(&name, "%s%d", base, i) < 0)
			name = NULL;
	}
	free(base);
	return name;
}

static bool is_required(const json_t *schema, const char *key)
{
	const json_t *list = json_object_get(schema, "required"), *k;
	size_t i;
	json_array_foreach(list, i, k) if (json_is_string(k) && strcmp(json_string_value(k), key) == 0) return true;
	return false;
}

static void add_fields(struct at *a, struct gen_record *r, bool required)
{
	const char *key;
	json_t *property;
	json_object_foreach(json_object_get(r->schema, "properties"), key, property)
	{
		char *hint = NULL;
		if (is_required(r->schema, key) != required)
			continue;
		struct gen_field *f = &r->fields[r->n++];
		f->key = key;
		f->required = required;
		f->about = text_of(property, "description");
		if (asprintf(&hint, "%s_%s", r->name, key) < 0)
			a->failed = true;
		else
			type_of(a, property, hint, &f->type);
		if (hint)
			free(hint);
	}
}

/* Records are listed when they begin, so that they are found again; move_behind puts them where they belong. */
static void move_behind(struct gen_model *m, struct gen_record *r)
{
	struct gen_record **p = &m->first;
	if (m->end == &r->next)
		return;
	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	r->next = NULL;
	*m->end = r;
	m->end = &r->next;
}

static struct gen_record *record_of(struct at *a, const json_t *schema, const char *hint)
{
	struct gen_record *r = known(a->m, schema);
	if (r) {
		r->recursive |= !r->done;
		return r;
	}
	r = calloc(1, sizeof *r);
	if (!r || !(r->name = unique_name(a->m, hint)) ||
	    !(r->fields = calloc(json_object_size(json_object_get(schema, "properties")) + 1, sizeof *r->fields))) {
		if (r)
			free(r->name);
		free(r);
		a->failed = true;
		return NULL;
	}
	r->schema = schema;
	r->about = text_of(schema, "description");
	*a->m->end = r;
	a->m->end = &r->next;
	add_fields(a, r, true);
	add_fields(a, r, false);
	r->done = true;
	move_behind(a->m, r);
	return r;
}

static void item_of(struct at *a, const json_t *schema, const char *hint, const char *suffix, struct gen_type *ret)
{
	char *name = NULL;
	ret->item = calloc(1, sizeof *ret->item);
	if (!ret->item || asprintf(&name, "%s_%s", hint, suffix) < 0) {
		a->failed = true;
		return;
	}
	type_of(a, schema, name, ret->item);
	free(name);
}

static void object_of(struct at *a, const json_t *schema, const char *hint, struct gen_type *ret)
{
	if (json_object_size(json_object_get(schema, "properties")) > 0) {
		ret->record = record_of(a, schema, hint);
		ret->kind = ret->record ? GEN_RECORD : GEN_ANY;
		return;
	}
	ret->kind = GEN_MAP;
	item_of(a, json_object_get(schema, "additionalProperties"), hint, "value", ret);
}

static bool all_strings(const json_t *list)
{
	const json_t *s;
	size_t i;
	json_array_foreach(list, i, s) if (!json_is_string(s)) return false;
	return json_array_size(list) > 0;
}

static void plain_type(struct at *a, const json_t *schema, const char *hint, struct gen_type *ret)
{
	static const struct {
		const char *word;
		enum gen_kind kind;
	} words[] = {{"boolean", GEN_BOOL},  {"integer", GEN_INT}, {"number", GEN_NUMBER},
	             {"string", GEN_STRING}, {"array", GEN_ARRAY}, {"object", GEN_MAP}};
	const json_t *type = json_object_get(schema, "type");
	size_t n = 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (is_type(schema, words[i].word)) {
			ret->kind = words[i].kind;
			n++;
		}
	}
	ret->nullable |= n > 0 && is_type(schema, "null");
	if (!type && json_object_get(schema, "properties"))
		ret->kind = GEN_MAP;
	else if (n != 1)
		ret->kind = all_strings(json_object_get(schema, "enum")) ? GEN_STRING : GEN_ANY;
	if (ret->kind == GEN_STRING && all_strings(json_object_get(schema, "enum")))
		ret->words = json_object_get(schema, "enum");
	if (ret->kind == GEN_ARRAY)
		item_of(a, json_object_get(schema, "items"), hint, "item", ret);
	else if (ret->kind == GEN_MAP)
		object_of(a, schema, hint, ret);
}

static void type_of(struct at *a, const json_t *schema, const char *hint, struct gen_type *ret)
{
	const char *name = NULL, *ref = text_of(schema, "$ref");
	const json_t *list = json_object_get(schema, "anyOf");
	ret->kind = GEN_ANY;
	if (!json_is_object(schema) || a->depth >= DEPTH_MAX)
		return;
	a->depth++;
	if (!list)
		list = json_object_get(schema, "oneOf");
	if (!list)
		list = json_object_get(schema, "allOf");
	const json_t *other = ref ? resolve(a->root, ref, &name) : list ? only_alternative(list, &ret->nullable) : NULL;
	if (other)
		type_of(a, other, name ? name : hint, ret);
	else if (!ref && (!list || json_object_get(schema, "properties")))
		plain_type(a, schema, hint, ret);
	a->depth--;
}

static void add_root(struct gen_model *m, const json_t *schema, const char *name, const char *suffix, bool *failed)
{
	struct at a = {.m = m, .root = schema};
	struct gen_type t = {0};
	char *hint = NULL;
	if (!json_is_object(schema))
		return;
	if (asprintf(&hint, "%s_%s", name, suffix) < 0) {
		*failed = true;
		return;
	}
	type_of(&a, schema, hint, &t);
	free(hint);
	if (t.item)
		free(t.item);
	*failed |= a.failed;
}

int gen_model_build(struct gen_model *m, const json_t *template)
{
	const json_t *step, *event;
	size_t i, k;
	bool failed = false;
	*m = (struct gen_model){.template = template};
	m->end = &m->first;
	add_root(m, json_object_get(template, "input_schema"), text_of(template, "name"), "input", &failed);
	json_array_foreach(json_object_get(template, "steps"), i, step)
	{
		add_root(m, json_object_get(step, "result_schema"), text_of(step, "name"), "result", &failed);
		json_array_foreach(json_object_get(step, "publishes_events"), k, event)
			add_root(m, json_object_get(event, "schema"), text_of(event, "name"), "payload", &failed);
	}
	return failed ? -ENOMEM : 0;
}

static void free_type(struct gen_type *t)
{
	if (t->item)
		free_type(t->item);
	free(t->item);
}

void gen_model_done(struct gen_model *m)
{
	for (struct gen_record *r = m->first, *next; r; r = next) {
		next = r->next;
		for (size_t i = 0; i < r->n; i++) {
			free(r->fields[i].name);
			free_type(&r->fields[i].type);
		}
		free(r->fields);
		free(r->name);
		free(r);
	}
	m->first = NULL;
}

const struct gen_record *gen_input_of(const struct gen_model *m)
{
	return known(m, json_object_get(m->template, "input_schema"));
}

/* ---- examples ---- */

static json_t *example(const json_t *schema, const json_t *root, int depth);

static json_t *example_object(const json_t *schema, const json_t *root, int depth)
{
	json_t *made = json_object(), *property;
	const char *key;
	json_object_foreach(json_object_get(schema, "properties"), key, property)
		if (is_required(schema, key))
			json_object_set_new(made, key, example(property, root, depth + 1));
	return made;
}

static json_t *example_array(const json_t *schema, const json_t *root, int depth)
{
	json_t *made = json_array();
	json_int_t n = json_integer_value(json_object_get(schema, "minItems"));
	for (json_int_t i = 0; i < n && i < 100; i++)
		json_array_append_new(made, example(json_object_get(schema, "items"), root, depth + 1));
	return made;
}

static json_t *example_string(const json_t *schema)
{
	char text[65] = "text";
	json_int_t n = json_integer_value(json_object_get(schema, "minLength"));
	if (n > 4) {
		n = n < 64 ? n : 64;
		memset(text, 'x', (size_t)n);
		text[n] = '\0';
	}
	return json_string(text);
}

static json_t *example_number(const json_t *schema, bool whole)
{
	const json_t *least = json_object_get(schema, "minimum"), *above = json_object_get(schema, "exclusiveMinimum"),
		     *most = json_object_get(schema, "maximum");
	double v = json_is_number(least)   ? json_number_value(least)
	           : json_is_number(above) ? json_number_value(above) + 1
	                                   : 0;
	if (json_is_number(most) && v > json_number_value(most))
		v = json_number_value(most);
	return whole ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *example(const json_t *schema, const json_t *root, int depth)
{
	const char *name, *ref = text_of(schema, "$ref");
	bool null = false;
	const json_t *list =
		json_object_get(schema, "anyOf") ? json_object_get(schema, "anyOf") : json_object_get(schema, "oneOf");
	const json_t *fixed = json_object_get(schema, "const");
	if (!fixed)
		fixed = json_object_get(schema, "default");
	if (!fixed)
		fixed = json_array_get(json_object_get(schema, "examples"), 0);
	if (!fixed)
		fixed = json_array_get(json_object_get(schema, "enum"), 0);
	if (fixed)
		return json_deep_copy(fixed);
	if (depth > DEPTH_MAX || is_type(schema, "null"))
		return json_null();
	if (ref || list) {
		const json_t *other = ref ? resolve(root, ref, &name) : only_alternative(list, &null);
		return null ? json_null() : example(other ? other : json_array_get(list, 0), root, depth + 1);
	}
	if (is_type(schema, "object") || json_object_get(schema, "properties"))
		return example_object(schema, root, depth);
	if (is_type(schema, "array"))
		return example_array(schema, root, depth);
	if (is_type(schema, "string"))
		return example_string(schema);
	if (is_type(schema, "integer") || is_type(schema, "number"))
		return example_number(schema, is_type(schema, "integer"));
	return is_type(schema, "boolean") ? json_true() : json_object();
}

json_t *gen_example(const json_t *schema)
{
	return example(schema, schema, 0);
}
