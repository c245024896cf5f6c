/* The reader by itself: scalars, places, bounds at, below and above their edges, and that JSON and YAML give
 * the same tree. */
#include <errno.h>
#include <string.h>
#include "daemon/template/yaml_tree.h"
#include "tests/unit/template/util.h"

/* One line that tells kind, value and place of everything. */
static void dump(const struct ynode *n, bool places, struct buf *out)
{
	static const char kinds[] = "!nbifs[{";
	if (places)
		buf_printf(out, "%u:%u", n->line, n->column);
	buf_append_char(out, kinds[n->kind]);
	if (n->kind == YNODE_BOOL)
		buf_printf(out, "%d", n->u.boolean);
	else if (n->kind == YNODE_INT)
		buf_printf(out, "%lld", (long long)n->u.integer);
	else if (n->kind == YNODE_FLOAT)
		buf_printf(out, "%.17g", n->u.real);
	else if (n->kind == YNODE_STR)
		buf_printf(out, "%zu'%s'", n->n, n->text);
	for (size_t i = 0; n->kind == YNODE_SEQ && i < n->n; i++)
		dump(n->u.items[i], places, out);
	for (size_t i = 0; n->kind == YNODE_MAP && i < n->n; i++) {
		if (places)
			buf_printf(out, "%u:%u", n->u.pairs[i].line, n->u.pairs[i].column);
		buf_printf(out, "%s=", n->u.pairs[i].key);
		dump(n->u.pairs[i].value, places, out);
	}
	if (n->kind == YNODE_SEQ || n->kind == YNODE_MAP)
		buf_append_char(out, ';');
}

static char *read_as_line(const char *source, size_t len, bool places)
{
	struct yaml_tree *t = NULL;
	struct findings f = {0};
	struct buf out;
	buf_init(&out, 0);
	int r = yaml_tree_parse(source, len, NULL, &t, &f);
	ck_assert_int_eq(r == 0, t != NULL);
	if (r == 0)
		dump(yaml_tree_root(t), places, &out);
	else
		ck_assert_int_eq(findings_to_text(&f, "f", &out), 0);
	yaml_tree_free(t);
	findings_done(&f);
	return buf_take_text(&out);
}

static const struct {
	const char *source, *line;
} scalars[] = {
    {"~", "n"},
    {"null", "n"},
    {"Null", "n"},
    {"nULL", "s4'nULL'"},
    {"'null'", "s4'null'"},
    {"true", "b1"},
    {"FALSE", "b0"},
    {"tRue", "s4'tRue'"},
    {"yes", "s3'yes'"},
    {"on", "s2'on'"},
    {"\"true\"", "s4'true'"},
    {"0", "i0"},
    {"-0", "i0"},
    {"+12", "i12"},
    {"0x1F", "i31"},
    {"0o17", "i15"},
    {"0x", "s2'0x'"},
    {"0o8", "s3'0o8'"},
    {"-0x1", "s4'-0x1'"},
    {"1_000", "s5'1_000'"},
    {"1:30", "s4'1:30'"},
    {"-9223372036854775808", "i-9223372036854775808"},
    {"1.5", "f1.5"},
    {"1.", "f1"},
    {".5", "f0.5"},
    {"+.5e1", "f5"},
    {"1e3", "f1000"},
    {"-1E-2", "f-0.01"},
    {"1e", "s2'1e'"},
    {".", "s1'.'"},
    {"-", "[n;"},
    {"+", "s1'+'"},
    {"1.2.3", "s5'1.2.3'"},
    {".inf0", "s5'.inf0'"},
    {"2026-01-05", "s10'2026-01-05'"},
    {"'it''s'", "s4'it's'"},
    {"\"a\\u00e4\\x41\\U0001F600\"", "s8'a\303\244A\360\237\230\200'"},
    {"|\n two\n lines\n", "s10'two\nlines\n'"},
    {">-\n one\n line\n", "s8'one line'"},
    {"one\n two", "s7'one two'"},
    {"''", "s0''"},
    {"\357\273\277a", "s1'a'"},
};

START_TEST(scalar)
{
	char *line = read_as_line(scalars[_i].source, strlen(scalars[_i].source), false);
	ck_assert_str_eq(line, scalars[_i].line);
	free(line);
}
END_TEST

