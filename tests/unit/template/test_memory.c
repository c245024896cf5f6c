/* Each allocation fails once: every operation then ends in -ENOMEM, leaks nothing (the sanitizer builds see
 * to that), and works the next time. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "tests/unit/template/util.h"

static long left = -1; /* allocations that still succeed; negative: all */
static bool failed;

static bool fails(void)
{
	if (left < 0)
		return false;
	if (left-- > 0)
		return false;
	failed = true;
	return true;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

int __real_vasprintf(char **ret, const char *fmt, va_list ap);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap)
{
	return fails() ? -1 : __real_vasprintf(ret, fmt, ap);
}

int __real___vasprintf_chk(char **ret, int flag, const char *fmt, va_list ap);
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list ap);
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list ap)
{
	return fails() ? -1 : __real___vasprintf_chk(ret, flag, fmt, ap);
}

static const char good[] =
    HEAD "x-a: {b: [1, 2.5, text]}\n"
         "input_schema: {$ref: '#/$defs/a', $defs: {a: {$anchor: n, properties: {b: {pattern: '^(?=a)[b-c]{2,}|d$'}},\n"
         "  patternProperties: {x: {enum: [1, 2]}}, colour: 1}}}\nsteps:\n"
         "- {name: a, handler: {callable: c, initialization: {k: {l: m}}}, retry: {max_attempts: 2}}\n"
         "- {name: b, handler: {callable: c}, depends_on: [a, a]}\n"
         "- {name: c, handler: {callable: c}, depends_on: [a, b], colour: red}\n"
         "environments: {e: {steps: [{name: ALL, timeout_seconds: 3, retry: {backoff: none},\n"
         "  handler: {initialization: {n: 1}}}]}}\n";
static const char bad[] = HEAD "x-a: *gone\nx-a: &here 1\n"
                               "input_schema: {$ref: '#/a', pattern: '(', type: 1}\nsteps:\n"
                               "- {name: a, handler: {callable: c}, depends_on: [b, c]}\n- {name: b, "
                               "depends_on: [a], retry: {limit: 3}}\n"
                               "- {name: a, timeout_seconds: many}\n";
static const char json[] = "{\"name\": \"t\", \"namespace_name\": \"n\", \"version\": \"1.0.0\", \"steps\": "
                           "[{\"name\": \"\\u0061\", \"handler\": {\"callable\": \"c\"}}]}";

static int read_it(const char *source)
{
	struct template *t = NULL;
	struct findings f = {0};
	struct template_opts opts = {.environment = "e"};
	int r = template_parse(source, strlen(source), &opts, &t, &f);
	left = -1; /* Check allocates, too */
	ck_assert_int_eq(r == 0, t != NULL);
	findings_done(&f);
	template_free(t);
	return r;
}

static int use_it(const struct template *t)
{
	static const struct graph_state states[] = {{"complete", "x"}, {"error", "y"}, {NULL, NULL}};
	struct buf out;
	buf_init(&out, 0);
	int r = template_to_json(t, &out);
	static const enum graph_format formats[] = {GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT};
	for (size_t i = 0; r == 0 && i < 3; i++)
		r = template_graph(t, formats[i], states, true, &out);
	buf_done(&out);
	return r;
}

static const struct {
	const char *source;
	int result;
} sources[] = {{good, 0}, {bad, -EINVAL}, {json, 0}};

START_TEST(reading)
{
	long n = 0;
	do {
		left = n++;
		failed = false;
		int r = read_it(sources[_i].source);
		ck_assert_int_eq(r, failed ? -ENOMEM : sources[_i].result);
	} while (failed);
	ck_assert_int_gt(n, 20);
}
END_TEST

START_TEST(using)
{
	struct template *t = parse_good(good, &(struct template_opts){.environment = "e"});
	long n = 0;
	do {
		left = n++;
		failed = false;
		int r = use_it(t);
		left = -1;
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
	} while (failed);
	ck_assert_int_gt(n, 5);
	template_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template memory");
	TCase *t = tcase_create("memory");
	tcase_add_loop_test(t, reading, 0, sizeof sources / sizeof sources[0]);
	tcase_add_test(t, using);
	suite_add_tcase(s, t);
	return run_suite(s);
}
