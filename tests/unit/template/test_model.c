/* What becomes of a template: the JSON for the database, the one normalised form, environments, examples, and
 * large ones. */
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <string.h>
#include "tests/unit/template/util.h"

static const char *examples; /* directory */
static const char *every_field_path;

static char *digest_of(const char *source, const struct template_opts *opts)
{
	struct template *t = parse_good(source, opts);
	char *digest = member_of(t, "digest");
	template_free(t);
	return digest;
}

static const char two_steps[] =
    "name: t\nnamespace_name: n\nversion: 1.2.3\nx-b: 2\nx-a: {z: 1, y: [~, 1.50, -3e2, 0x10]}\nwhat: gone\n"
    "steps:\n"
    "- name: b\n  depends_on: [a, a]\n  handler: {callable: m.b, method: go, x-h: 1, initialization: {k: "
    "v}}\n"
    "  retry: {max_attempts: 0, backoff: none}\n  timeout_seconds: 7\n  x-s: s\n"
    "- name: a\n  step_type: standard\n  handler: {callable: m.a}\n";

START_TEST(json)
{
	struct template *t = parse_good(two_steps, NULL);
	char *text = json_of(t);
	static const char definition[] =
	    "{\"name\":\"t\",\"namespace_name\":\"n\",\"version\":\"1.2.3\",\"identity_strategy\":\"always_"
	    "unique\","
	    "\"steps\":["
	    "{\"name\":\"b\",\"type\":\"standard\",\"handler\":{\"callable\":\"m.b\",\"method\":\"go\","
	    "\"initialization\":{\"k\":\"v\"},\"x-h\":1},\"dependencies\":[\"a\"],"
	    "\"retry\":{\"retryable\":true,\"max_attempts\":1,\"backoff\":\"none\",\"backoff_base_ms\":1000,"
	    "\"max_backoff_ms\":30000},\"timeout_seconds\":7,\"x-s\":\"s\"},"
	    "{\"name\":\"a\",\"type\":\"standard\",\"handler\":{\"callable\":\"m.a\",\"initialization\":{}},"
	    "\"dependencies\":[],\"retry\":{\"retryable\":true,\"max_attempts\":3,\"backoff\":"
	    "\"exponential\","
	    "\"backoff_base_ms\":1000,\"max_backoff_ms\":30000}}],"
	    "\"x-a\":{\"y\":[null,1.5,-300.0,16],\"z\":1},\"x-b\":2}";
	static const char rest[] =
	    ",\"identity_strategy\":\"always_unique\",\"steps\":["
	    "{\"no\":0,\"name\":\"a\",\"type\":\"standard\",\"callable\":\"m.a\","
	    "\"handler\":{\"callable\":\"m.a\",\"initialization\":{}},\"retryable\":true,\"max_attempts\":3,"
	    "\"backoff\":\"exponential\",\"backoff_base_ms\":1000,\"max_backoff_ms\":30000,\"timeout_"
	    "seconds\":null,"
	    "\"parents\":[],\"children\":[1],\"ancestors\":[],\"ancestors_cut\":false},"
	    "{\"no\":1,\"name\":\"b\",\"type\":\"standard\",\"callable\":\"m.b\","
	    "\"handler\":{\"callable\":\"m.b\",\"method\":\"go\",\"initialization\":{\"k\":\"v\"}},"
	    "\"retryable\":true,"
	    "\"max_attempts\":1,\"backoff\":\"none\",\"backoff_base_ms\":1000,\"max_backoff_ms\":30000,"
	    "\"timeout_seconds\":7,\"parents\":[0],\"children\":[],\"ancestors\":[0],\"ancestors_cut\":false}"
	    "]}";
	unsigned char md[EVP_MAX_MD_SIZE];
	ck_assert_int_eq(EVP_Digest(definition, strlen(definition), md, NULL, EVP_sha256(), NULL), 1);
	struct buf want;
	buf_init(&want, 0);
	buf_append_str(&want, "{\"namespace\":\"n\",\"name\":\"t\",\"version\":\"1.2.3\",\"digest\":\"");
	for (int i = 0; i < 32; i++)
		buf_printf(&want, "%02x", md[i]);
	buf_printf(&want, "\",\"definition\":%s%s", definition, rest);
	ck_assert_str_eq(text, buf_text(&want));
	buf_done(&want);
	free(text);
	ck_assert_str_eq(template_namespace(t), "n");
	ck_assert_str_eq(template_name(t), "t");
	ck_assert_str_eq(template_version(t), "1.2.3");
	ck_assert_uint_eq(template_step_count(t), 2);
	ck_assert_str_eq(template_step_name(t, 0), "a");
	ck_assert_str_eq(template_step_name(t, 1), "b");
	ck_assert_ptr_null(template_step_name(t, 2));
	template_free(t);
}
END_TEST

