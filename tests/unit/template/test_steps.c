/* What steps say about each other: names, dependencies, cycles, types, environments; and what the engine lacks. */
#include "tests/unit/template/util.h"

static const struct row rows[] = {
	{ONE "- {name: b, handler: {callable: c}}\n"
             "- {name: a, handler: {callable: c}}\n"
             "- {name: a, handler: {callable: c}}\n",
         "f:7:10: error: steps[2].name: the step name \"a\" is already taken by steps[0] at line 5\n"
         "f:8:10: error: steps[3].name: the step name \"a\" is already taken by steps[0] at line 5\n",
         0},
	{ONE "- {name: b, handler: {callable: c}, depends_on: [a]}\n", "", 0},
	{ONE "- {name: b, handler: {callable: c}, dependencies: [A]}\n",
         "f:6:52: error: steps[1].dependencies[0]: found the text \"A\", but no step has this name; did you mean \"a\"?\n",
         0},
	{HEAD "steps:\n"
              "- {name: check_fraud, handler: {callable: c}}\n"
              "- {name: b, handler: {callable: c}, depends_on: [chek_fraud, nothing_like_it]}\n",
         "f:6:50: error: steps[1].depends_on[0]: found the text \"chek_fraud\", but no step has this name; did you mean \"check_fraud\"?\n"
         "f:6:62: error: steps[1].depends_on[1]: found the text \"nothing_like_it\", but no step has this name\n",
         0},
	{ONE "- {name: b, handler: {callable: c}, depends_on: [a, a]}\n",
         "f:6:53: warning: steps[1].depends_on[1]: the text \"a\" is named twice; once is enough\n", 0},
	{ONE "- {name: b, handler: {callable: c}, depends_on: a}\n",
         "f:6:49: error: steps[1].depends_on: found the text \"a\", expected a list of texts: put it in brackets, [like_this]\n",
         0},
	{ONE "- {name: b, handler: {callable: c}, depends_on: [1, [a], null]}\n",
         "f:6:50: error: steps[1].depends_on[0]: found the number 1, expected a text: put it in quotes\n"
         "f:6:53: error: steps[1].depends_on[1]: found a list, expected a text\n"
         "f:6:58: error: steps[1].depends_on[2]: found nothing, expected a text\n",
         0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, depends_on: [a]}\n"
              "- {name: b, handler: {callable: c}}\n",
         "f:5:50: error: steps[0].depends_on[0]: the steps wait for each other: a -> a\n", 0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, depends_on: [b]}\n"
              "- {name: b, handler: {callable: c}, depends_on: [a]}\n",
         "f:5:50: error: steps[0].depends_on[0]: the steps wait for each other: a -> b -> a\n", 0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: h}, depends_on: [c]}\n"
              "- {name: b, handler: {callable: h}, depends_on: [a]}\n"
              "- {name: c, handler: {callable: h}, depends_on: [b]}\n"
              "- {name: d, handler: {callable: h}, depends_on: [a, e]}\n"
              "- {name: e, handler: {callable: h}, depends_on: [d]}\n"
              "- {name: f, handler: {callable: h}, depends_on: [e, f]}\n",
         "f:5:50: error: steps[0].depends_on[0]: the steps wait for each other: a -> b -> c -> a\n"
         "f:8:53: error: steps[3].depends_on[1]: the steps wait for each other: d -> e -> d\n"
         "f:10:53: error: steps[5].depends_on[1]: the steps wait for each other: f -> f\n",
         0},
	{HEAD "steps:\n"
              "- {name: s0, handler: {callable: h}, depends_on: [s14]}\n"
              "- {name: s1, handler: {callable: h}, depends_on: [s0]}\n"
              "- {name: s2, handler: {callable: h}, depends_on: [s1]}\n"
              "- {name: s3, handler: {callable: h}, depends_on: [s2]}\n"
              "- {name: s4, handler: {callable: h}, depends_on: [s3]}\n"
              "- {name: s5, handler: {callable: h}, depends_on: [s4]}\n"
              "- {name: s6, handler: {callable: h}, depends_on: [s5]}\n"
              "- {name: s7, handler: {callable: h}, depends_on: [s6]}\n"
              "- {name: s8, handler: {callable: h}, depends_on: [s7]}\n"
              "- {name: s9, handler: {callable: h}, depends_on: [s8]}\n"
              "- {name: s10, handler: {callable: h}, depends_on: [s9]}\n"
              "- {name: s11, handler: {callable: h}, depends_on: [s10]}\n"
              "- {name: s12, handler: {callable: h}, depends_on: [s11]}\n"
              "- {name: s13, handler: {callable: h}, depends_on: [s12]}\n"
              "- {name: s14, handler: {callable: h}, depends_on: [s13]}\n",
         "f:5:51: error: steps[0].depends_on[0]: the steps wait for each other: s0 -> s1 -> s2 -> s3 -> s4 -> s5 -> s6 -> s7 -> s8 -> s9 -> (4 more) -> s14 -> s0\n",
         0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, type: decision}\n"
              "- {name: b, handler: {callable: c}}\n",
         "f:5:43: error: steps[0].dependencies: a decision needs at least one dependency\n", 0},
	{ONE "- {name: b, handler: {callable: c}, type: decision, depends_on: [a]}\n", "", 0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, type: deferred_convergence}\n"
              "- {name: b, handler: {callable: c}}\n",
         "f:5:43: warning: steps[0].dependencies: a deferred_convergence without dependencies has nothing to wait for\n",
         0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, type: batchable}\n"
              "- {name: b, handler: {callable: c}}\n",
         "f:5:43: error: steps[0].type: a batchable step needs a step of type batch_worker that depends on it\n", 0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, type: batchable}\n"
              "- {name: b, handler: {callable: c}, type: batch_worker, depends_on: [a]}\n",
         "", 0},
	{HEAD
         "steps:\n"
         "- {name: a, handler: {callable: c}, type: batchable}\n"
         "- {name: b, handler: {callable: c}, type: batch_worker, depends_on: [a], batch_config: {batch_size: 100, parallelism: 4, cursor_field: id, worker_template: b, failure_strategy: isolate}}\n",
         "", DRAFT},
	{ONE "- {name: b, handler: {callable: c}, type: batch_worker, depends_on: [a]}\n",
         "f:6:43: error: steps[1].dependencies: a batch_worker needs a step of type batchable among its dependencies\n",
         0},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, batch_config: {batch_size: 10}}\n"
              "- {name: b, handler: {callable: c}}\n",
         "f:5:37: warning: steps[0].batch_config: has no meaning in a step of type standard: it belongs in one of type batchable or batch_worker\n",
         DRAFT},
	{HEAD
         "steps:\n"
         "- {name: a, handler: {callable: c}, type: batchable, batch_config: {batch_size: 0, parallelism: 1001, worker_template: a, failure_strategy: stop}}\n"
         "- {name: b, handler: {callable: c}, type: batch_worker, depends_on: [a]}\n",
         "f:5:81: error: steps[0].batch_config.batch_size: found the number 0, expected a whole number from 1 to 100000\n"
         "f:5:97: warning: steps[0].batch_config.parallelism: found the number 1001, recommended is a whole number from 1 to 1000: used as written\n"
         "f:5:120: error: steps[0].batch_config.worker_template: found the text \"a\", which is a step of type batchable, expected one of type batch_worker\n"
         "f:5:141: error: steps[0].batch_config.failure_strategy: found the text \"stop\", expected one of continue_on_failure, fail_fast, isolate\n",
         DRAFT},
	{HEAD "steps:\n"
              "- {name: a, handler: {callable: c}, type: batchable, batch_config: {worker_template: c}}\n"
              "- {name: b, handler: {callable: c}, type: batch_worker, depends_on: [a]}\n",
         "f:5:86: error: steps[0].batch_config.worker_template: found the text \"c\", but no step has this name\n",
         DRAFT},
	{HEAD "steps:\n"
              "- {name: a, type: batchable, handler: {callable: c, initialization: {worker_template_name: bb}}}\n"
              "- {name: b, type: batch_worker, handler: {callable: c}, depends_on: [a]}\n",
         "f:5:92: error: steps[0].handler.initialization.worker_template_name: found the text \"bb\", but no step has this name; did you mean \"b\"?\n",
         DRAFT},
	{ONE "input_schema: {type: object}\n"
             "lifecycle: {max_duration_minutes: 60}\n",
         "", 0},
	{ONE "input_schema: {type: objekt, properties: {a: {minLength: -1}, 'b.c': {allOf: [5]}}, x-a: 1}\n",
         "f:6:16: error: input_schema.type: expected a type: null, boolean, number, integer, string, array or object\n"
         "f:6:47: error: input_schema.properties.a.minLength: expected a whole number, at least 0\n"
         "f:6:79: error: input_schema.properties[\"b.c\"].allOf[0]: expected a schema: a map, or true or false\n",
         0},
	{ONE "input_schema: {requird: [a], $ref: 'http://other.example/'}\n",
         "f:6:16: warning: input_schema.requird: unknown keyword: it checks nothing; did you mean required?\n"
         "f:6:30: error: input_schema[\"$ref\"]: refers to another document, \"http://other.example/\": only references within this schema are supported\n",
         0},
	{ONE "input_schema: {type: objekt}\n",
         "f:6:16: warning: input_schema.type: expected a type: null, boolean, number, integer, string, array or object\n",
         DRAFT},
	{ONE "input_schema: {requird: [a]}\n",
         "f:6:16: error: input_schema.requird: unknown keyword: it checks nothing; did you mean required?\n", STRICT},
	{ONE "input_schema: {type: *gone, pattern: '('}\n",
         "f:6:22: error: input_schema.type: aliases (*gone) are not supported: write the value out\n", 0},
	{ONE "input_schema: {}\n"
             "lifecycle: {}\n"
             "domain_events: []\n",
         "", 0},
	{ONE "input_schema: 5\n",
         "f:6:15: error: input_schema: found the number 5, expected a JSON schema (a map, or true or false)\n", 0},
	{OPEN "  result_schema: true\n"
              "  composition: {steps: []}\n"
              "  publishes_events: []\n"
              "  batch_config:\n",
         "f:9:3: error: steps[0].composition: composition is not supported: what it means is nowhere laid down, so it cannot be run: write its steps out\n",
         0},
	{OPEN "  publishes_events: [{name: a.b, schema: {}}]\n", "", 0},
	{OPEN
         "  publishes_events: [{name: Bad, condition: sometimes, delivery_mode: slow, publisher: 'a..b'}, {name: a.b, schema: {}, publisher: 'Depot::ManifestPublisher'}, {name: a.b, schema: {}, publisher: depot.events}]\n",
         "f:8:22: error: steps[0].publishes_events[0].schema: missing, expected a JSON schema (a map, or true or false)\n"
         "f:8:29: warning: steps[0].publishes_events[0].name: found the text \"Bad\", recommended are lower-case words joined by at least one dot, like payment.charged: used as written\n"
         "f:8:45: error: steps[0].publishes_events[0].condition: found the text \"sometimes\", expected one of success, failure, retryable_failure, permanent_failure, always\n"
         "f:8:71: error: steps[0].publishes_events[0].delivery_mode: found the text \"slow\", expected one of durable, fast, broadcast\n"
         "f:8:88: error: steps[0].publishes_events[0].publisher: found the text \"a..b\", expected names joined by '.' or '::', like Depot::ManifestPublisher\n"
         "f:8:168: warning: steps[0].publishes_events[2].name: the text \"a.b\" is declared at line 8 already: it is published for each\n",
         0},
	{OPEN
         "  publishes_events: [{name: a.b, schema: {}, condition: success}, {name: a.b, schema: {}, condition: failure}]\n"
         "domain_events: [{name: a.b}, {name: c.d}, {name: a.b}]\n",
         "f:9:50: warning: domain_events[2].name: the text \"a.b\" is declared at line 9 already\n", DRAFT},
	{ONE
         "lifecycle: {max_duration_minutes: 43201, max_waiting_for_retry_minutes: 0, staleness_action: drop, auto_fail_on_timeout: 1}\n",
         "f:6:35: warning: lifecycle.max_duration_minutes: found the number 43201, recommended is a whole number from 1 to 43200: used as written\n"
         "f:6:73: error: lifecycle.max_waiting_for_retry_minutes: found the number 0, expected a whole number from 1 to 10080\n"
         "f:6:94: error: lifecycle.staleness_action: found the text \"drop\", expected one of dlq, error, none\n"
         "f:6:122: error: lifecycle.auto_fail_on_timeout: found the number 1, expected true or false\n",
         DRAFT},
	{ONE "environments:\n"
             "  test:\n"
             "    steps:\n"
             "    - {name: ALL, timeout_seconds: 5, retry: {max_attempts: 1}}\n"
             "    - {name: a, handler: {initialization: {x: 1}}}\n"
             "  empty:\n"
             "  other: {}\n",
         "", 0},
	{ONE "environments: {test: {steps: [{name: aa}, {name: a}, {name: a}, {name: ALL}, {name: ALL}]}}\n",
         "f:6:38: error: environments.test.steps[0].name: found the text \"aa\", but no step has this name; did you mean \"a\"?\n"
         "f:6:61: error: environments.test.steps[2].name: the text \"a\" has an entry in this environment already\n"
         "f:6:85: error: environments.test.steps[4].name: the text \"ALL\" has an entry in this environment already\n",
         0},
	{ONE
         "environments: {test: {steps: [{name: a, type: standard, handler: {callable: d}, retry: {max_attempts: 101, backoff_base_ms: 5000, max_backoff_ms: 2000}, timeout_seconds: x}]}}\n",
         "f:6:41: warning: environments.test.steps[0].type: has no meaning here and is left out: it belongs in a step\n"
         "f:6:67: warning: environments.test.steps[0].handler.callable: has no meaning here and is left out: it belongs in a step's handler\n"
         "f:6:103: warning: environments.test.steps[0].retry.max_attempts: found the number 101, recommended is a whole number from 1 to 100: used as written\n"
         "f:6:125: warning: environments.test.steps[0].retry.backoff_base_ms: backoff_base_ms is 5000 and max_backoff_ms 2000: every wait is 2000 ms\n"
         "f:6:171: error: environments.test.steps[0].timeout_seconds: found the text \"x\", expected a whole number from 1 to 86400\n",
         0},
	{ONE "environments: {test: {step: []}, prod: 5, 'odd name': {steps: [5]}}\n",
         "f:6:23: warning: environments.test.step: unknown key, left out; did you mean steps?\n"
         "f:6:40: error: environments.prod: found the number 5, expected a map\n"
         "f:6:64: error: environments[\"odd name\"].steps[0]: found the number 5, expected a map\n",
         0},
	{ONE "environments: [test]\n", "f:6:15: error: environments: found a list, expected a map of names to maps\n",
         0},
	{"namespace_name: 1x\n"
         "version: one\n"
         "steps:\n"
         "- handler: {callable: c}\n"
         "- name: b\n"
         "  depends_on: [a]\n"
         "  retry: {max_attempts: many}\n"
         "surprise: 1\n",
         "f:1:1: error: name: missing, expected a text of 1 to 255 characters\n"
         "f:1:17: error: namespace_name: found the text \"1x\", expected 1 to 29 letters, digits and underscores, the first not a digit\n"
         "f:2:10: error: version: found the text \"one\", expected a semantic version like 1.4.0 or 2.0.0-rc.1\n"
         "f:4:3: error: steps[0].name: missing, expected a text of 1 to 128 characters\n"
         "f:5:3: error: steps[1].handler: missing, expected a map\n"
         "f:6:16: error: steps[1].depends_on[0]: found the text \"a\", but no step has this name\n"
         "f:7:25: error: steps[1].retry.max_attempts: found the text \"many\", expected a whole number from 1 to 100\n"
         "f:8:1: warning: surprise: unknown key, left out (keys that begin with x- are free)\n",
         0},
};

START_TEST(row)
{
	check_row(&rows[_i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template steps");
	TCase *t = tcase_create("steps");
	tcase_add_loop_test(t, row, 0, sizeof rows / sizeof rows[0]);
	suite_add_tcase(s, t);
	return run_suite(s);
}
