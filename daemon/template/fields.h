/* The template format as tables: every field with its type, range and default. One interpreter checks a tree
 * against them (checker.c), another writes the normalised JSON (normal.c). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/template/checker.h"

enum field_type {
	FIELD_TEXT,
	FIELD_INT,
	FIELD_BOOL,
	FIELD_WORD,   /* one of `words` */
	FIELD_TEXTS,  /* list of texts */
	FIELD_MAP,    /* with the keys of `sub` */
	FIELD_MAPS,   /* list of such maps */
	FIELD_NAMED,  /* map of names to such maps */
	FIELD_FREE,   /* a map with any content */
	FIELD_SCHEMA, /* a JSON schema: a map, or true or false */
	FIELD_ANYTHING,
};

struct field {
	const char *name, *alias;
	const char *about;   /* a sentence for people: what editors show */
	const char *pattern; /* what `rule` refuses, for editors */
	enum field_type type;
	bool required;
	bool fill;               /* FIELD_MAP: written out with its defaults even if it is absent */
	bool applied;            /* not part of the normalised template: its content has gone elsewhere */
	int64_t min, max;        /* recommended; of a text the number of characters. Both 0: no limit */
	int64_t lowest, highest; /* FIELD_INT: what can be honoured; a value of at least `lowest` but under
	                            `floor` counts as `floor` */
	int64_t floor;
	const char *const *words;
	const struct field *sub;
	const char *fallback; /* JSON text of the default; NULL: left out */
	const char *expects;  /* for messages, if the type and range do not say it all */
	/* What a type cannot say; called for a value of the right type. */
	void (*rule)(struct check *c, const struct path *p, const struct ynode *n);
};

/* Each ends with a NULL name. */
extern const struct field task_fields[], step_fields[], handler_fields[], retry_fields[];

/* The tables with their names for messages, for "belongs to"; ends with a NULL table. */
struct field_table {
	const struct field *fields;
	const char *place;
};
extern const struct field_table field_tables[];

/* Keys that people write for others (from older guides or other systems). */
struct field_slip {
	const char *written, *meant;
};
extern const struct field_slip field_slips[]; /* ends with NULL */

/* The pair that gives the field, under its name or alias, if its value is not null; else NULL. */
const struct ypair *field_pair(const struct ynode *map, const struct field *f);
const struct ynode *field_value(const struct ynode *map, const struct field *f);
const struct field *field_find(const struct field *table, const char *name);
/* Both in one, by name: the value under the field of this name or its alias. */
const struct ynode *field_get(const struct ynode *map, const struct field *table, const char *name);
