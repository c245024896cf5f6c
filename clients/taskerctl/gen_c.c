/* C: structs that are filled from a tasker_value, handlers for libtasker. */
#include "clients/taskerctl/gen_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* One name in C: struct order_input. */
static char *tag_of(const struct gen_record *r)
{
	return gen_snake(r->name);
}

/* What needs a pointer: structs that may be absent, or that contain themselves. */
static bool by_pointer(const struct gen_field *f)
{
	return f->type.kind == GEN_RECORD && (!f->required || f->type.nullable || f->type.record->recursive);
}

static bool has_flag(const struct gen_field *f)
{
	bool number = f->type.kind == GEN_BOOL || f->type.kind == GEN_INT || f->type.kind == GEN_NUMBER;
	return number && (!f->required || f->type.nullable);
}

/* Arrays of records and of strings are arrays; other lists and maps, and what may be anything, are JSON text. */
static const struct gen_type *item_of(const struct gen_type *t)
{
	return t->kind == GEN_ARRAY && (t->item->kind == GEN_RECORD || t->item->kind == GEN_STRING ||
	                                t->item->kind == GEN_INT || t->item->kind == GEN_NUMBER)
	               ? t->item
	               : NULL;
}

static void put_scalar(struct buf *b, const struct gen_type *t)
{
	static const char *const plain[] = {"char *", "bool ", "int64_t ", "double ", "char *", "char *", "char *", ""};
	if (t->kind != GEN_RECORD) {
		buf_append_str(b, plain[t->kind]);
		return;
	}
	char *tag = tag_of(t->record);
	buf_printf(b, "struct %s ", tag);
	free(tag);
}

static void put_member(struct buf *b, const struct gen_field *f)
{
	const struct gen_type *item = item_of(&f->type);
	bool json = f->type.kind == GEN_ANY || f->type.kind == GEN_MAP || (f->type.kind == GEN_ARRAY && !item);
	if (has_flag(f))
		buf_printf(b, "\tbool has_%s;\n", f->name);
	buf_append_char(b, '\t');
	put_scalar(b, item ? item : &f->type);
	buf_printf(b, "%s%s;", item || by_pointer(f) ? "*" : "", f->name);
	if (json)
		buf_append_str(b, " /* JSON text */");
	if (f->about) {
		buf_append_str(b, " /* ");
		gen_about(b, f->about);
		buf_append_str(b, " */");
	}
	buf_append_char(b, '\n');
	if (item)
		buf_printf(b, "\tsize_t n_%s;\n", f->name);
}

/* The statement that fills `target` from the tasker_value `v`. */
static void put_read(struct buf *b, const struct gen_type *t, const char *target)
{
	if (t->kind == GEN_RECORD) {
		char *tag = tag_of(t->record);
		buf_printf(b, "rc = %s_read(&%s, v);", tag, target);
		free(tag);
	} else if (t->kind == GEN_STRING) {
		buf_printf(b, "rc = gen_read_text(&%s, v);", target);
	} else if (t->kind == GEN_BOOL || t->kind == GEN_INT || t->kind == GEN_NUMBER) {
		static const char *const read[] = {"", "bool", "int", "double"};
		buf_printf(b, "%s = tasker_%s(v, 0);", target, read[t->kind]);
	} else {
		buf_printf(b, "rc = (%s = tasker_json(v)) ? 0 : -ENOMEM;", target);
	}
}

