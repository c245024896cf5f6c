/* What is refused or noted before a template is looked at: syntax, YAML's extras, numbers, bytes, depth; and that JSON
 * is read as JSON. */
#include "tests/unit/template/util.h"

static const struct row rows[] = {
	{"-.INF", "f:1:1: error: found -.INF: infinity and NaN cannot be stored; put it in quotes\n", 0},
	{"*a", "f:1:1: error: aliases (*a) are not supported: write the value out\n", 0},
	{"name: [1, 2\n",
         "f:2:1: error: not YAML: did not find expected ',' or ']' (while parsing a flow sequence that begins at line 1)\n",
         0},
	{"name: t\n"
         "\tnamespace_name: n\n",
         "f:2:1: error: not YAML: found a tab character that violates indentation (while scanning a plain scalar that begins at line 1); indent with spaces, not with tabs\n",
         0},
	{"a: b: c\n", "f:1:5: error: not YAML: mapping values are not allowed in this context\n", 0},
	{"name: 'open\n",
         "f:2:1: error: not YAML: found unexpected end of stream (while scanning a quoted scalar that begins at line 1)\n",
         0},
	{"name: *gone\n",
         "f:1:1: error: namespace_name: missing, expected 1 to 29 letters, digits and underscores, the first not a digit\n"
         "f:1:1: error: steps: missing, expected a list of maps\n"
         "f:1:1: error: version: missing, expected a semantic version like 1.4.0 or 2.0.0-rc.1\n"
         "f:1:7: error: name: aliases (*gone) are not supported: write the value out\n",
         0},
	{ONE "x-a: &anchor 1\n"
             "x-b: *anchor\n",
         "f:6:6: error: x-a: anchors (&anchor) are not supported: write the value out\n"
         "f:7:6: error: x-b: aliases (*anchor) are not supported: write the value out\n",
         0},
	{ONE "x-a: &anchor {a: 1}\n"
             "x-b: [*anchor]\n"
             "*anchor : 3\n",
         "f:6:6: error: x-a: anchors (&anchor) are not supported: write the value out\n"
         "f:7:7: error: x-b[0]: aliases (*anchor) are not supported: write the value out\n"
         "f:8:1: error: aliases (*anchor) are not supported: write the value out\n",
         0},
	{ONE "x-a: !!str 5\n"
             "x-b: !custom {a: 1}\n"
             "x-c: !<tag:%0A> [1]\n",
         "f:6:6: error: x-a: found the tag \"tag:yaml.org,2002:str\": tags are not supported\n"
         "f:7:6: error: x-b: found the tag \"!custom\": tags are not supported\n"
         "f:8:6: error: x-c: found the tag \"tag:\\u000a\": tags are not supported\n",
         0},
	{"name: !!str t\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:7: error: name: found the tag \"tag:yaml.org,2002:str\": tags are not supported\n", 0},
	{ONE "--- \n"
             "name: second\n",
         "f:6:1: error: a second document begins here, expected one a file\n", 0},
	{ONE "...\n", "", 0},
	{"---\n"
         "name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"%YAML 1.2\n"
         "---\n"
         "name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"%YAML 1.1\n"
         "---\n"
         "name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:1: warning: found %YAML 1.1: the file is read as YAML 1.2\n", 0},
	{ONE "x-a:\n"
             "  <<: {b: 1}\n"
             "  '<<': fine\n",
         "f:7:3: error: x-a: merge keys (<<) are not supported: write the values out\n", 0},
	{ONE "? [a]\n"
             ": 1\n",
         "f:6:3: error: found a list as a key, expected a text\n", 0},
	{ONE "? {a: 1}\n"
             ": 1\n",
         "f:6:3: error: found a map as a key, expected a text\n", 0},
	{ONE "x-a: {a: 1, b: 2, a: 3, 'a': 4}\n"
             "x-b: [{q: 1, q: 2}]\n",
         "f:6:19: error: x-a.a: the key occurs twice: it is already given at line 6\n"
         "f:6:25: error: x-a.a: the key occurs twice: it is already given at line 6\n"
         "f:7:14: error: x-b[0].q: the key occurs twice: it is already given at line 7\n",
         0},
	{ONE "x-a: {1: one, true: two, 1.5: three, null: four, ~: five, '2': six}\n",
         "f:6:7: warning: x-a.1: the key 1 is read as text: put it in quotes\n"
         "f:6:15: warning: x-a.true: the key true is read as text: put it in quotes\n"
         "f:6:26: warning: x-a[\"1.5\"]: the key 1.5 is read as text: put it in quotes\n"
         "f:6:38: error: x-a: found nothing where a key should be, expected a text\n"
         "f:6:50: error: x-a: found nothing where a key should be, expected a text\n",
         0},
	{ONE "? \n"
             ": 1\n",
         "f:6:2: error: found nothing where a key should be, expected a text\n", 0},
	{ONE
         "x-a: [.inf, -.INF, .NaN, 1e999, 9223372036854775807, 9223372036854775808, -9223372036854775808, 0x7fffffffffffffff, 0x8000000000000000, '.inf']\n",
         "f:6:7: error: x-a[0]: found .inf: infinity and NaN cannot be stored; put it in quotes\n"
         "f:6:13: error: x-a[1]: found -.INF: infinity and NaN cannot be stored; put it in quotes\n"
         "f:6:20: error: x-a[2]: found .NaN: infinity and NaN cannot be stored; put it in quotes\n"
         "f:6:26: error: x-a[3]: found 1e999: the number is too large; put it in quotes\n"
         "f:6:54: error: x-a[5]: found 9223372036854775808: whole numbers go from -2^63 to 2^63-1; put it in quotes\n"
         "f:6:117: error: x-a[8]: found 0x8000000000000000: whole numbers go from -2^63 to 2^63-1; put it in quotes\n",
         0},
	{ONE "x-a: [010, 0, 0o10, '010', -07, 00]\n",
         "f:6:7: warning: x-a[0]: found 010, which is the decimal number 10: write it without the zero, as 0o... if octal is meant, or in quotes\n"
         "f:6:28: warning: x-a[4]: found -07, which is the decimal number -7: write it without the zero, as 0o... if octal is meant, or in quotes\n"
         "f:6:33: warning: x-a[5]: found 00, which is the decimal number 0: write it without the zero, as 0o... if octal is meant, or in quotes\n",
         0},
	{ONE "x-a: \"a\\0b\"\n"
             "\"x-\\0\": 1\n",
         "f:6:6: error: x-a: the text contains U+0000, which cannot be stored\n"
         "f:7:1: error: a key contains U+0000\n",
         0},
	{HEAD "steps:\n"
              "- {name: \"a\\0\", handler: {callable: c}}\n",
         "f:5:10: error: steps[0].name: the text contains U+0000, which cannot be stored\n", 0},
	{ONE "x-a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n", "", 0},
	{ONE "x-a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n", "", 0},
	{ONE "x-a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
         "f:6:37: error: x-a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested more than 32 deep\n",
         0},
	{"x: \001\n", "f:1:4: error: found the control character U+0001, expected text\n", 0},
	{"x: ok\n"
         "y: \177\n",
         "f:2:4: error: found the control character U+007F, expected text\n", 0},
	{"x: \302\200\n", "f:1:4: error: found the control character U+0080, expected text\n", 0},
	{"x: \357\277\276\n", "f:1:4: error: found the control character U+FFFE, expected text\n", 0},
	{ONE "x-a: \303\244\342\202\254\360\237\230\200\357\273\277\302\205"
             "\n",
         "", 0},
	{"\357\273\277name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"{\"name\": \"t\", \"namespace_name\": \"n\", \"version\": \"1.0.0\",\n"
         " \"steps\": [{\"name\": \"a\", \"handler\": {\"callable\": \"c\"}}]}\n",
         "", 0},
	{"{\"name\": \"t\", \"namespace_name\": \"n\", \"version\": \"1.0.0\",\r\n"
         " \"steps\": [{\"name\": \"\\ud83d\\ude00\", \"handler\": {\"callable\": \"c\", \"callabel\": 1}}],\r"
         " \"nmae\": 1, \"name\": \"u\"}\n",
         "f:2:21: warning: steps[0].name: found the text \"\360\237\230\200\", recommended are letters, digits, '_', '-' and '.' only: on command lines the name needs quotes\n"
         "f:2:66: warning: steps[0].handler.callabel: unknown key, left out; did you mean callable?\n"
         "f:3:2: warning: nmae: unknown key, left out; did you mean name?\n"
         "f:3:13: error: name: the key occurs twice: it is already given at line 1\n",
         0},
	{"{\"name\": \"t\", \"namespace_name\": \"n\", \"version\": \"1.0.0\", \"steps\": [],}",
         "f:1:67: error: steps: found an empty list, expected at least one entry\n", 0},
	{"{\"name\": \"\\ud83d\"}",
         "f:1:13: error: not YAML: found invalid Unicode character escape code (while parsing a quoted scalar that begins at line 1)\n",
         0},
	{"{\"name\": \"t\"} x", "f:1:15: error: not YAML: did not find expected <document start>\n", 0},
};

START_TEST(row)
{
	check_row(&rows[_i]);
}
END_TEST

static const struct {
	const char *bytes;
	size_t len;
	const char *expected;
} byte_rows[] = {
	{"a: \0b", 5, "f:1:4: error: found the control character U+0000, expected text\n"},
	{"a: b\n\xff", 6, "f:2:1: error: the byte 0xff is not UTF-8\n"},
	{"a: b\r\xc3", 6, "f:2:1: error: the byte 0xc3 is not UTF-8\n"},
	{"a: b\r\nc: \xc0\x80", 11, "f:2:4: error: the byte 0xc0 is not UTF-8\n"},
	{"\xc3\xa4: \xed\xa0\x80", 7, "f:1:4: error: the byte 0xed is not UTF-8\n"},
	{"a: \xf4\x90\x80\x80", 7, "f:1:4: error: the byte 0xf4 is not UTF-8\n"},
	{"a: \xe0\x80\x80", 6, "f:1:4: error: the byte 0xe0 is not UTF-8\n"},
	{"a: \x1b[31m", 8, "f:1:4: error: found the control character U+001B, expected text\n"},
};

START_TEST(bytes)
{
	char *text = findings_of(byte_rows[_i].bytes, byte_rows[_i].len, NULL, NULL);
	ck_assert_str_eq(text, byte_rows[_i].expected);
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template reader");
	TCase *t = tcase_create("reader");
	tcase_add_loop_test(t, row, 0, sizeof rows / sizeof rows[0]);
	tcase_add_loop_test(t, bytes, 0, sizeof byte_rows / sizeof byte_rows[0]);
	suite_add_tcase(s, t);
	return run_suite(s);
}
