/* The template format as a JSON Schema, for editors. It says of single keys and values what checker.c says of them;
 * what keys say about each other (cycles, names of other steps) it cannot say. Unknown keys, which are only warnings
 * here, it refuses: an editor is to mark them. */
#include <inttypes.h>

#include "daemon/template/fields.h"
#include "daemon/template/json_out.h"
#include "daemon/template/template.h"

static void put_map_schema(struct buf *out, const struct field *table, bool nullable);

static void put_pair(struct buf *out, const char *key, const char *value)
{
	buf_append_char(out, ',');
	json_put_cstr(out, key);
	buf_append_char(out, ':');
	json_put_cstr(out, value);
}

/* A value that is null counts as absent, where it may be. */
static void put_type(struct buf *out, const char *type, const struct field *f)
{
	buf_printf(out, f->required ? "\"type\":\"%s\"" : "\"type\":[\"%s\",\"null\"]", type);
}

static void put_text(struct buf *out, const struct field *f)
{
	put_type(out, "string", f);
	if (f->max > 0)
		buf_printf(out, ",\"minLength\":%" PRId64 ",\"maxLength\":%" PRId64, f->min, f->max);
	if (f->pattern)
		put_pair(out, "pattern", f->pattern);
}

static void put_int(struct buf *out, const struct field *f)
{
	put_type(out, "integer", f);
	buf_printf(out, ",\"minimum\":%" PRId64 ",\"maximum\":%" PRId64, f->lowest, f->highest);
}

static void put_bool(struct buf *out, const struct field *f)
{
	put_type(out, "boolean", f);
}

static void put_word(struct buf *out, const struct field *f)
{
	buf_append_str(out, "\"enum\":[");
	for (size_t i = 0; f->words[i]; i++) {
		json_put_cstr(out, f->words[i]);
		buf_append_char(out, ',');
	}
	buf_append_str(out, "null]");
}

static void put_texts(struct buf *out, const struct field *f)
{
	put_type(out, "array", f);
	buf_append_str(out, ",\"items\":{\"type\":\"string\"}");
}

static void put_maps(struct buf *out, const struct field *f)
{
	put_type(out, "array", f);
	if (f->min > 0)
		buf_printf(out, ",\"minItems\":%" PRId64, f->min);
	buf_append_str(out, ",\"items\":{");
	put_map_schema(out, f->sub, false);
	buf_append_char(out, '}');
}

static void put_map(struct buf *out, const struct field *f)
{
	put_map_schema(out, f->sub, !f->required);
}

static void put_named(struct buf *out, const struct field *f)
{
	put_type(out, "object", f);
	buf_append_str(out, ",\"additionalProperties\":{");
	put_map_schema(out, f->sub, true);
	buf_append_char(out, '}');
}

static void put_free(struct buf *out, const struct field *f)
{
	put_type(out, "object", f);
}

static void put_schema(struct buf *out, const struct field *f)
{
	buf_append_str(out, f->required ? "\"type\":[\"object\",\"boolean\"]"
	                                : "\"type\":[\"object\",\"boolean\",\"null\"]");
}

/* The only such field is refused. */
static void put_nothing(struct buf *out, const struct field *f)
{
	(void)f;
	buf_append_str(out, "\"type\":\"null\"");
}

static void put_field(struct buf *out, const struct field *f)
{
	static void (*const by_type[])(struct buf * out, const struct field *f) = {
		[FIELD_TEXT] = put_text,     [FIELD_INT] = put_int,          [FIELD_BOOL] = put_bool,
		[FIELD_WORD] = put_word,     [FIELD_TEXTS] = put_texts,      [FIELD_MAP] = put_map,
		[FIELD_MAPS] = put_maps,     [FIELD_NAMED] = put_named,      [FIELD_FREE] = put_free,
		[FIELD_SCHEMA] = put_schema, [FIELD_ANYTHING] = put_nothing,
	};
	buf_append_char(out, '{');
	by_type[f->type](out, f);
	put_pair(out, "description", f->about);
	if (f->fallback) {
		buf_append_str(out, ",\"default\":");
		buf_append_str(out, f->fallback);
	}
	buf_append_char(out, '}');
}

static void put_property(struct buf *out, const char *name, const struct field *f, bool first)
{
	if (!first)
		buf_append_char(out, ',');
	json_put_cstr(out, name);
	buf_append_char(out, ':');
	put_field(out, f);
}

static void put_required(struct buf *out, const struct field *table)
{
	bool first = true;
	for (const struct field *f = table; f->name; f++) {
		if (!f->required)
			continue;
		buf_append_str(out, first ? ",\"required\":[" : ",");
		json_put_cstr(out, f->name);
		first = false;
	}
	if (!first)
		buf_append_char(out, ']');
}

static void put_map_schema(struct buf *out, const struct field *table, bool nullable)
{
	buf_append_str(out, nullable ? "\"type\":[\"object\",\"null\"],\"properties\":{"
	                             : "\"type\":\"object\",\"properties\":{");
	for (const struct field *f = table; f->name; f++) {
		put_property(out, f->name, f, f == table);
		if (f->alias)
			put_property(out, f->alias, f, false);
	}
	buf_append_char(out, '}');
	put_required(out, table);
	buf_append_str(out, ",\"patternProperties\":{\"^x-\":true},\"additionalProperties\":false");
}

int template_schema(struct buf *out)
{
	buf_append_str(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
	put_pair(out, "title", "taskerd template");
	put_pair(out, "description", "A workflow: see taskerd-template(5). Keys that begin with x- are free.");
	buf_append_char(out, ',');
	put_map_schema(out, task_fields, false);
	buf_append_char(out, '}');
	return out->failed;
}