static void put_member_read(struct buf *b, const struct gen_field *f)
{
	const struct gen_type *item = item_of(&f->type);
	char target[512];
	buf_append_str(b, "\tif (rc == 0 && (v = tasker_get(map, ");
	gen_quoted(b, f->key);
	buf_append_str(b, "))) {\n");
	if (item) {
		buf_printf(
			b,
			"\t\tconst tasker_value *list = v;\n\t\tto->%s = calloc(tasker_count(list) + 1, sizeof *to->%s);\n",
			f->name, f->name);
		buf_printf(
			b,
			"\t\trc = to->%s ? 0 : -ENOMEM;\n\t\tfor (; rc == 0 && to->n_%s < tasker_count(list); to->n_%s++) {\n\t\t\tv = tasker_item(list, to->n_%s);\n\t\t\t",
			f->name, f->name, f->name, f->name);
		snprintf(target, sizeof target, "to->%.200s[to->n_%.200s]", f->name, f->name);
		put_read(b, item, target);
		buf_append_str(b, "\n\t\t}\n");
	} else if (by_pointer(f)) {
		buf_printf(
			b,
			"\t\tto->%s = calloc(1, sizeof *to->%s);\n\t\trc = to->%s ? 0 : -ENOMEM;\n\t\tif (rc == 0) {\n\t\t\t",
			f->name, f->name, f->name);
		snprintf(target, sizeof target, "*to->%.200s", f->name);
		put_read(b, &f->type, target);
		buf_append_str(b, "\n\t\t}\n");
	} else {
		if (has_flag(f))
			buf_printf(b, "\t\tto->has_%s = true;\n", f->name);
		buf_append_str(b, "\t\t");
		snprintf(target, sizeof target, "to->%.200s", f->name);
		put_read(b, &f->type, target);
		buf_append_char(b, '\n');
	}
	buf_printf(b,
	           f->required && !f->type.nullable
	                   ? "\t} else if (rc == 0) {\n\t\trc = -EINVAL; /* without what the schema asks for */\n\t}\n"
	                   : "\t}\n");
}

static void put_member_done(struct buf *b, const struct gen_field *f)
{
	const struct gen_type *item = item_of(&f->type);
	const struct gen_type *t = item ? item : &f->type;
	char *tag = t->kind == GEN_RECORD ? tag_of(t->record) : NULL;
	bool text = t->kind != GEN_BOOL && t->kind != GEN_INT && t->kind != GEN_NUMBER && t->kind != GEN_RECORD;
	if (item && tag)
		buf_printf(b, "\tfor (size_t i = 0; i < of->n_%s; i++)\n\t\t%s_done(&of->%s[i]);\n", f->name, tag,
		           f->name);
	else if (item && text)
		buf_printf(b, "\tfor (size_t i = 0; i < of->n_%s; i++)\n\t\tfree(of->%s[i]);\n", f->name, f->name);
	else if (tag)
		buf_printf(b, by_pointer(f) ? "\tif (of->%s)\n\t\t%s_done(of->%s);\n" : "\t%s%s_done(&of->%s);\n",
		           by_pointer(f) ? f->name : "", tag, f->name);
	if (item || by_pointer(f) || (text && !tag))
		buf_printf(b, "\tfree(of->%s);\n", f->name);
	free(tag);
}

static void put_record(struct buf *b, const struct gen_record *r)
{
	char *tag = tag_of(r);
	if (r->about) {
		buf_append_str(b, "\n/* ");
		gen_about(b, r->about);
		buf_append_str(b, " */");
	}
	buf_printf(b, "\nstruct %s {\n", tag);
	for (size_t i = 0; i < r->n; i++)
		put_member(b, &r->fields[i]);
	buf_printf(
		b,
		"};\nstatic inline int %s_read(struct %s *to, const tasker_value *map);\nstatic inline void %s_done(struct %s *of);\n",
		tag, tag, tag, tag);
	free(tag);
}

static void put_functions(struct buf *b, const struct gen_record *r)
{
	char *tag = tag_of(r);
	buf_printf(b, "\nstatic inline void %s_done(struct %s *of)\n{\n", tag, tag);
	for (size_t i = 0; i < r->n; i++)
		put_member_done(b, &r->fields[i]);
	buf_printf(b,
	           "\t*of = (struct %s){0};\n}\n\n/* 0, -EINVAL, -ENOMEM; free with %s_done, whatever it returns. */\n",
	           tag, tag);
	buf_printf(
		b,
		"static inline int %s_read(struct %s *to, const tasker_value *map)\n{\n\tconst tasker_value *v;\n\tint rc = 0;\n\t*to = (struct %s){0};\n",
		tag, tag, tag);
	for (size_t i = 0; i < r->n; i++)
		put_member_read(b, &r->fields[i]);
	buf_append_str(b, "\treturn rc;\n}\n");
	free(tag);
}

