/* Table layout: widths from the cells, the widest of the columns that may shrink give way when the terminal
 * is narrow. Pure. */
#include "clients/taskerctl/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/taskerctl/text.h"

#define GAP 2u
#define NARROWEST 8u

void table_init(struct table *t, const struct column *cols)
{
	*t = (struct table){.cols = cols};
	for (; cols[t->ncols].title; t->ncols++)
		t->narrow += !(cols[t->ncols].flags & COL_WIDE);
}

void table_fill(struct table *t, const json_t *items)
{
	size_t i;
	json_t *item;
	json_array_foreach(items, i, item)
		for (size_t c = 0; c < t->ncols; c++)
			t->cols[c].cell(t, item, t->cols[c].key);
}

void table_done(struct table *t)
{
	for (size_t i = 0; i < t->ncells; i++)
		free(t->cells[i].text);
	free(t->cells);
	*t = (struct table){0};
}

static bool grow(struct table *t)
{
	if (t->ncells < t->cap)
		return true;
	size_t cap = t->cap ? t->cap * 2 : 64;
	struct cell *c = reallocarray(t->cells, cap, sizeof *c);
	if (!c) {
		t->failed = true;
		return false;
	}
	t->cells = c;
	t->cap = cap;
	return true;
}

void table_cell(struct table *t, const char *colour, const char *text)
{
	char *copy = strdup(text && *text ? text : "-");
	if (!copy || !grow(t)) {
		free(copy);
		t->failed = true;
		return;
	}
	t->cells[t->ncells++] = (struct cell){.text = copy, .colour = colour};
}

void table_cellf(struct table *t, const char *colour, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	table_cell(t, colour, text);
}

size_t table_rows(const struct table *t)
{
	return t->ncols ? t->ncells / t->ncols : 0;
}

static void natural_widths(const struct table *t, bool heading, size_t *w)
{
	for (size_t c = 0; c < t->ncols; c++)
		w[c] = heading ? text_width(t->cols[c].title) : 0;
	for (size_t i = 0; i < table_rows(t) * t->ncols; i++) {
		size_t n = text_width(t->cells[i].text);
		if (n > w[i % t->ncols])
			w[i % t->ncols] = n;
	}
}

/* The widest column that can still give a character, or `shown`. */
static size_t widest_shrinkable(const struct table *t, size_t shown, const size_t *w)
{
	size_t best = shown;
	for (size_t c = 0; c < shown; c++)
		if ((t->cols[c].flags & COL_SHRINK) && w[c] > NARROWEST && (best == shown || w[c] > w[best]))
			best = c;
	return best;
}

static void fit(const struct table *t, size_t shown, size_t width, size_t *w)
{
	size_t total = (shown - 1) * GAP;
	for (size_t c = 0; c < shown; c++)
		total += w[c];
	while (total > width) {
		size_t c = widest_shrinkable(t, shown, w);
		if (c == shown)
			return;
		/* A very long cell in one step, not one by one. */
		size_t give = w[c] > width ? w[c] - width : 1;
		give = give < total - width ? give : total - width;
		if (w[c] - give < NARROWEST)
			give = w[c] - NARROWEST;
		w[c] -= give;
		total -= give;
	}
}

static void spaces(struct buf *out, size_t n)
{
	while (n-- > 0)
		buf_append_char(out, ' ');
}

static void put_cell(const struct column *col, const char *text, const char *colour, size_t width, bool last,
                     struct buf *out)
{
	size_t w = text_width(text), pad = w < width ? width - w : 0;
	if (col->flags & COL_RIGHT)
		spaces(out, pad);
	if (colour)
		buf_printf(out, "\033[%sm", colour);
	text_put(out, text, width);
	if (colour)
		buf_append_str(out, "\033[0m");
	if (!(col->flags & COL_RIGHT) && !last)
		spaces(out, pad);
	if (!last)
		spaces(out, GAP);
}

int table_render(const struct table *t, const struct table_style *style, struct buf *out)
{
	cleanup_(cleanup_free) size_t *w = calloc(t->ncols, sizeof *w);
	if (!w || t->failed)
		return -ENOMEM;
	natural_widths(t, style->heading, w);
	size_t shown = style->wide ? t->ncols : t->narrow;
	if (style->width)
		fit(t, shown, style->width > style->indent ? style->width - style->indent : 1, w);
	if (style->heading) {
		spaces(out, style->indent);
		for (size_t c = 0; c < shown; c++)
			put_cell(&t->cols[c], t->cols[c].title, style->colour ? "1" : NULL, w[c], c + 1 == shown, out);
		buf_append_char(out, '\n');
	}
	for (size_t r = 0; r < table_rows(t); r++) {
		spaces(out, style->indent);
		for (size_t c = 0; c < shown; c++) {
			const struct cell *cell = &t->cells[r * t->ncols + c];
			put_cell(&t->cols[c], cell->text, style->colour ? cell->colour : NULL, w[c], c + 1 == shown,
			         out);
		}
		buf_append_char(out, '\n');
	}
	return out->failed;
}
