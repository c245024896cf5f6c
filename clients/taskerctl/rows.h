/* Rows of a file of tasks, one after the other: JSON Lines, or CSV with typed columns. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum row_format { ROWS_JSONL, ROWS_CSV };
enum column_type { COLUMN_TEXT, COLUMN_INT, COLUMN_NUMBER, COLUMN_BOOL, COLUMN_JSON, COLUMN_TAGS };

struct row_column {
	char *name; /* of a key of the context, dots leading into objects; or of a parameter of the task */
	bool param;
	enum column_type type;
};

struct rows {
	FILE *f;
	enum row_format format;
	char delimiter;
	/* the template's input_schema, which tells the types that the heading does not; or NULL */
	const json_t *schema;
	struct row_column *columns;
	size_t n_columns;
	unsigned long line;      /* of the row that was read last; the first is 1 */
	unsigned long next_line; /* of what is not read yet */
	char *text;
	size_t cap;
	char why[300];
};

/* Take the heading of a CSV file. `r` has f, format, delimiter and schema. 0, or -EINVAL with r->why. */
int rows_begin(struct rows *r);
/* 1 with *ret: of JSON Lines the object; of CSV {"context": {...}, parameters...}. 0 at the end; -EINVAL with r->why: a
 * bad row, go on with the next. */
int rows_next(struct rows *r, json_t **ret);
void rows_done(struct rows *r);