static void structs(const struct gen_model *m, struct buf *b)
{
	buf_append_str(b, "/* Types of the template ");
	gen_put_title(m, b);
	buf_append_str(
		b,
		". Generated by taskerctl from its schemas: change those instead. */\n#pragma once\n#include <errno.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <stdlib.h>\n#include <tasker.h>\n\n"
		"#ifndef GEN_READ_TEXT\n#define GEN_READ_TEXT\nstatic inline int gen_read_text(char **to, const tasker_value *v)\n{\n\tsize_t n = tasker_copy(v, NULL, 0);\n\t*to = malloc(n + 1);\n"
		"\tif (!*to)\n\t\treturn -ENOMEM;\n\t(*to)[0] = '\\0';\n\ttasker_copy(v, *to, n + 1);\n\treturn 0;\n}\n#endif\n");
	for (const struct gen_record *r = m->first; r; r = r->next) {
		char *tag = tag_of(r);
		buf_printf(b, "%sstruct %s;\n", r == m->first ? "\n" : "", tag);
		free(tag);
	}
	for (const struct gen_record *r = m->first; r; r = r->next)
		put_record(b, r);
	for (const struct gen_record *r = m->first; r; r = r->next)
		put_functions(b, r);
}

/* ---- handlers ---- */

static void put_input(const struct gen_model *m, struct buf *b)
{
	const struct gen_record *input = gen_input_of(m);
	if (!input)
		return;
	char *tag = tag_of(input);
	buf_printf(
		b,
		"\tstruct %s given;\n\tif (%s_read(&given, tasker_get(tasker_step_value(step), \"context\")) < 0) {\n\t\t%s_done(&given);\n"
		"\t\treturn tasker_step_refuse(step, \"ValidationError\", \"the task's context does not fit its schema\");\n\t}\n\t%s_done(&given);\n",
		tag, tag, tag, tag);
	free(tag);
}

static void put_body(const struct gen_model *m, const json_t *step, struct buf *b)
{
	switch (gen_step_kind(step)) {
	case GEN_STEP_DECISION:
		buf_append_str(b, "\tstatic const char *const next[] = {");
		gen_quoted(b, gen_first_child(m, step));
		buf_append_str(b, ", NULL};\n\ttasker_step_route(step, next, NULL, NULL);\n");
		return;
	case GEN_STEP_ANALYZER:
		buf_append_str(b, "\ttasker_step_batches(step, ");
		gen_quoted(b, gen_batch_worker(m, step));
		buf_append_str(b, ", 10, 5, NULL);\n");
		return;
	case GEN_STEP_WORKER:
		buf_append_str(
			b,
			"\tstruct tasker_batch batch;\n\tif (tasker_step_batch(step, &batch, NULL) < 0)\n\t\treturn tasker_step_refuse(step, \"ConfigurationError\", \"this is no batch worker\");\n"
			"\tconst struct tasker_batch_counts all = {.processed = batch.end - batch.start};\n\ttasker_step_batch_done(step, &all, NULL);\n");
		return;
	case GEN_STEP_PLAIN:
	case GEN_STEP_AGGREGATE:
		break;
	}
	cleanup_json_ json_t *example = gen_example(json_object_get(step, "result_schema"));
	cleanup_(buf_done) struct buf json = {0};
	buf_init(&json, 0);
	gen_put_json(&json, example);
	buf_append_str(b, "\ttasker_step_succeed(step, ");
	gen_quoted(b, buf_text(&json));
	buf_append_str(b, ", NULL);\n");
}