/* A definition is a template with the same digest, without findings, and so it stays after a database has
 * sorted its keys. */
static void check_round_trip(const char *source, const struct template_opts *opts)
{
	struct template *t = parse_good(source, opts);
	char *definition = member_of(t, "definition"), *digest = member_of(t, "digest");
	json_t *root = json_loads(definition, 0, NULL);
	char *sorted = json_dumps(root, JSON_SORT_KEYS | JSON_INDENT(1));
	struct template_opts strict = {.strict = !opts || !opts->draft, .draft = opts && opts->draft};
	char *same = digest_of(definition, &strict), *again = digest_of(sorted, &strict);
	ck_assert_str_eq(same, digest);
	ck_assert_str_eq(again, digest);
	free(same);
	free(again);
	free(sorted);
	json_decref(root);
	free(definition);
	free(digest);
	template_free(t);
}

START_TEST(definition_is_a_template)
{
	char *every_field = read_file(every_field_path, NULL);
	check_round_trip(two_steps, NULL);
	check_round_trip(every_field, &(struct template_opts){.draft = true});
	check_round_trip(every_field, &(struct template_opts){.draft = true, .environment = "test"});
	free(every_field);
}
END_TEST

START_TEST(digest_tells_content_from_spelling)
{
	static const char same[][200] = {
	    HEAD "steps:\n- name: a\n  handler: {callable: c, initialization: {p: 1, q: {r: 2, s: 3}}}\n",
	    "steps: [{handler: {initialization: {q: {s: 3, r: 2}, p: 1}, callable: c}, name: 'a'}]\n" HEAD,
	    HEAD
	    "unknown: 1\nsteps:\n- name: a\n  type: standard\n  depends_on: []\n  retry: {max_attempts: 3}\n"
	    "  handler: {callable: c, initialization: {p: 0x1, q: {r: 2, s: 3}}}\n",
	    "{\"name\":\"t\",\"namespace_name\":\"n\",\"version\":\"1.0.0\",\"steps\":[{\"name\":\"a\","
	    "\"handler\":"
	    "{\"callable\":\"c\",\"initialization\":{\"q\":{\"s\":3,\"r\":2},\"p\":1}}}]}",
	};
	static const char other[][200] = {
	    HEAD "steps:\n- name: a\n  handler: {callable: c, initialization: {p: 1, q: {r: 2, s: 4}}}\n",
	    HEAD "steps:\n- name: a\n  handler: {callable: c, initialization: {p: '1', q: {r: 2, s: 3}}}\n",
	    HEAD "steps:\n- name: a\n  handler: {callable: c, initialization: {p: 1.0, q: {r: 2, s: 3}}}\n",
	    HEAD "steps:\n- name: a\n  timeout_seconds: 1\n"
	         "  handler: {callable: c, initialization: {p: 1, q: {r: 2, s: 3}}}\n",
	};
	char *digest = digest_of(same[0], NULL);
	for (size_t i = 1; i < sizeof same / sizeof same[0]; i++) {
		char *d = digest_of(same[i], NULL);
		ck_assert_msg(strcmp(d, digest) == 0, "%s", same[i]);
		free(d);
	}
	for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
		char *d = digest_of(other[i], NULL);
		ck_assert_msg(strcmp(d, digest) != 0, "%s", other[i]);
		free(d);
	}
	free(digest);
}
END_TEST