/* Each pair means the same; the first is not JSON. */
static const char *const pairs[][2] = {
    {"{a: 1, b: [true, null, 'x'], c: {}}", "{\"a\": 1, \"b\": [true, null, \"x\"], \"c\": {}}"},
    {"[1.5e3, -0, 'a\tb', \"\\\"\\\\/\\b\\f\\n\\r\\t\"]",
     "[1.5e3, -0, \"a\\tb\", \"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"},
    {"['\303\244', '\360\237\230\200', '\342\202\254']", "[\"\\u00e4\", \"\\uD83D\\ude00\", \"\\u20AC\"]"},
    {"[]", " [ ] \r\n"},
    {"{a: [[], {}]}", "{\"a\"\n:\n[\n[\n]\n,\n{\n}\n]\n}"},
};

START_TEST(json_is_yaml)
{
	char *yaml = read_as_line(pairs[_i][0], strlen(pairs[_i][0]), false);
	char *json = read_as_line(pairs[_i][1], strlen(pairs[_i][1]), false);
	ck_assert_str_eq(yaml, json);
	free(yaml);
	free(json);
}
END_TEST

/* Not JSON by the letter, though it begins like it: read as YAML. */
static const struct {
	const char *source, *line;
} almost[] = {
    {"{a: 1}", "{a=i1;"},
    {"[1, 2,]", "[i1i2;"},
    {"{\"a\": 1} # comment", "{a=i1;"},
    {"[01]", "[i1;"},
    {"[+1, .5]", "[i1f0.5;"},
    {"[true1, nul]", "[s5'true1's3'nul';"},
    {"[\"\\x41\"]", "[s1'A';"},
    {"['\\ud83d']", "[s6'\\ud83d';"},
    {"{\"a\": 1, b}", "{a=i1b=n;"},
};

START_TEST(almost_json)
{
	char *line = read_as_line(almost[_i].source, strlen(almost[_i].source), false);
	ck_assert_str_eq(line, almost[_i].line);
	free(line);
}
END_TEST

START_TEST(places)
{
	static const char yaml[] = "a: 1\n\303\244\303\266:  [x,\n  {b: }]\n";
	char *line = read_as_line(yaml, strlen(yaml), true);
	ck_assert_str_eq(line, "1:1{1:1a=1:4i12:1\303\244\303\266=2:6[2:7s1'x'3:3{3:4b=3:7n;;;");
	free(line);
	static const char json[] = " {\"\303\244\": [1,\r\n \"\\n\", {\"b\":\rnull}]}";
	line = read_as_line(json, strlen(json), true);
	ck_assert_str_eq(line, "1:2{1:3\303\244=1:8[1:9i12:2s1'\n'2:8{2:9b=3:1n;;;");
	free(line);
}
END_TEST

static int parse_limited(const char *source, struct yaml_limits limits)
{
	struct yaml_tree *t = NULL;
	struct findings f = {0};
	int r = yaml_tree_parse(source, strlen(source), &limits, &t, &f);
	ck_assert_uint_eq(f.errors, r == 0 ? 0 : 1);
	yaml_tree_free(t);
	findings_done(&f);
	return r;
}

static const struct {
	const char *source;
	size_t bytes, nodes;
	unsigned depth;
} edges[] = {
    {"abc", 3, 1, 0},
    {"[a, b]", 6, 3, 1},
    {"- a\n- b\n", 8, 3, 1},
    {"{a: b, c: [d]}", 14, 6, 2},
    {"a: b\nc:\n- d\n", 12, 6, 2},
    {"[[[1]]]", 7, 4, 3},
    {"{\"a\": {\"b\": []}}", 16, 5, 3},
};

START_TEST(limits)
{
	struct yaml_limits l = {
	    .max_bytes = edges[_i].bytes, .max_nodes = edges[_i].nodes, .max_depth = edges[_i].depth};
	ck_assert_int_eq(parse_limited(edges[_i].source, l), 0);
	l.max_bytes--;
	ck_assert_int_eq(parse_limited(edges[_i].source, l), -EINVAL);
	l.max_bytes += 2;
	l.max_nodes--;
	ck_assert_int_eq(parse_limited(edges[_i].source, l), -EINVAL);
	l.max_nodes += 2;
	ck_assert_int_eq(parse_limited(edges[_i].source, l), 0);
	if (l.max_depth == 0)
		return;
	l.max_depth--;
	ck_assert_int_eq(parse_limited(edges[_i].source, l), -EINVAL);
}
END_TEST

