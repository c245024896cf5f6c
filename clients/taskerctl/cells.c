#include "clients/taskerctl/cells.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/text.h"

const json_t *json_at(const json_t *o, const char *path)
{
	char part[64];
	const char *dot;
	for (; (dot = strchr(path, '.')); path = dot + 1) {
		snprintf(part, sizeof part, "%.*s", (int)(dot - path), path);
		o = json_object_get(o, part);
	}
	return json_object_get(o, path);
}

json_t *json_sorted(const json_t *list, int (*compare)(const void *, const void *), size_t most)
{
	size_t i, n = json_array_size(list);
	json_t *v, *all = json_array();
	cleanup_(cleanup_free) json_t **items = calloc(n + 1, sizeof *items);
	if (!items)
		return all;
	json_array_foreach(list, i, v) items[i] = v;
	qsort(items, n, sizeof *items, compare);
	for (i = 0; i < n && i < most; i++)
		json_array_append(all, items[i]);
	return all;
}

static bool all_texts(const json_t *list)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v) if (!json_is_string(v)) return false;
	return true;
}

static void put_value(struct table *t, const char *colour, const json_t *v)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	cleanup_(cleanup_free) char *text = NULL;
	buf_init(&b, 0);
	if (json_is_string(v)) {
		table_cell(t, colour, json_string_value(v));
	} else if (json_is_boolean(v)) {
		table_cell(t, colour, json_is_true(v) ? "yes" : "no");
	} else if (json_is_array(v) && all_texts(v)) {
		json_join(v, &b);
		table_cell(t, colour, b.len ? buf_text(&b) : NULL);
	} else {
		text = v && !json_is_null(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
		table_cell(t, colour, text);
	}
}

void cell_value(struct table *t, const json_t *item, const char *key)
{
	put_value(t, NULL, json_at(item, key));
}

void cell_state(struct table *t, const json_t *item, const char *key)
{
	const json_t *v = json_at(item, key);
	put_value(t, json_is_string(v) ? state_colour(json_string_value(v)) : NULL, v);
}

void cell_bad(struct table *t, const json_t *item, const char *key)
{
	const json_t *v = json_at(item, key);
	put_value(t, json_number_value(v) > 0 ? "31" : NULL, v);
}

void cell_age(struct table *t, const json_t *item, const char *key)
{
	char age[24];
	table_cell(t, NULL, json_age(item, key, age));
}

static void cell_begin(struct table *t, const json_t *item, const char *key, int n)
{
	const json_t *v = json_at(item, key);
	table_cellf(t, NULL, "%.*s", n, json_is_string(v) ? json_string_value(v) : "");
}

void cell_date(struct table *t, const json_t *item, const char *key)
{
	cell_begin(t, item, key, 10);
}

void cell_second(struct table *t, const json_t *item, const char *key)
{
	cell_begin(t, item, key, 19);
}

void cell_ms(struct table *t, const json_t *item, const char *key)
{
	char text[24];
	const json_t *v = json_at(item, key);
	table_cell(t, NULL, json_is_number(v) ? text_duration((int64_t)(json_number_value(v) * 1000), text) : NULL);
}

void cell_rate(struct table *t, const json_t *item, const char *key)
{
	const json_t *v = json_at(item, key);
	if (json_is_number(v))
		table_cellf(t, NULL, "%.1f/s", json_number_value(v));
	else
		table_cell(t, NULL, NULL);
}

void cell_part(struct table *t, const json_t *item, const char *key)
{
	double part = json_number_value(json_at(item, key));
	table_cellf(t, part > 0 ? "31" : NULL, "%.1f%%", part * 100);
}

void cell_template(struct table *t, const json_t *item, const char *key)
{
	(void)key;
	table_cellf(t, NULL, "%s/%s@%s", json_text(item, "namespace"), json_text(item, "name"),
	            json_text(item, "version"));
}

void cell_who(struct table *t, const json_t *item, const char *key)
{
	const char *name = json_text(item, "operator");
	(void)key;
	if (!*name)
		name = json_text(item, "user");
	if (!*name && json_int(item, "uid", -1) >= 0)
		table_cellf(t, NULL, "uid %lld", (long long)json_int(item, "uid", 0));
	else
		table_cell(t, NULL, name);
}

void cell_attempts(struct table *t, const json_t *item, const char *key)
{
	(void)key;
	table_cellf(t, NULL, "%lld/%lld", (long long)json_int(item, "attempts", 0),
	            (long long)json_int(item, "max_attempts", 1));
}

void cell_error(struct table *t, const json_t *item, const char *key)
{
	const json_t *e = json_at(item, key);
	put_value(t, NULL, json_is_object(e) ? json_object_get(e, "message") : e);
}

void cell_queue_workers(struct table *t, const json_t *q, const char *key)
{
	int64_t n = json_int(q, key, 0);
	if (json_flag(q, "paused"))
		table_cell(t, "33", "paused");
	else
		table_cellf(t, n == 0 && json_int(q, "ready", 0) > 0 ? "31" : NULL, "%lld", (long long)n);
}