static const char with_environments[] =
    HEAD "steps:\n"
         "- {name: a, handler: {callable: c, initialization: {keep: 1, both: 2}}, timeout_seconds: 30,\n"
         "   retry: {max_attempts: 7, backoff: linear}}\n"
         "- {name: b, handler: {callable: c}, depends_on: [a]}\n"
         "environments:\n"
         "  test:\n"
         "    steps:\n"
         "    - {name: a, handler: {initialization: {both: [3], new: ~}}, retry: {max_attempts: 2}, "
         "timeout_seconds: ~}\n"
         "    - {name: ALL, timeout_seconds: 5, retry: {max_attempts: 1, backoff_base_ms: 500}}\n"
         "  none:\n";

#define RETRY(a, b, c)                                                                                       \
	"\"retryable\":true,\"max_attempts\":" #a ",\"backoff\":\"" b "\",\"backoff_base_ms\":" #c           \
	",\"max_backoff_ms\":30000"
static const struct {
	const char *environment, *expected[4];
} environments[] = {
    {NULL,
     {RETRY(7, "linear", 1000) ",\"timeout_seconds\":30", "\"initialization\":{\"both\":2,\"keep\":1}",
      RETRY(3, "exponential", 1000) ",\"timeout_seconds\":null"}},
    {"none", {RETRY(7, "linear", 1000) ",\"timeout_seconds\":30"}},
    {"unheard_of", {RETRY(7, "linear", 1000) ",\"timeout_seconds\":30"}},
    {"test",
     {RETRY(2, "linear", 500) ",\"timeout_seconds\":5",
      "\"initialization\":{\"both\":[3],\"keep\":1,\"new\":null}",
      RETRY(1, "exponential", 500) ",\"timeout_seconds\":5"}},
};

START_TEST(environment)
{
	struct template_opts opts = {.environment = environments[_i].environment};
	struct template *t = parse_good(with_environments, &opts);
	char *text = json_of(t);
	for (size_t i = 0; environments[_i].expected[i]; i++)
		ck_assert_msg(strstr(text, environments[_i].expected[i]) != NULL, "%s\nnot in\n%s",
		              environments[_i].expected[i], text);
	ck_assert_ptr_null(strstr(text, "environments"));
	free(text);
	template_free(t);
	check_round_trip(with_environments, &opts);
}
END_TEST

/* A small file must not become a large one. */
START_TEST(environment_cannot_multiply)
{
	for (int values = 0; values < 2; values++) {
		struct buf b;
		buf_init(&b, 0);
		buf_append_str(&b, HEAD "steps:\n");
		for (int i = 0; i < 2000; i++)
			buf_printf(&b, "- {name: s%d, handler: {callable: c}}\n", i);
		buf_append_str(&b, "environments: {e: {steps: [{name: ALL, handler: {initialization: {k: t");
		for (int i = 0; i < (values ? 1 : 20000); i++)
			buf_append_char(&b, '1');
		for (int i = 0; values && i < 1000; i++)
			buf_printf(&b, ", k%d: 1", i);
		buf_append_str(&b, "}}}]}}\n");
		int r = 0;
		char *text =
		    findings_of((char *)b.data, b.len, &(struct template_opts){.environment = "e"}, &r);
		ck_assert_int_eq(r, -EINVAL);
		ck_assert_ptr_nonnull(strstr(text, "f: error: environments: with its environment applied"));
		free(text);
		text = findings_of((char *)b.data, b.len, NULL, &r);
		ck_assert_int_eq(r, 0);
		free(text);
		buf_done(&b);
	}
}
END_TEST

