/* Schemas: what is said of wrong values and of wrong schemas, where, and that both are bounded. What the keywords mean
 * is held by suite.c. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema.h"
#include "protocol/buf.h"

static struct schema *compile(const char *json)
{
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	int rc = schema_compile(json, strlen(json), &s, &p);
	ck_assert_msg(rc == 0, "%s: %s %s", json, p.n ? p.items[0].pointer : "", p.n ? p.items[0].message : "");
	schema_problems_done(&p);
	return s;
}

/* "INSTANCE KEYWORD MESSAGE" lines. */
static char *violations_of(const char *schema, const char *value)
{
	cleanup_(cleanup_schema) struct schema *s = compile(schema);
	struct violations v = {.n = 0};
	struct buf b;
	buf_init(&b, 0);
	int rc = schema_validate(s, value, strlen(value), &v);
	ck_assert_int_eq(rc, v.total > 0);
	ck_assert_int_eq(schema_validate(s, value, strlen(value), NULL), rc);
	for (size_t i = 0; i < v.n; i++)
		buf_printf(&b, "%s %s %s\n", v.items[i].instance, v.items[i].keyword, v.items[i].message);
	violations_done(&v);
	char *text = buf_text(&b) ? buf_take_text(&b) : NULL;
	buf_done(&b);
	return text;
}

static char *problems_of(const char *schema)
{
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	struct buf b;
	buf_init(&b, 0);
	int rc = schema_compile(schema, strlen(schema), &s, &p);
	ck_assert_int_eq(rc, p.errors ? -EINVAL : 0);
	ck_assert_int_eq(rc == 0, s != NULL);
	for (size_t i = 0; i < p.n; i++)
		buf_printf(&b, "%s%s %s\n", p.items[i].warning ? "w " : "", p.items[i].pointer, p.items[i].message);
	schema_free(s);
	schema_problems_done(&p);
	char *text = buf_text(&b) ? buf_take_text(&b) : NULL;
	buf_done(&b);
	return text;
}

#define EXPECT(got_, want)                                                                                             \
	do {                                                                                                           \
		char *got = (got_);                                                                                    \
		ck_assert_str_eq(got, want);                                                                           \
		free(got);                                                                                             \
	} while (0)

START_TEST(test_all_violations_at_once)
{
	EXPECT(violations_of(
		       "{\"type\":\"object\",\"required\":[\"a\",\"b/c\",\"d\"],\"additionalProperties\":false,"
		       "\"properties\":{\"a\":{\"type\":[\"string\",\"null\"]},\"b/c\":true,\"n\":{\"minimum\":0.5,\"multipleOf\":0.25}}}",
		       "{\"a\":3,\"n\":0.1,\"z~\":1}"),
	       "/z~0 /additionalProperties is not allowed\n"
	       "/a /properties/a/type is an integer, expected null or string\n"
	       "/n /properties/n/minimum is less than 0.5\n"
	       "/n /properties/n/multipleOf is not a multiple of 0.25\n"
	       " /required lacks the property \"b/c\"\n"
	       " /required lacks the property \"d\"\n");
}
END_TEST

