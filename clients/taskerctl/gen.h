/* Code from a template: its schemas as a model of records, which each language writes in its own way. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/cleanup.h"
#include "protocol/buf.h"

enum gen_kind { GEN_ANY, GEN_BOOL, GEN_INT, GEN_NUMBER, GEN_STRING, GEN_ARRAY, GEN_MAP, GEN_RECORD };

struct gen_record;

struct gen_type {
	enum gen_kind kind;
	bool nullable;
	struct gen_type *item;     /* of arrays and maps */
	struct gen_record *record; /* of records */
	const json_t *words;       /* of strings that are one of these; or NULL */
};

struct gen_field {
	const char *key; /* in the JSON */
	char *name;      /* in the language, unique in its record; see gen_name_fields */
	const char *about;
	struct gen_type type;
	bool required;
};

/* An object with properties. Records stand behind those they are made of, but for recursive ones. */
struct gen_record {
	char *name; /* PascalCase, unique */
	const char *about;
	struct gen_field *fields; /* required ones first */
	size_t n;
	bool recursive; /* contains itself, perhaps through others */
	bool done;
	const json_t *schema;
	struct gen_record *next;
};

struct gen_model {
	const json_t *template; /* as template_to_json has it */
	struct gen_record *first, **end;
};

/* 0, or -ENOMEM. The template must outlive the model. */
int gen_model_build(struct gen_model *m, const json_t *template) must_check;
void gen_model_done(struct gen_model *m);
/* The record of the task's context, or NULL: it has no schema with properties. */
const struct gen_record *gen_input_of(const struct gen_model *m);
/* A small value that fits a schema (as far as types, required fields, enums, minima and lengths go). A new
 * reference. */
json_t *gen_example(const json_t *schema);

/* ---- names (gen_names.c) ---- */

struct gen_language;

/* "order.line-item" as OrderLineItem, order_line_item, and ORDER_LINE_ITEM. For the caller to free. */
char *gen_pascal(const char *text);
char *gen_snake(const char *text);
/* A name that the language allows, for a field. */
char *gen_ident(const struct gen_language *l, const char *key);
/* Fill in the names of all fields. */
int gen_name_fields(const struct gen_model *m, const struct gen_language *l) must_check;
/* Append text as a comment may hold it: one line, without what ends a comment or a string. */
void gen_about(struct buf *b, const char *text);
/* Append a string literal with double quotes, as Python, JavaScript, Rust and C read it. */
void gen_quoted(struct buf *b, const char *text);

/* ---- languages ---- */

struct gen_style {
	const char *name;
	void (*types)(const struct gen_model *m, struct buf *b);
};
struct gen_file {
	const char *path; /* {name} stands for the template's name in snake case */
	void (*write)(const struct gen_model *m, struct buf *b);
};
struct gen_language {
	const char *name;
	const char *types_file, *handlers_file; /* of a scaffold */
	bool snake;             /* fields are in snake case */
	const char *const *reserved;
	struct gen_style styles[4];    /* the first is the default; ends with a NULL name */
	void (*handler)(const struct gen_model *m, const json_t *step, struct buf *b);
	void (*handler_head)(const struct gen_model *m, struct buf *b); /* what stands above handlers */
	void (*handler_foot)(const struct gen_model *m, struct buf *b); /* and below all of them; or NULL */
	/* of a scaffold, besides the types and the template */
	const struct gen_file *files;
};
extern const struct gen_language *const gen_languages[]; /* ends with NULL */
extern const struct gen_language gen_python, gen_ruby, gen_typescript, gen_rust, gen_c;
const struct gen_language *gen_language_named(const char *name);