static void handler(const struct gen_model *m, const json_t *step, struct buf *b)
{
	char *name = gen_ident(&gen_c, gen_text(step, "name"));
	buf_append_str(b, "\n/* ");
	gen_about(b, gen_about_step(m, step));
	buf_printf(b, " */\nstatic enum tasker_verdict handle_%s(void *arg, tasker_step *step)\n{\n\t(void)arg;\n",
	           name);
	put_input(m, b);
	put_body(m, step, b);
	buf_append_str(b, "\treturn TASKER_DONE;\n}\n");
	free(name);
}

static void handler_head(const struct gen_model *m, struct buf *b)
{
	buf_append_str(b, "/* Handlers of the template ");
	gen_put_title(m, b);
	gen_put_named(m, b,
	              gen_input_of(m) ? ". */\n#include <tasker.h>\n#include \"{name}_types.h\"\n"
	                              : ". */\n#include <tasker.h>\n");
}

static void handler_foot(const struct gen_model *m, struct buf *b)
{
	const json_t *step;
	size_t i;
	buf_append_str(b,
	               "\nint main(int argc, char **argv)\n{\n\tstatic const struct tasker_handler handlers[] = {\n");
	json_array_foreach(json_object_get(m->template, "steps"), i, step)
	{
		char *name = gen_ident(&gen_c, gen_text(step, "name"));
		if (gen_first_with_callable(m, step)) {
			buf_append_str(b, "\t    {");
			gen_quoted(b, gen_text(step, "callable"));
			buf_printf(b, ", handle_%s, NULL},\n", name);
		}
		free(name);
	}
	gen_put_named(
		m, b,
		"\t    {NULL, NULL, NULL},\n\t};\n\tconst struct tasker_program program = {.handlers = handlers, .options = {.name = \"{name}\", .threads = 4}};\n\treturn tasker_main(argc, argv, &program);\n}\n");
}

static void makefile(const struct gen_model *m, struct buf *b)
{
	gen_put_named(
		m, b,
		"CFLAGS += -std=gnu11 -Wall -Wextra $(shell pkg-config --cflags libtasker)\nLDLIBS += $(shell pkg-config --libs libtasker)\n\n"
		"{name}_handlers: {name}_handlers.c\n\ncheck: {name}_handlers\n\tsh ./test.sh\n\nclean:\n\trm -f {name}_handlers\n\n.PHONY: check clean\n");
}

static void test_file(const struct gen_model *m, struct buf *b)
{
	gen_put_shell_test(m, b, "make check", "./{name}_handlers");
}

static void readme(const struct gen_model *m, struct buf *b)
{
	gen_put_named(
		m, b,
		"# {name}\n\n    make                             # needs libtasker, see pkg-config --modversion libtasker\n    taskerctl template apply templates/{name}.json\n    ./{name}_handlers\n"
		"    make check                       # the whole workflow, with a taskerd of its own\n");
}

static const char *const reserved[] = {"auto",      "bool",     "break",    "case",     "char",      "class",
                                       "const",     "continue", "default",  "delete",   "do",        "double",
                                       "else",      "enum",     "errno",    "extern",   "false",     "float",
                                       "for",       "goto",     "if",       "inline",   "int",       "long",
                                       "namespace", "new",      "operator", "private",  "protected", "public",
                                       "register",  "restrict", "return",   "short",    "signed",    "sizeof",
                                       "static",    "struct",   "switch",   "template", "this",      "throw",
                                       "true",      "try",      "typedef",  "typename", "union",     "unsigned",
                                       "using",     "virtual",  "void",     "volatile", "while",     "NULL",
                                       "EOF",       "and",      "or",       "not",      "xor",       "catch",
                                       "friend",    "mutable",  "explicit", "export",   NULL};

static const struct gen_file files[] = {{"Makefile", makefile},
                                        {"test.sh", test_file},
                                        {"README.md", readme},
                                        {NULL, NULL}};

const struct gen_language gen_c = {
    .name = "c",
    .types_file = "{name}_types.h",
    .handlers_file = "{name}_handlers.c",
    .reserved = reserved,
    .styles = {{"struct", structs}, {NULL, NULL}},
    .handler = handler,
    .handler_head = handler_head,
    .handler_foot = handler_foot,
    .files = files,
};
