#include "clients/taskerctl/rows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "clients/taskerctl/text.h"
#include "daemon/base/cleanup.h"
#include "protocol/utf8.h"

#define ROW_MAX (64u << 20)
#define COLUMNS_MAX 1000

static int bad(struct rows *r, const char *fmt, ...) printf_like(2, 3);
static int bad(struct rows *r, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(r->why, sizeof r->why, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- JSON Lines ---- */

static int next_json(struct rows *r, json_t **ret)
{
	json_error_t why;
	ssize_t n;
	do {
		n = getline(&r->text, &r->cap, r->f);
		r->line = r->next_line++;
		if (n < 0)
			return 0;
	} while (strspn(r->text, " \t\r\n") == (size_t)n);
	*ret = json_loadb(r->text, (size_t)n, JSON_REJECT_DUPLICATES, &why);
	if (!*ret)
		return bad(r, "not a JSON object: %s", why.text);
	if (json_is_object(*ret))
		return 1;
	json_decref(*ret);
	return bad(r, "not a JSON object: an array");
}

/* ---- CSV: RFC 4180, any line ends, quotes around cells that hold delimiters, quotes or line ends ---- */

struct cells {
	char *text; /* one after the other, each ended by a NUL */
	size_t len, cap, n;
	size_t at[COLUMNS_MAX];
	bool quoted[COLUMNS_MAX];
};

static int put(struct cells *c, char ch)
{
	if (c->len == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 4096;
		char *text = cap > ROW_MAX ? NULL : realloc(c->text, cap);
		if (!text)
			return -ENOMEM;
		c->text = text;
		c->cap = cap;
	}
	c->text[c->len++] = ch;
	return 0;
}

/* The rest of a quoted cell: "" stands for a quote. 0 with the first character behind it in *ret. */
static int read_quoted(struct rows *r, struct cells *c, int *ret)
{
	for (int ch; (ch = getc_unlocked(r->f)) != EOF;) {
		r->next_line += ch == '\n';
		if (ch == '"' && (ch = getc_unlocked(r->f)) != '"') {
			*ret = ch;
			return 0;
		}
		if (put(c, (char)ch) < 0)
			return bad(r, "a row is longer than %u MiB", ROW_MAX >> 20);
	}
	return bad(r, "a quote that line %lu begins is never closed", r->line);
}

static bool ends_cell(const struct rows *r, int ch)
{
	return ch == EOF || ch == '\n' || ch == r->delimiter;
}

/* One cell. 0 with the character that ended it in *ret. */
static int read_cell(struct rows *r, struct cells *c, int ch, int *ret)
{
	if (c->n == COLUMNS_MAX)
		return bad(r, "more than %d columns", COLUMNS_MAX);
	c->at[c->n] = c->len;
	c->quoted[c->n] = ch == '"';
	if (ch == '"' && read_quoted(r, c, &ch) < 0)
		return -EINVAL;
	for (; !ends_cell(r, ch); ch = getc_unlocked(r->f)) {
		if (ch == '\r')
			continue; /* of a line end */
		if (c->quoted[c->n])
			return bad(r, "column %zu: text behind the closing quote", c->n + 1);
		if (put(c, (char)ch) < 0)
			return bad(r, "a row is longer than %u MiB", ROW_MAX >> 20);
	}
	if (put(c, '\0') < 0)
		return bad(r, "a row is longer than %u MiB", ROW_MAX >> 20);
	c->n++;
	*ret = ch;
	return 0;
}

static void skip_line(struct rows *r)
{
	for (int ch; (ch = getc_unlocked(r->f)) != EOF && ch != '\n';)
		;
	r->next_line++;
}

/* 1 with the cells of a row that is not empty; 0 at the end; negative with r->why. */
static int read_row(struct rows *r, struct cells *c)
{
	int ch = getc_unlocked(r->f), end = '\n';
	for (; ch == '\n' || ch == '\r'; ch = getc_unlocked(r->f))
		r->next_line += ch == '\n';
	r->line = r->next_line;
	if (ch == EOF)
		return 0;
	for (;; ch = getc_unlocked(r->f)) {
		if (read_cell(r, c, ch, &end) < 0) {
			skip_line(r);
			return -EINVAL;
		}
		if (end != r->delimiter)
			break;
	}
	r->next_line++;
	if (utf8_span((const unsigned char *)c->text, c->len) < c->len)
		return bad(r, "not UTF-8");
	return 1;
}

/* ---- columns ---- */

static const struct {
	const char *name;
	enum column_type type;
} type_names[] = {{"string", COLUMN_TEXT},   {"text", COLUMN_TEXT},    {"int", COLUMN_INT},   {"integer", COLUMN_INT},
                  {"number", COLUMN_NUMBER}, {"float", COLUMN_NUMBER}, {"bool", COLUMN_BOOL}, {"boolean", COLUMN_BOOL},
                  {"json", COLUMN_JSON},     {"object", COLUMN_JSON},  {"array", COLUMN_JSON}},
  params[] = {{"key", COLUMN_TEXT},         {"priority", COLUMN_INT},        {"tags", COLUMN_TAGS},
              {"run_at", COLUMN_TEXT},      {"initiator", COLUMN_TEXT},      {"source_system", COLUMN_TEXT},
              {"reason", COLUMN_TEXT},      {"correlation_id", COLUMN_TEXT}, {"parent_correlation_id", COLUMN_TEXT},
              {"traceparent", COLUMN_TEXT}, {"tracestate", COLUMN_TEXT},     {"namespace", COLUMN_TEXT},
              {"name", COLUMN_TEXT},        {"version", COLUMN_TEXT}};

/* The type that the schema gives to a.b.c; text if it says nothing (or null besides). */
static enum column_type schema_type(const json_t *schema, const char *path)
{
	char key[256];
	size_t i, n = strcspn(path, ".");
	json_t *t;
	if (n >= sizeof key)
		return COLUMN_TEXT;
	memcpy(key, path, n);
	key[n] = '\0';
	const json_t *property = json_object_get(json_object_get(schema, "properties"), key),
		     *type = json_object_get(property, "type");
	if (path[n])
		return schema_type(property, path + n + 1);
	if (json_is_array(type))
		json_array_foreach(type, i, t)
			if (strcmp(json_string_value(t) ? json_string_value(t) : "", "null") != 0)
				type = t;
	for (i = 0; json_is_string(type) && i < sizeof type_names / sizeof *type_names; i++)
		if (strcmp(json_string_value(type), type_names[i].name) == 0)
			return type_names[i].type;
	return COLUMN_TEXT;
}

static int param_column(struct rows *r, struct row_column *c, const char *name)
{
	for (size_t i = 0; i < sizeof params / sizeof *params; i++)
		if (strcmp(name, params[i].name) == 0) {
			c->param = true;
			c->type = params[i].type;
			c->name = strdup(strcmp(name, "key") == 0 ? "idempotency_key" : name);
			return c->name ? 0 : -ENOMEM;
		}
	return bad(
		r,
		"@%s is no parameter of a task: @key, @priority, @tags, @run_at, @initiator, @source_system, @reason, @correlation_id, @parent_correlation_id, @traceparent, @tracestate, @namespace, @name and @version are",
		name);
}

/* "total", "total:number", "customer.name", "@priority". */
static int read_heading(struct rows *r, struct row_column *c, const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	if (*text == '@')
		return param_column(r, c, text + 1);
	if (n == 0)
		return bad(r, "a column has no name");
	c->name = strndup(text, n);
	if (!c->name)
		return bad(r, "out of memory");
	if (!colon) {
		c->type = schema_type(r->schema, text);
		return 0;
	}
	for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
		if (strcmp(colon + 1, type_names[i].name) == 0) {
			c->type = type_names[i].type;
			return 0;
		}
	return bad(r, "column %s: %s is no type: string, int, number, bool and json are", c->name, colon + 1);
}

int rows_begin(struct rows *r)
{
	r->next_line = 1;
	if (r->format != ROWS_CSV)
		return 0;
	cleanup_(cleanup_free) struct cells *c = calloc(1, sizeof *c);
	int rc = c ? read_row(r, c) : bad(r, "out of memory");
	if (rc == 0)
		rc = bad(r, "there is no heading with the names of the columns");
	r->columns = rc == 1 ? calloc(c->n, sizeof *r->columns) : NULL;
	for (size_t i = 0; rc == 1 && r->columns && i < c->n; i++) {
		const char *text = c->text + c->at[i];
		if (i == 0 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
			text += 3; /* the mark that some programs put in front of UTF-8 */
		r->n_columns++;
		rc = read_heading(r, &r->columns[i], text) < 0 ? -EINVAL : 1;
	}
	if (c)
		free(c->text);
	return rc == 1 ? 0 : -EINVAL;
}

/* ---- values ---- */

static json_t *number_of(const char *text, bool whole)
{
	char *end;
	errno = 0;
	if (whole) {
		int64_t v;
		return parse_int(text, INT64_MIN, INT64_MAX, &v) < 0 ? NULL : json_integer(v);
	}
	double d = strtod(text, &end);
	/* As JSON has it: no hexadecimal, no infinity. */
	if (errno || end == text || *end || !(d - d == 0) || strpbrk(text, "xXpPnN "))
		return NULL;
	return json_real(d);
}

static json_t *tags_of(const char *text)
{
	json_t *tags = json_array();
	for (const char *p = text; *p; p += strcspn(p, ";") + (p[strcspn(p, ";")] == ';'))
		if (*p != ';')
			json_array_append_new(tags, json_stringn(p, strcspn(p, ";")));
	return tags;
}

static json_t *value_of(const struct row_column *c, const char *text)
{
	static const char *const words[][2] = {{"true", "false"}, {"yes", "no"}, {"1", "0"}};
	switch (c->type) {
	case COLUMN_TEXT:
		return json_string(text);
	case COLUMN_INT:
		return number_of(text, true);
	case COLUMN_NUMBER:
		return number_of(text, false);
	case COLUMN_BOOL:
		for (size_t i = 0; i < sizeof words / sizeof *words; i++)
			for (size_t k = 0; k < 2; k++)
				if (strcasecmp(text, words[i][k]) == 0)
					return json_boolean(k == 0);
		return NULL;
	case COLUMN_JSON:
		return json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	case COLUMN_TAGS:
		return tags_of(text);
	}
	return NULL;
}

/* Under a.b.c; objects are made on the way. False: there is another value in the way, or this one already. */
static bool set_path(json_t *o, const char *path, json_t *value)
{
	const char *dot = strchr(path, '.');
	char key[256];
	size_t n = dot ? (size_t)(dot - path) : strlen(path);
	if (n >= sizeof key || !json_is_object(o)) {
		json_decref(value);
		return false;
	}
	memcpy(key, path, n);
	key[n] = '\0';
	json_t *there = json_object_get(o, key);
	if (dot && !there) {
		json_object_set_new(o, key, json_object());
		there = json_object_get(o, key);
	}
	if (dot)
		return set_path(there, dot + 1, value);
	if (there)
		json_decref(value);
	return !there && json_object_set_new(o, key, value) == 0;
}

static int make_row(struct rows *r, const struct cells *c, json_t *row)
{
	static const char *const types[] = {"a text", "a whole number", "a number", "true or false", "JSON", "tags"};
	json_t *context = json_object_get(row, "context");
	if (c->n != r->n_columns)
		return bad(r, "%zu columns, the heading has %zu", c->n, r->n_columns);
	for (size_t i = 0; i < c->n; i++) {
		const char *text = c->text + c->at[i];
		const struct row_column *col = &r->columns[i];
		if (!*text && !(c->quoted[i] && col->type == COLUMN_TEXT))
			continue; /* nothing there is no value; "" is the empty text */
		json_t *v = value_of(col, text);
		if (!v)
			return bad(r, "column %s: \"%.60s\" is not %s", col->name, text, types[col->type]);
		if (!set_path(col->param ? row : context, col->name, v))
			return bad(r, "column %s: there is a value in its place already", col->name);
	}
	return 1;
}

static int next_csv(struct rows *r, json_t **ret)
{
	cleanup_(cleanup_free) struct cells *c = calloc(1, sizeof *c);
	int rc = c ? read_row(r, c) : bad(r, "out of memory");
	if (rc == 1) {
		*ret = json_pack("{s:{}}", "context");
		rc = make_row(r, c, *ret);
		if (rc < 0)
			json_decref(*ret);
	}
	if (c)
		free(c->text);
	return rc;
}

int rows_next(struct rows *r, json_t **ret)
{
	return r->format == ROWS_CSV ? next_csv(r, ret) : next_json(r, ret);
}

void rows_done(struct rows *r)
{
	for (size_t i = 0; i < r->n_columns; i++)
		free(r->columns[i].name);
	free(r->columns);
	free(r->text);
}