START_TEST(example)
{
	static const struct {
		const char *file, *name, *parents; /* of each step, by number */
	} rows[] = {
	    {"linear-4.yaml", "linear-4", "[] [0] [1] [2] "},
	    {"diamond-4.yaml", "diamond-4", "[] [0] [0] [1,2] "},
	    {"dag-7.yaml", "dag-7", "[] [0] [0] [1,2] [1] [2] [3,4,5] "},
	    {"tree-8.yaml", "tree-8", "[] [0] [0] [1] [1] [2] [2] [3,4,5,6] "},
	};
	struct buf path, parents;
	buf_init(&path, 0);
	buf_init(&parents, 0);
	buf_printf(&path, "%s/%s", examples, rows[_i].file);
	char *source = read_file(buf_text(&path), NULL);
	struct template *t =
	    parse_good(source, &(struct template_opts){.strict = true, .environment = "test"});
	ck_assert_str_eq(template_namespace(t), "bench");
	ck_assert_str_eq(template_name(t), rows[_i].name);
	char *steps = member_of(t, "steps");
	json_t *list = json_loads(steps, 0, NULL), *step;
	size_t i = 0;
	json_array_foreach(list, i, step)
	{
		char *p = json_dumps(json_object_get(step, "parents"), JSON_COMPACT);
		buf_printf(&parents, "%s ", p);
		free(p);
		ck_assert_str_eq(json_string_value(json_object_get(step, "callable")), "bench.noop");
		ck_assert_int_eq(json_integer_value(json_object_get(step, "max_attempts")), 2);
	}
	ck_assert_str_eq(buf_text(&parents), rows[_i].parents);
	json_decref(list);
	free(steps);
	free(source);
	template_free(t);
	buf_done(&path);
	buf_done(&parents);
}
END_TEST

/* 10,000 wide in and out, and long: ends within Check's time limit only if the work is linear. */
START_TEST(large)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, HEAD "steps:\n- {name: first, handler: {callable: c}}\n");
	for (int i = 0; i < 10000; i++) {
		static const char *const deps[] = {"[first]", NULL};
		buf_printf(&b, "- {name: s%d, handler: {callable: c}, depends_on: ", i);
		if (_i == 0)
			buf_printf(&b, "%s}\n", deps[0]);
		else if (i == 0)
			buf_append_str(&b, "[first]}\n");
		else
			buf_printf(&b, "[s%d]}\n", i - 1);
	}
	buf_append_str(&b, "- {name: last, handler: {callable: c}, depends_on: [");
	for (int i = 0; i < 10000; i++)
		buf_printf(&b, "%ss%d", i ? ", " : "", i);
	buf_append_str(&b, "]}\n");
	struct template *t = parse_good(buf_text(&b), NULL);
	ck_assert_uint_eq(template_step_count(t), 10002);
	char *text = json_of(t);
	ck_assert_ptr_nonnull(strstr(text, "\"no\":10001,\"name\":\"last\""));
	ck_assert_ptr_nonnull(strstr(text, "63,64],\"ancestors_cut\":true"));
	free(text);
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(template_graph(t, GRAPH_TEXT, NULL, false, &out), 0);
	ck_assert_int_eq(template_graph(t, GRAPH_DOT, NULL, false, &out), 0);
	buf_done(&out);
	buf_done(&b);
	template_free(t);
}
END_TEST

START_TEST(output_is_bounded)
{
	struct template *t = parse_good(two_steps, NULL);
	char *whole = json_of(t);
	for (size_t max = 0; max <= strlen(whole); max++) {
		struct buf out;
		buf_init(&out, max ? max : 1);
		ck_assert_int_eq(template_to_json(t, &out), max < strlen(whole) ? -EMSGSIZE : 0);
		buf_done(&out);
	}
	free(whole);
	template_free(t);
}
END_TEST

int main(int argc, char **argv)
{
	if (argc != 3)
		return EXIT_FAILURE;
	examples = argv[1];
	every_field_path = argv[2];
	Suite *s = suite_create("template model");
	TCase *t = tcase_create("model");
	tcase_add_test(t, json);
	tcase_add_test(t, definition_is_a_template);
	tcase_add_test(t, digest_tells_content_from_spelling);
	tcase_add_loop_test(t, environment, 0, sizeof environments / sizeof environments[0]);
	tcase_add_test(t, environment_cannot_multiply);
	tcase_add_loop_test(t, example, 0, 4);
	tcase_add_loop_test(t, large, 0, 2);
	tcase_add_test(t, output_is_bounded);
	suite_add_tcase(s, t);
	return run_suite(s);
}