START_TEST(test_one_violation_each)
{
	static const struct {
		const char *schema, *value, *want;
	} cases[] = {
		{"false", "1", "  is not allowed\n"},
		{"{\"enum\":[1,2]}", "3", " /enum is none of the values allowed here\n"},
		{"{\"const\":{\"a\":[1]}}", "{\"a\":[2]}", " /const is not the one value allowed here\n"},
		{"{\"maximum\":-1200}", "0", " /maximum is greater than -1200\n"},
		{"{\"exclusiveMaximum\":12.5}", "12.50", " /exclusiveMaximum is not less than 12.5\n"},
		{"{\"exclusiveMinimum\":0.001}", "1e-3", " /exclusiveMinimum is not greater than 0.001\n"},
		{"{\"minimum\":1e300}", "0", " /minimum is less than 1e300\n"},
		{"{\"maxLength\":2}", "\"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\"",
		 " /maxLength has 3 characters, at most 2 are allowed\n"},
		{"{\"minLength\":2}", "\"\\u20ac\"", " /minLength has 1 characters, at least 2 are needed\n"},
		{"{\"pattern\":\"^a+$\"}", "\"ab\"", " /pattern does not match the pattern \"^a+$\"\n"},
		{"{\"uniqueItems\":true}", "[1,2,1.0]", " /uniqueItems holds the same value twice: items 0 and 2\n"},
		{"{\"contains\":{\"type\":\"string\"},\"minContains\":2}", "[\"a\",1]",
		 " /minContains has 1 items of the kind it must contain, at least 2 are needed\n"},
		{"{\"items\":{\"$ref\":\"#/$defs/n\"},\"$defs\":{\"n\":{\"type\":\"number\"}}}", "[1,true]",
		 "/1 /$defs/n/type is a boolean, expected number\n"},
		{"{\"prefixItems\":[true,{\"type\":\"null\"}],\"items\":false}", "[1,null,2]",
		 "/2 /items is not allowed\n"},
		{"{\"dependentRequired\":{\"a\":[\"b\"]}}", "{\"a\":1}",
		 " /dependentRequired/a lacks the property \"b\", which \"a\" asks for\n"},
		{"{\"propertyNames\":{\"maxLength\":2}}", "{\"abc\":1}",
		 " /propertyNames has a property whose name does not fit: \"abc\"\n"},
		{"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "1",
		 " /anyOf fits none of the 2 alternatives\n"},
		{"{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2}]}", "3",
		 " /oneOf fits more than one of the 2 alternatives\n"},
		{"{\"not\":{\"type\":\"null\"}}", "null", " /not fits what it must not be\n"},
		{"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]}}", "{\"a\":1}",
		 " /then/required lacks the property \"b\"\n"},
		{"{\"allOf\":[{\"properties\":{\"a\":true}}],\"unevaluatedProperties\":false}", "{\"a\":1,\"b\":2}",
		 "/b /unevaluatedProperties is not allowed\n"},
		{"{\"dependencies\":{\"a\":[\"b\"]}}", "{\"a\":1}",
		 " /dependencies/a lacks the property \"b\", which \"a\" asks for\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		EXPECT(violations_of(cases[i].schema, cases[i].value), cases[i].want);
}
END_TEST

/* A schema that is stricter than the tree it extends, in every node of it. */
START_TEST(test_dynamic_references)
{
	static const char schema[] =
		"{\"$id\":\"http://e.example/strict\",\"$dynamicAnchor\":\"node\",\"$ref\":\"tree\",\"unevaluatedProperties\":false,"
		"\"$defs\":{\"t\":{\"$id\":\"tree\",\"$dynamicAnchor\":\"node\",\"type\":\"object\",\"properties\":{\"data\":true,"
		"\"children\":{\"items\":{\"$dynamicRef\":\"#node\"}}}}}}";
	EXPECT(violations_of(schema, "{\"children\":[{\"data\":1},{\"children\":[{}]}]}"), "");
	EXPECT(violations_of(schema, "{\"children\":[{\"daat\":1}]}"),
	       "/children/0/daat /unevaluatedProperties is not allowed\n");
}
END_TEST

START_TEST(test_formats_are_notes)
{
	EXPECT(violations_of(
		       "{\"format\":\"date-time\",\"x-unit\":\"kg\",\"default\":5,\"contentEncoding\":\"base64\"}",
		       "\"no date\""),
	       "");
}
END_TEST

START_TEST(test_wrong_schemas)
{
	static const struct {
		const char *schema, *want;
	} cases[] = {
		{"5", " expected a schema: a map, or true or false\n"},
		{"{\"type\":\"text\",\"minLength\":-1,\"properties\":[]}",
	         "/minLength expected a whole number, at least 0\n/properties expected a map of names to schemas\n"
	         "/type expected a type: null, boolean, number, integer, string, array or object\n"},
		{"{\"items\":[true]}", "/items a list here is of an older draft: name it prefixItems\n"},
		{"{\"$recursiveRef\":\"#x\"}", "/$recursiveRef is not supported; use $dynamicRef\n"},
		{"{\"$dynamicRef\":\"#x\"}", "/$dynamicRef refers to nothing: \"#x\" is not in this schema\n"},
		{"{\"additionalItems\":false}",
	         "/additionalItems is not supported; use items, with the list that was in items in prefixItems\n"},
		{"{\"$ref\":\"http://other.example/x\"}",
	         "/$ref refers to another document, \"http://other.example/x\": only references within this schema are supported\n"},
		{"{\"$ref\":\"#/$defs/a\"}", "/$ref refers to nothing: \"#/$defs/a\" is not in this schema\n"},
		{"{\"$ref\":\"#\"}", " leads back to itself without going into the value: checking would never end\n"},
		{"{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"not\":{\"$ref\":\"#/$defs/a\"}}}}",
	         "/$defs/b/not leads back to itself without going into the value: checking would never end\n"},
		{"{\"pattern\":\"(\"}", "/pattern the pattern \"(\" cannot be used: a ( without its )\n"},
		{"{\"patternProperties\":{\"(a)\\\\1\":true}}",
	         "/patternProperties/(a)\\1 the pattern \"(a)\\\\1\" cannot be used: back references (\\1) are not supported\n"},
		{"{\"requird\":[\"a\"]}", "w /requird unknown keyword: it checks nothing\n"},
		{"{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
	         "w /$schema read as https://json-schema.org/draft/2020-12/schema\n"},
		{"{\"$schema\":\"urn:mine\"}",
	         "/$schema unknown dialect; expected https://json-schema.org/draft/2020-12/schema\n"},
		{"{\"required\":[\"a\",\"a\"]}", "/required expected a list of texts, each once\n"},
		{"{\"multipleOf\":0}", "/multipleOf expected a number greater than 0\n"},
		{"{\"exclusiveMinimum\":true}", "/exclusiveMinimum expected a number\n"},
		{"{\"a\":1,\"a\":2}", " is not JSON\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		EXPECT(problems_of(cases[i].schema), cases[i].want);
}
END_TEST

static char *repeated(const char *before, const char *what, size_t n, const char *after)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, before);
	for (size_t i = 0; i < n; i++)
		buf_append_str(&b, what);
	buf_append_str(&b, after);
	ck_assert_ptr_nonnull(buf_text(&b));
	char *text = buf_take_text(&b);
	buf_done(&b);
	return text;
}

START_TEST(test_violations_are_bounded_and_counted)
{
	cleanup_(cleanup_schema) struct schema *s = compile("{\"items\":{\"type\":\"null\"}}");
	cleanup_(cleanup_free) char *value = repeated("[1", ",1", 999, "]");
	struct violations v = {.n = 0};
	ck_assert_int_eq(schema_validate(s, value, strlen(value), &v), 1);
	ck_assert_uint_eq(v.n, SCHEMA_MAX_VIOLATIONS);
	ck_assert_uint_eq(v.total, 1000);
	ck_assert(!v.gave_up);
	violations_done(&v);
}
END_TEST

static void expect_gives_up(const char *schema, const char *value, const char *message)
{
	cleanup_(cleanup_schema) struct schema *s = compile(schema);
	struct violations v = {.n = 0};
	ck_assert_int_eq(schema_validate(s, value, strlen(value), &v), 1);
	ck_assert(v.gave_up);
	ck_assert_uint_ge(v.n, 1);
	ck_assert_str_eq(v.items[v.n - 1].message, message);
	violations_done(&v);
	ck_assert_int_eq(schema_validate(s, value, strlen(value), NULL), 1);
}

START_TEST(test_work_is_bounded)
{
	/* Each level asks twice for the next: 2^40 questions. */
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"d40\":{\"type\":\"null\"}");
	for (int i = 0; i < 40; i++)
		buf_printf(
			&b,
			",\"d%d\":{\"not\":{\"allOf\":[{\"not\":{\"$ref\":\"#/$defs/d%d\"}},{\"anyOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]}]}}",
			i, i + 1, i + 1, i + 1);
	buf_append_str(&b, "}}");
	cleanup_(cleanup_free) char *refused = problems_of(buf_text(&b));
	ck_assert_ptr_nonnull(strstr(refused, "nested too deeply"));
	buf_reset(&b);
	buf_append_str(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"d26\":{\"type\":\"string\"}");
	for (int i = 0; i < 26; i++)
		buf_printf(&b, ",\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]}", i, i + 1,
		           i + 1);
	buf_append_str(&b, "}}");
	expect_gives_up(buf_text(&b), "\"x\"", "checking this takes too much work");
	buf_done(&b);
	/* A pattern that makes backtracking engines explode is nothing special; one with many places at once is
	 * bounded. */
	cleanup_(cleanup_free) char *as = repeated("\"", "a", 5000, "b\"");
	EXPECT(violations_of("{\"pattern\":\"^(a+)+$\"}", as), " /pattern does not match the pattern \"^(a+)+$\"\n");
	cleanup_(cleanup_free) char *many = repeated("\"", "a", 200000, "b\"");
	expect_gives_up("{\"pattern\":\"(a{0,1000}){0,9}c\"}", many,
	                "checking this against a pattern takes too much work");
}
END_TEST

START_TEST(test_depth_is_bounded)
{
	cleanup_(cleanup_schema) struct schema *s = compile("{\"items\":{\"$ref\":\"#\"}}");
	cleanup_(cleanup_free) char *open = repeated("", "[", 60, ""), *close = repeated("", "]", 60, "");
	cleanup_(cleanup_free) char *deep = repeated("", "[", 100000, "");
	char value[200];
	snprintf(value, sizeof value, "%s1%s", open, close);
	ck_assert_int_eq(schema_validate(s, value, strlen(value), NULL), 0);
	ck_assert_int_eq(schema_validate(s, deep, strlen(deep), NULL), -EINVAL);
}
END_TEST

static void expect_problem(char *schema, const char *message)
{
	char *got = problems_of(schema);
	ck_assert_msg(strstr(got, message) != NULL, "%.200s", got);
	free(got);
	free(schema);
}

START_TEST(test_schemas_are_bounded)
{
	expect_problem(repeated("{\"allOf\":[true", ",{\"$id\":\"a\"}", 2, "]}"), "is taken by another schema");
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, "{\"allOf\":[true");
	for (int i = 0; i < 600; i++)
		buf_printf(&b, ",{\"$id\":\"i%d\",\"$anchor\":\"a%d\"}", i, i);
	buf_append_str(&b, "]}");
	cleanup_(cleanup_free) char *named = problems_of(buf_text(&b));
	ck_assert_ptr_nonnull(strstr(named, "more than 500 schemas with an $id"));
	ck_assert_ptr_nonnull(strstr(named, "more than 500 anchors"));
	buf_done(&b);
	expect_problem(repeated("{\"allOf\":[true", ",{\"pattern\":\"(a{1000}){19}\"}", 200, "]}"),
	               "the patterns up to here are too large together");
	expect_problem(repeated("{\"pattern\":\"", "\\\\p{L}", 1500, "\"}"), "more than 100000 ranges");
	expect_problem(repeated("{\"pattern\":\"[", "\\\\p{L}", 1500, "]\"}"), "more than 100000 ranges");
	expect_problem(repeated("{\"enum\":[1", ",1", 60000, "]}"), "too large");
}
END_TEST

START_TEST(test_values_that_are_not_json)
{
	static const char *const bad[] = {"",    "[",       "{\"a\":1",    "{\"a\" 1}",
	                                  "01",  "1.",      "1e",          "-",
	                                  "\"a", "\"\\x\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
	                                  "tru", "[1,]",    "{,}",         "{\"a\":1,\"a\":1}",
	                                  "1 2", "\"\n\"",  "nul",         "\"\\u12"};
	cleanup_(cleanup_schema) struct schema *s = compile("true");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(schema_validate(s, bad[i], strlen(bad[i]), NULL) == -EINVAL, "%s", bad[i]);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("schema");
	TCase *t = tcase_create("schema");
	tcase_add_test(t, test_all_violations_at_once);
	tcase_add_test(t, test_one_violation_each);
	tcase_add_test(t, test_dynamic_references);
	tcase_add_test(t, test_formats_are_notes);
	tcase_add_test(t, test_wrong_schemas);
	tcase_add_test(t, test_violations_are_bounded_and_counted);
	tcase_add_test(t, test_work_is_bounded);
	tcase_add_test(t, test_depth_is_bounded);
	tcase_add_test(t, test_schemas_are_bounded);
	tcase_add_test(t, test_values_that_are_not_json);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
