/* JSON Schema 2020-12: a schema is compiled once and then checks many values; it never changes, so any thread may use
 * it. Pure: no I/O, no clock, no threads.
 *
 * All keywords of the core, applicator, unevaluated and validation vocabularies are there but for references to other
 * documents, which are refused: a schema that would be half-checked does not compile. `format` and the content keywords
 * are annotations. Patterns: see regex.h. Work and depth are bounded: a value that takes too much of either is invalid,
 * and says so. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/cleanup.h"

struct schema;

struct schema_problem {
	char *pointer; /* JSON pointer into the schema */
	char *message;
	bool warning; /* it compiles all the same */
	bool unknown; /* the last part of the pointer is an unknown keyword */
};

#define SCHEMA_MAX_PROBLEMS 100u
#define SCHEMA_MAX_PARTS 1000000u /* about 12 MB */
#define SCHEMA_MAX_VALUES 50000u
#define SCHEMA_MAX_NAMED 500u /* anchors, and the same of $id */

/* Begins as {0}. */
struct schema_problems {
	struct schema_problem items[SCHEMA_MAX_PROBLEMS];
	size_t n, errors; /* `errors` counts those too that found no room */
	size_t parts;	  /* of patterns, in all schemas compiled with it: their sum is bounded */
};
void schema_problems_done(struct schema_problems *p);

/* The keywords that are known, one after the other, then NULL. */
const char *schema_keyword(size_t i);

/* `json` is copied. 0: *ret is set, *p may hold warnings; -EINVAL: *p says why; -ENOMEM. */
int schema_compile(const char *json, size_t len, struct schema **ret, struct schema_problems *p) must_check;
struct schema *schema_free(struct schema *s); /* returns NULL, accepts NULL */
DEFINE_CLEANUP(struct schema, cleanup_schema, schema_free)

struct violation {
	char *instance; /* JSON pointer into the value */
	char *keyword;	/* JSON pointer into the schema, to the keyword */
	char *message;	/* "is a text, expected integer" */
};

#define SCHEMA_MAX_VIOLATIONS 100u
#define SCHEMA_WORK 200000u	  /* schemas asked, values compared: some milliseconds; and */
#define SCHEMA_WORK_BYTE 40u	  /* for each byte of the value */
#define SCHEMA_MAX_NESTED 600u	  /* schemas inside schemas while checking */

/* Begins as {0}. */
struct violations {
	struct violation items[SCHEMA_MAX_VIOLATIONS];
	size_t n, total; /* `total` counts those too that found no room */
	bool gave_up;	 /* too much work: not everything was looked at */
};
void violations_done(struct violations *v);

/* 0: valid; 1: not, *v says why; -EINVAL: not JSON, or nested too deeply; -ENOMEM. `v` may be NULL: then it stops at
 * the first violation. */
int schema_validate(const struct schema *s, const char *json, size_t len, struct violations *v) must_check;
