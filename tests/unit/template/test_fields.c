/* What the field tables say: missing and unknown keys, types, ranges, names. A row with no lines is right. */
#include "tests/unit/template/util.h"

static const struct row rows[] = {
	{"", "f: error: the file is empty\n", 0},
	{"# nothing\n", "f: error: the file is empty\n", 0},
	{"hello\n", "f:1:1: error: found the text \"hello\", expected a map\n", 0},
	{"- 1\n", "f:1:1: error: found a list, expected a map\n", 0},
	{"{}\n",
         "f:1:1: error: name: missing, expected a text of 1 to 255 characters\n"
         "f:1:1: error: namespace_name: missing, expected 1 to 29 letters, digits and underscores, the first not a digit\n"
         "f:1:1: error: steps: missing, expected a list of maps\n"
         "f:1:1: error: version: missing, expected a semantic version like 1.4.0 or 2.0.0-rc.1\n",
         0},
	{ONE, "", 0},
	{"name: \"\"\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:7: error: name: found a text of 0 characters, expected a text of 1 to 255 characters\n", 0},
	{"name: 12\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:7: error: name: found the number 12, expected a text of 1 to 255 characters: put it in quotes\n", 0},
	{"name: two words\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:7: warning: name: found the text \"two words\", recommended are letters, digits, '_', '-' and '.' only: on command lines the name needs quotes\n",
         0},
	{"name: \"two\\nlines\"\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:7: error: name: found the text \"two\\u000alines\", expected a name on one line, without control characters\n",
         0},
	{"name:\n"
         "namespace_name: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:1: error: name: missing, expected a text of 1 to 255 characters\n", 0},
	{"name: t\n"
         "namespace_name: 9to5\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:2:17: error: namespace_name: found the text \"9to5\", expected 1 to 29 letters, digits and underscores, the first not a digit\n",
         0},
	{"name: t\n"
         "namespace_name: a-b\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:2:17: error: namespace_name: found the text \"a-b\", expected 1 to 29 letters, digits and underscores, the first not a digit\n",
         0},
	{"name: t\n"
         "namespace_name: abcdefghijklmnopqrstuvwxyz_12\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"name: t\n"
         "namespace_name: abcdefghijklmnopqrstuvwxyz_123\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:2:17: error: namespace_name: found the text \"abcdefghijklmnopqrstuvwxyz_123\", expected 1 to 29 letters, digits and underscores, the first not a digit\n",
         0},
	{"name: t\n"
         "namespace: n\n"
         "version: 1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:1:1: error: namespace_name: missing, expected 1 to 29 letters, digits and underscores, the first not a digit\n"
         "f:2:1: warning: namespace: unknown key, left out; did you mean namespace_name?\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the number 1.0, expected a semantic version like 1.4.0 or 2.0.0-rc.1\n", 0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: v1.0.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"v1.0.0\", expected a semantic version like 1.4.0 or 2.0.0-rc.1\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.02.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"1.02.0\", expected a semantic version like 1.4.0 or 2.0.0-rc.1\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0-rc.01\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"1.0.0-rc.01\", expected a semantic version like 1.4.0 or 2.0.0-rc.1\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0-rc.1+build.007\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0-\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"1.0.0-\", expected a semantic version like 1.4.0 or 2.0.0-rc.1\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 999999999.0.1\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "", 0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.1234567890.0\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"1.1234567890.0\", expected a semantic version like 1.4.0 or 2.0.0-rc.1, numbers of at most nine digits\n",
         0},
	{"name: t\n"
         "namespace_name: n\n"
         "version: 1.0.0-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
         "steps:\n"
         "- {name: a, handler: {callable: c}}\n",
         "f:3:10: error: version: found the text \"1.0.0-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\", expected a semantic version like 1.4.0 or 2.0.0-rc.1, at most 64 characters\n",
         0},
	{ONE "x-anything: {a: [1, 2]}\n", "", 0},
	{ONE "descripton: d\n", "f:6:1: warning: descripton: unknown key, left out; did you mean description?\n", 0},
	{ONE "colour: red\n", "f:6:1: warning: colour: unknown key, left out (keys that begin with x- are free)\n", 0},
	{ONE "colour: red\n", "f:6:1: error: colour: unknown key, left out (keys that begin with x- are free)\n",
         STRICT},
	{ONE "retry: {max_attempts: 1}\n",
         "f:6:1: warning: retry: has no meaning here and is left out: it belongs in a step\n", 0},
	{ONE "name: again\n", "f:6:1: error: name: the key occurs twice: it is already given at line 1\n", 0},
	{OPEN "  lifecycle: {max_duration_minutes: 5}\n",
         "f:8:3: warning: steps[0].lifecycle: has no meaning here and is left out: it belongs at the top of the template\n",
         0},
	{OPEN "  callable: c\n",
         "f:8:3: warning: steps[0].callable: has no meaning here and is left out: it belongs in a step's handler\n", 0},
	{OPEN "  retry: {limit: 3}\n",
         "f:8:11: warning: steps[0].retry.limit: unknown key, left out; did you mean max_attempts?\n", 0},
	{OPEN "  timeout: 3\n",
         "f:8:3: warning: steps[0].timeout: unknown key, left out; did you mean timeout_seconds?\n", 0},
	{OPEN "  x-note: 1\n", "", 0},
	{ONE "description: [a]\n", "f:6:14: error: description: found a list, expected a text\n", 0},
	{ONE "metadata: text\n", "f:6:11: error: metadata: found the text \"text\", expected a map\n", 0},
	{ONE
         "metadata: {author: x, tags: [a, 1, b], documentation_url: u, created_at: 2026-01-05, updated_at: 2026-01-05T00:00:00Z, team: z}\n",
         "f:6:33: error: metadata.tags[1]: found the number 1, expected a text: put it in quotes\n"
         "f:6:120: warning: metadata.team: unknown key, left out (keys that begin with x- are free)\n",
         0},
	{ONE "metadata: {tags: solo}\n",
         "f:6:18: error: metadata.tags: found the text \"solo\", expected a list of texts: put it in brackets, [like_this]\n",
         0},
	{ONE "system_dependencies: {primary: p, secondary: [a, [b]]}\n",
         "f:6:50: error: system_dependencies.secondary[1]: found a list, expected a text\n", 0},
	{ONE "identity_strategy: strikt\n",
         "f:6:20: error: identity_strategy: found the text \"strikt\", expected one of strict, caller_provided, always_unique; did you mean strict?\n",
         0},
	{ONE "identity_strategy: caller_provided\n", "", 0},
	{ONE
         "domain_events: [{name: order.placed, description: d, schema: {type: object}}, {description: x}, {name: Order}, {name: a.b, schema: text}]\n",
         "f:6:79: error: domain_events[1].name: missing, expected a text of 1 to 255 characters\n"
         "f:6:104: warning: domain_events[2].name: found the text \"Order\", recommended are lower-case words joined by at least one dot, like payment.charged: used as written\n"
         "f:6:132: error: domain_events[3].schema: found the text \"text\", expected a JSON schema (a map, or true or false)\n",
         0},
	{HEAD, "f:1:1: error: steps: missing, expected a list of maps\n", 0},
	{HEAD "steps:\n", "f:1:1: error: steps: missing, expected a list of maps\n", 0},
	{HEAD "steps: []\n", "f:4:8: error: steps: found an empty list, expected at least one entry\n", 0},
	{HEAD "steps: {a: 1}\n", "f:4:8: error: steps: found a map, expected a list of maps\n", 0},
	{HEAD "steps: [a, {}]\n",
         "f:4:9: error: steps[0]: found the text \"a\", expected a map\n"
         "f:4:12: error: steps[1].handler: missing, expected a map\n"
         "f:4:12: error: steps[1].name: missing, expected a text of 1 to 128 characters\n",
         0},
	{HEAD "steps:\n"
              "- name: a\n"
              "  handler: c\n",
         "f:6:12: error: steps[0].handler: found the text \"c\", expected a map\n", 0},
	{HEAD "steps:\n"
              "- name: a\n"
              "  handler: {method: 5, resolver: '', initialization: [1]}\n",
         "f:6:12: error: steps[0].handler.callable: missing, expected a text of 1 to 500 characters\n"
         "f:6:21: error: steps[0].handler.method: found the number 5, expected a text of 1 to 500 characters: put it in quotes\n"
         "f:6:34: error: steps[0].handler.resolver: found a text of 0 characters, expected a text of 1 to 500 characters\n"
         "f:6:54: error: steps[0].handler.initialization: found a list, expected a map\n",
         0},
	{HEAD "steps:\n"
              "- name: a\n",
         "f:5:3: error: steps[0].handler: missing, expected a map\n", 0},
	{OPEN "  type: standard\n"
              "  description: d\n"
              "  system_dependency: s\n"
              "  timeout_seconds: 1\n"
              "  dependencies:\n",
         "", 0},
	{OPEN "  type: standard\n"
              "  step_type: standard\n",
         "f:9:3: error: steps[0].step_type: is the same key as type, already given at line 8\n", 0},
	{OPEN "  type: sideways\n",
         "f:8:9: error: steps[0].type: found the text \"sideways\", expected one of standard, decision, deferred_convergence, batchable, batch_worker\n",
         0},
	{OPEN "  step_type: deferred\n",
         "f:8:14: error: steps[0].step_type: found the text \"deferred\", expected one of standard, decision, deferred_convergence, batchable, batch_worker; did you mean deferred_convergence?\n",
         0},
	{OPEN "  timeout_seconds: 0\n",
         "f:8:20: error: steps[0].timeout_seconds: found the number 0, expected a whole number from 1 to 86400\n", 0},
	{OPEN "  timeout_seconds: 86400\n", "", 0},
	{OPEN "  timeout_seconds: 86401\n",
         "f:8:20: warning: steps[0].timeout_seconds: found the number 86401, recommended is a whole number from 1 to 86400: used as written\n",
         0},
	{OPEN "  timeout_seconds: 2000001\n",
         "f:8:20: error: steps[0].timeout_seconds: found the number 2000001, expected a whole number from 1 to 86400\n",
         0},
	{OPEN "  timeout_seconds: 1.5\n",
         "f:8:20: error: steps[0].timeout_seconds: found the number 1.5, expected a whole number from 1 to 86400\n", 0},
	{OPEN "  timeout_seconds: '30'\n",
         "f:8:20: error: steps[0].timeout_seconds: found the text \"30\", expected a whole number from 1 to 86400: remove the quotes\n",
         0},
	{OPEN "  timeout_seconds: -1\n",
         "f:8:20: error: steps[0].timeout_seconds: found the number -1, expected a whole number from 1 to 86400\n", 0},
	{OPEN "  retry: {retryable: yes}\n",
         "f:8:22: error: steps[0].retry.retryable: found the text \"yes\", expected true or false (yes, no, on and off are texts in YAML 1.2)\n",
         0},
	{OPEN "  retry: {retryable: 'true'}\n",
         "f:8:22: error: steps[0].retry.retryable: found the text \"true\", expected true or false: remove the quotes\n",
         0},
	{OPEN
         "  retry: {retryable: false, max_attempts: 3, backoff: none, backoff_base_ms: 100, max_backoff_ms: 1000}\n",
         "", 0},
	{OPEN "  retry: {max_attempts: 0}\n",
         "f:8:25: warning: steps[0].retry.max_attempts: found the number 0, expected a whole number from 1 to 100: taken as 1\n",
         0},
	{OPEN "  retry: {max_attempts: 0}\n",
         "f:8:25: error: steps[0].retry.max_attempts: found the number 0, expected a whole number from 1 to 100: taken as 1\n",
         STRICT},
	{OPEN "  retry: {max_attempts: -1}\n",
         "f:8:25: error: steps[0].retry.max_attempts: found the number -1, expected a whole number from 1 to 100\n", 0},
	{OPEN "  retry: {max_attempts: 100}\n", "", 0},
	{OPEN "  retry: {max_attempts: 101}\n",
         "f:8:25: warning: steps[0].retry.max_attempts: found the number 101, recommended is a whole number from 1 to 100: used as written\n",
         0},
	{OPEN "  retry: {max_attempts: 10001}\n",
         "f:8:25: error: steps[0].retry.max_attempts: found the number 10001, expected a whole number from 1 to 100\n",
         0},
	{OPEN "  retry: {backoff: exponental}\n",
         "f:8:20: error: steps[0].retry.backoff: found the text \"exponental\", expected one of none, linear, exponential, fibonacci; did you mean exponential?\n",
         0},
	{OPEN "  retry: {backoff: 2}\n",
         "f:8:20: error: steps[0].retry.backoff: found the number 2, expected one of none, linear, exponential, fibonacci\n",
         0},
	{OPEN "  retry: {backoff_base_ms: 50}\n",
         "f:8:28: warning: steps[0].retry.backoff_base_ms: found the number 50, recommended is a whole number from 100 to 3600000: used as written\n",
         0},
	{OPEN "  retry: {backoff_base_ms: 86400001}\n",
         "f:8:28: error: steps[0].retry.backoff_base_ms: found the number 86400001, expected a whole number from 100 to 3600000\n"
         "f:8:28: warning: steps[0].retry.backoff_base_ms: backoff_base_ms is 86400001 and max_backoff_ms 30000: every wait is 30000 ms\n",
         0},
	{OPEN "  retry: {backoff_base_ms: 40000}\n",
         "f:8:28: warning: steps[0].retry.backoff_base_ms: backoff_base_ms is 40000 and max_backoff_ms 30000: every wait is 30000 ms\n",
         0},
	{OPEN "  retry: {backoff_base_ms: 5000, max_backoff_ms: 2000}\n",
         "f:8:28: warning: steps[0].retry.backoff_base_ms: backoff_base_ms is 5000 and max_backoff_ms 2000: every wait is 2000 ms\n",
         0},
	{OPEN "  retry: {max_backoff_ms: 999}\n",
         "f:8:27: warning: steps[0].retry.max_backoff_ms: backoff_base_ms is 1000 and max_backoff_ms 999: every wait is 999 ms\n"
         "f:8:27: warning: steps[0].retry.max_backoff_ms: found the number 999, recommended is a whole number from 1000 to 3600000: used as written\n",
         0},
	{OPEN "  retry: [1]\n", "f:8:10: error: steps[0].retry: found a list, expected a map\n", 0},
	{OPEN "  x: 1\n"
              "  retry: {x-why: because, x: 1}\n",
         "f:8:3: warning: steps[0].x: unknown key, left out (keys that begin with x- are free)\n"
         "f:9:27: warning: steps[0].retry.x: unknown key, left out (keys that begin with x- are free)\n",
         0},
	{HEAD
         "steps:\n"
         "- {name: 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn', handler: {callable: c}}\n"
         "- {name: 'mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm', handler: {callable: c}}\n",
         "f:6:10: error: steps[1].name: found a text of 129 characters, expected a text of 1 to 128 characters\n", 0},
	{HEAD "steps:\n"
              "- {name: ALL, handler: {callable: c}}\n",
         "f:5:10: warning: steps[0].name: a step named ALL cannot be meant in environments, where ALL is every step\n",
         0},
};

START_TEST(row)
{
	check_row(&rows[_i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template fields");
	TCase *t = tcase_create("fields");
	tcase_add_loop_test(t, row, 0, sizeof rows / sizeof rows[0]);
	suite_add_tcase(s, t);
	return run_suite(s);
}
