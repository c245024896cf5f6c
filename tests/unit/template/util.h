/* What the tests of the template layer share. */
#pragma once
#include <check.h>
#include <stdlib.h>
#include "daemon/template/template.h"

/* Parse text that must be right; the caller frees. */
struct template *parse_good(const char *source, const struct template_opts *opts);
/* The findings of a text as findings_to_text gives them for file "f"; the caller frees. */
char *findings_of(const char *source, size_t len, const struct template_opts *opts, int *ret_rc);
/* template_to_json, the whole or the text of one member; the caller frees. */
char *json_of(const struct template *t);
char *member_of(const struct template *t, const char *key);
/* A whole file; the caller frees. */
char *read_file(const char *path, size_t *ret_len);

/* One template and all that checking it says, line by line, as findings_to_text gives it for file "f". */
struct row {
	const char *source, *expected;
	unsigned flags;
};
#define STRICT 1
#define DRAFT 2
void check_row(const struct row *row);

/* Beginnings for rows: three lines; a whole template of five lines; one of seven lines whose only step goes
 * on, indented by two. */
#define HEAD "name: t\nnamespace_name: n\nversion: 1.0.0\n"
#define ONE HEAD "steps:\n- {name: a, handler: {callable: c}}\n"
#define OPEN HEAD "steps:\n- name: a\n  handler:\n    callable: c\n"

int run_suite(Suite *s);
