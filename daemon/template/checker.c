/* The interpreter of the field tables: unknown, missing, wrongly typed and out-of-range keys, each with its
 * place. It goes on after every finding; what the reader has already refused (YNODE_INVALID) is passed over.
 * Recursion follows the tables, whose depth is fixed. */
#include "daemon/template/checker.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/fields.h"
#include "daemon/template/schema_field.h"
#include "daemon/template/suggest.h"
#include "daemon/template/yaml_build.h"

static void put_path(struct buf *out, const struct path *p)
{
	if (!p)
		return;
	put_path(out, p->up);
	if (p->key)
		path_put_key(out, p->key);
	else
		path_put_index(out, p->index);
}

void check_report(struct check *c, enum severity severity, const struct path *p, unsigned line,
                  unsigned column, const char *fmt, ...)
{
	if (c->f->n >= FINDINGS_MAX) { /* only to be counted */
		findings_add(c->f, severity, line, column, NULL, "more");
		return;
	}
	struct buf path;
	buf_init(&path, 0);
	put_path(&path, p);
	char *message = NULL;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&message, fmt, ap) < 0)
		message = NULL;
	va_end(ap);
	const char *key = buf_text(&path);
	findings_add(c->f, severity, line, column, key, "%s", message ? message : "out of memory");
	if (!message || !key)
		c->f->failed = true;
	free(message);
	buf_done(&path);
}

/* ---- what is expected ---- */

struct phrase {
	char text[200];
};

static void phrase_text(struct phrase *ph, const struct field *f)
{
	if (f->max > 0)
		snprintf(ph->text, sizeof ph->text, "a text of %" PRId64 " to %" PRId64 " characters", f->min,
		         f->max);
	else
		snprintf(ph->text, sizeof ph->text, "a text");
}

static void phrase_int(struct phrase *ph, const struct field *f)
{
	snprintf(ph->text, sizeof ph->text, "a whole number from %" PRId64 " to %" PRId64, f->min, f->max);
}

static void phrase_words(struct phrase *ph, const struct field *f)
{
	int n = snprintf(ph->text, sizeof ph->text, "one of %s", f->words[0]);
	for (size_t i = 1; f->words[i] && n > 0 && (size_t)n < sizeof ph->text; i++)
		n += snprintf(ph->text + n, sizeof ph->text - (size_t)n, ", %s", f->words[i]);
}

static const char *expected(struct phrase *ph, const struct field *f)
{
	static const struct {
		const char *text;
		void (*fill)(struct phrase *ph, const struct field *f);
	} phrases[] = {
	    [FIELD_TEXT] = {NULL, phrase_text},
	    [FIELD_INT] = {NULL, phrase_int},
	    [FIELD_BOOL] = {"true or false", NULL},
	    [FIELD_WORD] = {NULL, phrase_words},
	    [FIELD_TEXTS] = {"a list of texts", NULL},
	    [FIELD_MAP] = {"a map", NULL},
	    [FIELD_MAPS] = {"a list of maps", NULL},
	    [FIELD_NAMED] = {"a map of names to maps", NULL},
	    [FIELD_FREE] = {"a map", NULL},
	    [FIELD_SCHEMA] = {"a JSON schema (a map, or true or false)", NULL},
	    [FIELD_ANYTHING] = {"a value", NULL},
	};
	if (f->expects)
		return f->expects;
	if (phrases[f->type].fill)
		phrases[f->type].fill(ph, f);
	else
		snprintf(ph->text, sizeof ph->text, "%s", phrases[f->type].text);
	return ph->text;
}
#define EXPECTED(f) expected(&(struct phrase){.text = ""}, (f))

/* ---- values ---- */