START_TEST(wide_containers)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append_char(&b, '{');
	for (int i = 0; i < 20000; i++)
		buf_printf(&b, "%sk%d: %d", i ? ", " : "", i, i);
	buf_append_char(&b, '}');
	struct yaml_tree *t = NULL;
	struct findings f = {0};
	ck_assert_int_eq(yaml_tree_parse((char *)b.data, b.len, NULL, &t, &f), 0);
	const struct ynode *root = yaml_tree_root(t);
	ck_assert_uint_eq(root->n, 20000);
	ck_assert_int_eq(ynode_get(root, "k19999")->u.integer, 19999);
	ck_assert_ptr_null(ynode_get(root, "k20000"));
	ck_assert_ptr_null(ynode_get(NULL, "k"));
	ck_assert_ptr_null(ynode_str(ynode_get(root, "k1")));
	yaml_tree_free(t);
	findings_done(&f);
	buf_done(&b);
}
END_TEST

START_TEST(repeated_keys_keep_the_first)
{
	struct yaml_tree *t = NULL;
	struct findings f = {0};
	static const char source[] = "{b: 1, a: 2, b: 3, c: 4, a: 5, b: 6}";
	ck_assert_int_eq(yaml_tree_parse(source, strlen(source), NULL, &t, &f), 0);
	ck_assert_uint_eq(f.errors, 3);
	struct buf out;
	buf_init(&out, 0);
	dump(yaml_tree_root(t), false, &out);
	ck_assert_str_eq(buf_text(&out), "{b=i1a=i2c=i4;");
	buf_done(&out);
	yaml_tree_free(t);
	findings_done(&f);
}
END_TEST

START_TEST(findings_are_bounded)
{
	struct buf b;
	buf_init(&b, 0);
	for (int i = 0; i < FINDINGS_MAX + 500; i++)
		buf_append_str(&b, "- *a\n");
	char *text = findings_of((char *)b.data, b.len, NULL, NULL);
	size_t lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	ck_assert_uint_eq(lines, FINDINGS_MAX + 1);
	/* 1,500 aliases, and the file is a list. */
	ck_assert_ptr_nonnull(strstr(text, "f: error: 501 more findings are not shown"));
	free(text);
	buf_done(&b);
}
END_TEST

START_TEST(findings_as_json)
{
	struct findings f = {0};
	findings_add(&f, FINDING_ERROR, 3, 4, "a[\"b\"]", "found %s", QUOTE("x\n\"y\"\\"));
	findings_add(&f, FINDING_WARNING, 0, 0, NULL, "whole file");
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(findings_to_json(&f, "dir/f.yaml", &out), 0);
	ck_assert_str_eq(
	    buf_text(&out),
	    "[{\"severity\":\"error\",\"file\":\"dir/"
	    "f.yaml\",\"line\":3,\"column\":4,\"key\":\"a[\\\"b\\\"]\","
	    "\"message\":\"found \\\"x\\\\u000a\\\\\\\"y\\\\\\\"\\\\\\\\\\\"\"},"
	    "{\"severity\":\"warning\",\"file\":\"dir/f.yaml\",\"line\":0,\"column\":0,\"key\":\"\","
	    "\"message\":\"whole file\"}]");
	buf_done(&out);
	findings_done(&f);
}
END_TEST

START_TEST(long_texts_are_cut_between_characters)
{
	char text[401] = "";
	for (int i = 0; i < 100; i++)
		memcpy(text + 4 * i, "\360\237\230\200", 4);
	struct quoted q;
	quote_text(&q, text, strlen(text));
	size_t n = strlen(q.text);
	ck_assert_uint_lt(n, sizeof q.text);
	ck_assert_str_eq(q.text + n - 4, "...\"");
	ck_assert_uint_eq((n - 5) % 4, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template tree");
	TCase *t = tcase_create("tree");
	tcase_add_loop_test(t, scalar, 0, sizeof scalars / sizeof scalars[0]);
	tcase_add_loop_test(t, json_is_yaml, 0, sizeof pairs / sizeof pairs[0]);
	tcase_add_loop_test(t, almost_json, 0, sizeof almost / sizeof almost[0]);
	tcase_add_test(t, places);
	tcase_add_loop_test(t, limits, 0, sizeof edges / sizeof edges[0]);
	tcase_add_test(t, wide_containers);
	tcase_add_test(t, repeated_keys_keep_the_first);
	tcase_add_test(t, findings_are_bounded);
	tcase_add_test(t, findings_as_json);
	tcase_add_test(t, long_texts_are_cut_between_characters);
	suite_add_tcase(s, t);
	return run_suite(s);
}
