/* Trace contexts from outside, and how a collector is written. */
#include <check.h>
#include <string.h>

#include "daemon/trace/collector_text.h"
#include "daemon/trace/context.h"

#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
static const uint8_t task[16] = {1, 0x90, 0xb5, 0xa0, 0x7c, 0x1e, 0x70, 0, 0x80, 0, 0, 0, 0xb0, 0, 0, 0};

static bool parse(const char *text, struct trace_context *ret)
{
	return traceparent_parse(text, strlen(text), ret);
}

START_TEST(what_is_a_traceparent)
{
	struct trace_context c;
	char text[TRACEPARENT_LEN + 1];
	ck_assert(parse(GOOD, &c) && c.given && c.sampled);
	traceparent_format(&c, &c.parent, text);
	ck_assert_str_eq(text, GOOD);
	ck_assert(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02", &c) && c.given && !c.sampled);
	ck_assert(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", &c) && c.sampled);
	ck_assert(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-and more", &c) && c.sampled);
}
END_TEST

static const char *const bad[] = {"",
                                  "00",
                                  "x",
                                  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
                                  (GOOD "0"),
                                  (GOOD "-"),
                                  (GOOD "-01"),
                                  (" " GOOD),
                                  "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                                  "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                  "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                  "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                                  "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                  "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
                                  "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
                                  "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x"};

START_TEST(what_is_none)
{
	struct trace_context c = {.given = true, .sampled = true};
	ck_assert_msg(!parse(bad[_i], &c), "%s", bad[_i]);
	ck_assert(!c.given && !c.sampled);
}
END_TEST

START_TEST(a_tasks_trace)
{
	struct trace_context none = {0}, given, c;
	char text[TRACE_ID_TEXT];
	c = trace_of_task(&none, task, 100);
	trace_id_format(c.trace, text);
	ck_assert_str_eq(text, "0190b5a07c1e700080000000b0000000");
	ck_assert(c.sampled && !c.given);
	ck_assert(!trace_of_task(&none, task, 0).sampled);
	ck_assert(parse(GOOD, &given));
	ck_assert(trace_of_task(&given, task, 0).sampled);
	ck_assert(memcmp(trace_of_task(&given, task, 0).trace, given.trace, 16) == 0);
}
END_TEST

START_TEST(a_share_of_the_tasks)
{
	struct trace_context none = {0};
	unsigned n = 0;
	for (unsigned i = 0; i < 10000; i++) {
		uint8_t uuid[16];
		memcpy(uuid, task, sizeof uuid);
		uuid[11] = (uint8_t)(i >> 8);
		uuid[12] = (uint8_t)i;
		n += trace_of_task(&none, uuid, 30).sampled;
	}
	ck_assert_msg(n > 2700 && n < 3300, "%u of 10000, not about 3000", n);
}
END_TEST

/* The same as tasker.span_id: SELECT encode(substring(sha256(uuid_send('0190b5a0-7c1e-7000-8000-0000b0000000') ||
 * int4send(7)) FOR 8), 'hex'). */
START_TEST(ids_of_spans)
{
	char text[SPAN_ID_TEXT];
	struct span_id id = span_id_of(task, 7), other = span_id_of(task, 8);
	span_id_format(&id, text);
	ck_assert_str_eq(text, "9a0b0f8cf46872c4");
	ck_assert(memcmp(id.b, other.b, sizeof id.b) != 0);
}
END_TEST

static const char *const urls[] = {"http://localhost",
                                   "http://localhost:4318",
                                   "https://collector.example/",
                                   "https://collector.example:443/v1/traces",
                                   "http://[::1]:4318/v1/traces",
                                   "http://10.0.0.1:1/a%20b"};
static const char *const no_urls[] = {"",
                                      "localhost:4318",
                                      "ftp://localhost",
                                      "http://",
                                      "http:///v1",
                                      "http://a b",
                                      "http://user@host",
                                      "http://user:secret@host/",
                                      "http://host:0",
                                      "http://host:65536",
                                      "http://host:",
                                      "http://host:12x",
                                      "http://host/?a=b",
                                      "http://host/#x",
                                      "http://[::1",
                                      "http://[]/",
                                      "HTTP://host",
                                      "http://host/\xc3\xa4",
                                      "http://host/a\nb",
                                      "http://host:000000080"};

START_TEST(urls_of_collectors)
{
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
		ck_assert_msg(collector_url_ok(urls[i]), "%s", urls[i]);
	for (size_t i = 0; i < sizeof no_urls / sizeof *no_urls; i++)
		ck_assert_msg(!collector_url_ok(no_urls[i]), "%s", no_urls[i]);
}
END_TEST

static const char *const no_headers[] = {"",       ",",          "a",     "a=",     "a=,b=c", "=b",
                                         "a b=c",  "a:b=c",      "a=%",   "a=%4",   "a=%zz",  "a=%0d%0aX=y",
                                         "a=\x01", "a=\xc3\xa4", "a=b,c", "a=b;c\n"};

START_TEST(headers_of_collectors)
{
	static const char *const expected[] = {"x-api-key: a,b", "Authorization: Bearer x=y", "z: 100%"};
	const char *text = "x-api-key=a%2Cb, Authorization=Bearer x=y ,,z=100%25";
	ck_assert(collector_headers_ok(text));
	for (size_t i = 0; i < 3; i++) {
		char *line = collector_next_header(&text);
		ck_assert_ptr_nonnull(line);
		ck_assert_str_eq(line, expected[i]);
		free(line);
	}
	ck_assert_ptr_null(collector_next_header(&text));
	for (size_t i = 0; i < sizeof no_headers / sizeof *no_headers; i++)
		ck_assert_msg(!collector_headers_ok(no_headers[i]), "%s", no_headers[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace");
	TCase *t = tcase_create("trace");
	tcase_add_test(t, what_is_a_traceparent);
	tcase_add_loop_test(t, what_is_none, 0, sizeof bad / sizeof *bad);
	tcase_add_test(t, a_tasks_trace);
	tcase_add_test(t, a_share_of_the_tasks);
	tcase_add_test(t, ids_of_spans);
	tcase_add_test(t, urls_of_collectors);
	tcase_add_test(t, headers_of_collectors);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