/* Why the value may look right and is not, for the end of the message. */
static const char *type_hint(const struct ynode *n, const struct field *f)
{
	static const char *const old_booleans[] = {"yes", "no", "on", "off", "y", "n"};
	if (f->type == FIELD_TEXT && !f->expects &&
	    (n->kind == YNODE_INT || n->kind == YNODE_FLOAT || n->kind == YNODE_BOOL))
		return ": put it in quotes";
	if (n->kind == YNODE_STR && (f->type == FIELD_INT || f->type == FIELD_BOOL)) {
		struct ynode plain = {.text = n->text, .n = n->n};
		enum ynode_kind want = f->type == FIELD_INT ? YNODE_INT : YNODE_BOOL;
		if (!yaml_resolve_plain(&plain) && plain.kind == want)
			return ": remove the quotes";
		for (size_t i = 0; f->type == FIELD_BOOL && i < sizeof old_booleans / sizeof *old_booleans;
		     i++)
			if (strcasecmp(n->text, old_booleans[i]) == 0)
				return " (yes, no, on and off are texts in YAML 1.2)";
	}
	if (f->type == FIELD_TEXTS && n->kind == YNODE_STR)
		return ": put it in brackets, [like_this]";
	return "";
}

static void wrong_type(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	if (n->kind != YNODE_INVALID)
		check_error(c, p, n, "found %s, expected %s%s", DESCRIBE(n), EXPECTED(f), type_hint(n, f));
}

static bool type_fits(const struct ynode *n, enum field_type type)
{
	switch (type) {
	case FIELD_TEXT:
	case FIELD_WORD:
		return n->kind == YNODE_STR;
	case FIELD_INT:
		return n->kind == YNODE_INT;
	case FIELD_BOOL:
		return n->kind == YNODE_BOOL;
	case FIELD_TEXTS:
	case FIELD_MAPS:
		return n->kind == YNODE_SEQ;
	case FIELD_MAP:
	case FIELD_NAMED:
	case FIELD_FREE:
		return n->kind == YNODE_MAP;
	case FIELD_SCHEMA:
		return n->kind == YNODE_MAP || n->kind == YNODE_BOOL;
	case FIELD_ANYTHING:
		return n->kind != YNODE_INVALID;
	}
	return false;
}

static int64_t count_characters(const struct ynode *n)
{
	int64_t count = 0;
	for (size_t i = 0; i < n->n; i++)
		count += ((unsigned char)n->text[i] & 0xC0) != 0x80;
	return count;
}

static void check_length(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	int64_t length = count_characters(n);
	if (f->max > 0 && (length < f->min || length > f->max))
		check_error(c, p, n, "found a text of %" PRId64 " characters, expected %s", length,
		            EXPECTED(f));
}

static void check_range(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	int64_t v = n->u.integer;
	if (v < f->lowest || v > f->highest)
		check_error(c, p, n, "found %s, expected %s", DESCRIBE(n), EXPECTED(f));
	else if (v < f->floor)
		check_warning(c, p, n, "found %s, expected %s: taken as %" PRId64, DESCRIBE(n), EXPECTED(f),
		              f->floor);
	else if (v < f->min || v > f->max)
		check_warning(c, p, n, "found %s, recommended is %s: used as written", DESCRIBE(n),
		              EXPECTED(f));
}

static size_t count_words(const char *const *words)
{
	size_t n = 0;
	while (words[n])
		n++;
	return n;
}

static const char *slip_for(const char *written)
{
	for (const struct field_slip *s = field_slips; s->written; s++)
		if (strcmp(s->written, written) == 0)
			return s->meant;
	return NULL;
}

