/* Aligned columns. Cells are added row by row; the layout is decided when all are known. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/cleanup.h"
#include "protocol/buf.h"

struct column {
	const char *title;
	bool right;  /* numbers */
	bool shrink; /* may be cut when the terminal is narrow */
};

struct cell {
	char *text;
	const char *colour; /* an SGR code such as "32", or NULL; static text */
};

struct table {
	const struct column *cols;
	size_t ncols;
	size_t wide_from; /* columns from this one on are for --output wide; 0: none */
	struct cell *cells;
	size_t ncells, cap;
	bool failed; /* out of memory: rendering gives nothing */
};

void table_init(struct table *t, const struct column *cols, size_t ncols);
/* Show the columns from `from` on only in the style `wide`. */
void table_wide(struct table *t, size_t from);
void table_done(struct table *t);
/* The next cell, left to right, row by row. NULL or "" shows as "-". */
void table_cell(struct table *t, const char *colour, const char *text);
void table_cellf(struct table *t, const char *colour, const char *fmt, ...) printf_like(3, 4);
size_t table_rows(const struct table *t);

struct table_style {
	size_t width; /* of the terminal; 0: never cut */
	bool heading, colour, wide;
	size_t indent;
};
/* Append the whole table to `out`. 0 or -ENOMEM. */
int table_render(const struct table *t, const struct table_style *style, struct buf *out);
