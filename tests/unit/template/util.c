#include "tests/unit/template/util.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "daemon/schema/schema.h"
#include "daemon/template/normal.h"

struct template *parse_good(const char *source, const struct template_opts *opts)
{
	struct template *t = NULL;
	struct findings f = {0};
	struct buf text;
	buf_init(&text, 0);
	int r = template_parse(source, strlen(source), opts, &t, &f);
	ck_assert_int_eq(findings_to_text(&f, "f", &text), 0);
	ck_assert_msg(r == 0, "%d: %s", r, buf_text(&text));
	buf_done(&text);
	findings_done(&f);
	return t;
}

char *findings_of(const char *source, size_t len, const struct template_opts *opts, int *ret_rc)
{
	struct template *t = NULL;
	struct findings f = {0};
	struct buf text;
	buf_init(&text, 0);
	int r = template_parse(source, len, opts, &t, &f);
	ck_assert_int_eq(r == 0, t != NULL);
	ck_assert_int_eq(r == -22, f.errors > 0);
	ck_assert_int_eq(findings_to_text(&f, "f", &text), 0);
	template_free(t);
	findings_done(&f);
	if (ret_rc)
		*ret_rc = r;
	return buf_take_text(&text);
}

char *json_of(const struct template *t)
{
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(template_to_json(t, &out), 0);
	char *text = buf_take_text(&out);
	buf_done(&out);
	return text;
}

char *member_of(const struct template *t, const char *key)
{
	char *text = json_of(t);
	json_error_t e;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &e);
	ck_assert_msg(root != NULL, "%s", e.text);
	char *member = json_dumps(json_object_get(root, key), JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(root);
	free(text);
	ck_assert_ptr_nonnull(member);
	return member;
}

char *read_file(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s", path);
	struct buf b;
	buf_init(&b, 0);
	char part[4096];
	for (size_t n = 0; (n = fread(part, 1, sizeof part, f)) > 0;)
		buf_append(&b, part, n);
	fclose(f);
	if (ret_len)
		*ret_len = b.len;
	return buf_take_text(&b);
}

/* What is taken without a word also fits the JSON Schema of the format. */
static void check_format(const char *source)
{
	struct buf format, value;
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	struct yaml_tree *tree = NULL;
	struct findings f = {0};
	struct violations v = {.n = 0};
	buf_init(&format, 0);
	buf_init(&value, 0);
	ck_assert_int_eq(template_schema(&format), 0);
	ck_assert_int_eq(schema_compile((const char *)format.data, format.len, &s, &p), 0);
	ck_assert_uint_eq(p.n, 0);
	ck_assert_int_eq(yaml_tree_parse(source, strlen(source), NULL, &tree, &f), 0);
	normal_put_value(&value, yaml_tree_root(tree));
	int rc = schema_validate(s, (const char *)value.data, value.len, &v);
	ck_assert_msg(rc == 0, "%s\n%s %s", source, v.n ? v.items[0].instance : "", v.n ? v.items[0].message : "");
	yaml_tree_free(tree);
	findings_done(&f);
	schema_free(s);
	buf_done(&format);
	buf_done(&value);
}

void check_row(const struct row *row)
{
	struct template_opts opts = {.strict = row->flags & STRICT, .draft = row->flags & DRAFT};
	char *text = findings_of(row->source, strlen(row->source), &opts, NULL);
	ck_assert_msg(strcmp(text, row->expected) == 0, "%s\n--- gave\n%s--- expected\n%s", row->source, text,
	              row->expected);
	if (*text == '\0')
		check_format(row->source);
	free(text);
}

int run_suite(Suite *s)
{
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