static void check_word(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	size_t count = count_words(f->words);
	for (size_t i = 0; i < count; i++)
		if (strcmp(n->text, f->words[i]) == 0)
			return;
	const char *meant = slip_for(n->text);
	const char *near = suggest_nearest(meant ? meant : n->text, f->words, count, &c->suggest_budget);
	check_error(c, p, n, "found %s, expected %s%s%s%s", DESCRIBE(n), EXPECTED(f),
	            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static void check_texts(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	static const struct field item = {.name = "", .type = FIELD_TEXT};
	(void)f;
	for (size_t i = 0; i < n->n; i++)
		if (n->u.items[i]->kind != YNODE_STR)
			wrong_type(c, PATH_INDEX(p, i), n->u.items[i], &item);
}

static void check_sub(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	check_map(c, p, n, f->sub);
}

static void check_maps(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	if (n->n < (size_t)f->min)
		check_error(c, p, n, "found an empty list, expected at least one entry");
	for (size_t i = 0; i < n->n; i++)
		check_map(c, PATH_INDEX(p, i), n->u.items[i], f->sub);
}

static void check_named(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	for (size_t i = 0; i < n->n; i++)
		if (n->u.pairs[i].value->kind != YNODE_NULL)
			check_map(c, PATH_KEY(p, n->u.pairs[i].key), n->u.pairs[i].value, f->sub);
}

static void check_schema(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	(void)f;
	check_schema_field(c, p, n);
}

static void check_value(struct check *c, const struct path *p, const struct ynode *n, const struct field *f)
{
	static void (*const by_type[])(struct check * c, const struct path *p, const struct ynode *n,
	                               const struct field *f) = {
	    [FIELD_TEXT] = check_length, [FIELD_INT] = check_range, [FIELD_WORD] = check_word,
	    [FIELD_TEXTS] = check_texts, [FIELD_MAP] = check_sub,   [FIELD_MAPS] = check_maps,
	    [FIELD_NAMED] = check_named, [FIELD_SCHEMA] = check_schema, [FIELD_ANYTHING] = NULL,
	};
	if (!type_fits(n, f->type)) {
		wrong_type(c, p, n, f);
		return;
	}
	if (by_type[f->type])
		by_type[f->type](c, p, n, f);
	if (f->rule)
		f->rule(c, p, n);
}

/* ---- keys ---- */

#define TABLE_MAX 32

static const char *nearest_field(struct check *c, const char *key, const struct field *table)
{
	const char *names[2 * TABLE_MAX];
	size_t n = 0;
	for (const struct field *f = table; f->name; f++) {
		names[n++] = f->name;
		if (f->alias)
			names[n++] = f->alias;
	}
	const char *meant = slip_for(key);
	if (meant && field_find(table, meant))
		return meant;
	return suggest_nearest(key, names, n, &c->suggest_budget);
}

static const char *other_place(const char *key, const struct field *table)
{
	for (const struct field_table *t = field_tables; t->fields; t++)
		if (t->fields != table && field_find(t->fields, key))
			return t->place;
	return NULL;
}

static void unknown_key(struct check *c, const struct path *p, const struct ypair *pair,
                        const struct field *table)
{
	const struct path *at = PATH_KEY(p, pair->key);
	const char *place = other_place(pair->key, table);
	const char *near = place ? NULL : nearest_field(c, pair->key, table);
	if (place)
		check_warning(c, at, pair, "has no meaning here and is left out: it belongs %s", place);
	else if (near)
		check_warning(c, at, pair, "unknown key, left out; did you mean %s?", near);
	else
		check_warning(c, at, pair, "unknown key, left out (keys that begin with x- are free)");
}

static void missing(struct check *c, const struct path *p, const struct ynode *map, const struct field *f)
{
	check_error(c, PATH_KEY(p, f->name), map, "missing, expected %s", EXPECTED(f));
}

/* Check one pair, and note in given[] that its field has a value. */
static void check_pair(struct check *c, const struct path *p, const struct ypair *pair,
                       const struct field *table, const struct ypair *given[])
{
	const struct field *f = field_find(table, pair->key);
	if (!f) {
		if (strncmp(pair->key, "x-", 2) != 0)
			unknown_key(c, p, pair, table);
		return;
	}
	if (pair->value->kind == YNODE_NULL)
		return;
	const struct ypair **slot = &given[f - table];
	const struct path *at = PATH_KEY(p, pair->key);
	if (*slot)
		check_error(c, at, pair, "is the same key as %s, already given at line %u", (*slot)->key,
		            (*slot)->line);
	*slot = pair;
	check_value(c, at, pair->value, f);
}

void check_map(struct check *c, const struct path *p, const struct ynode *n, const struct field *table)
{
	const struct ypair *given[TABLE_MAX] = {NULL};
	if (n->kind == YNODE_INVALID)
		return;
	if (n->kind != YNODE_MAP) {
		check_error(c, p, n, "found %s, expected a map", DESCRIBE(n));
		return;
	}
	for (size_t i = 0; i < n->n; i++)
		check_pair(c, p, &n->u.pairs[i], table, given);
	for (const struct field *f = table; f->name; f++)
		if (f->required && !given[f - table])
			missing(c, p, n, f);
}
