/* Aligned columns. Cells are added row by row; the layout is decided when all are known. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/cleanup.h"
#include "protocol/buf.h"

struct table;

enum column_flags {
	COL_RIGHT = 1,  /* numbers */
	COL_SHRINK = 2, /* may be cut when the terminal is narrow */
	COL_WIDE = 4,   /* for --output wide, after all others */
};

/* A row of a table of columns, which ends with NO_COLUMN. Tables of JSON objects say what each cell is; see cells.h. */
struct column {
	const char *title;
	unsigned flags;
	void (*cell)(struct table *t, const json_t *item, const char *key);
	const char *key;
};
#define NO_COLUMN                                                                                                      \
	{                                                                                                              \
		0                                                                                                      \
	}

struct cell {
	char *text;
	const char *colour; /* an SGR code such as "32", or NULL; static text */
};

struct table {
	const struct column *cols;
	size_t ncols;
	size_t narrow; /* so many of them are not for --output wide alone */
	struct cell *cells;
	size_t ncells, cap;
	bool failed; /* out of memory: rendering gives nothing */
};

void table_init(struct table *t, const struct column *cols);
void table_done(struct table *t);
/* The next cell, left to right, row by row. NULL or "" shows as "-". */
void table_cell(struct table *t, const char *colour, const char *text);
void table_cellf(struct table *t, const char *colour, const char *fmt, ...) printf_like(3, 4);
/* A row for each object of `items`, by what the columns say. */
void table_fill(struct table *t, const json_t *items);
size_t table_rows(const struct table *t);

struct table_style {
	size_t width; /* of the terminal; 0: never cut */
	bool heading, colour, wide;
	size_t indent;
};
/* Append the whole table to `out`. 0 or -ENOMEM. */
int table_render(const struct table *t, const struct table_style *style, struct buf *out);
