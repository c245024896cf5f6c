/* The C client library against a scripted daemon: connections, requests, and everything that can go wrong
 * with them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/taskerctl/fake_daemon.h"

static struct fake fake;

static tasker *open_ok(const struct act *script)
{
	tasker *t = NULL;
	struct tasker_error err = {0};
	fake_start(&fake, script);
	int rc =
	    tasker_connect(&t, &(struct tasker_options){.socket_path = fake.path, .client = "test/1"}, &err);
	ck_assert_msg(rc == 0, "connect: %s %s", err.code, err.message);
	return t;
}

static void finish(tasker *t)
{
	tasker_close(t);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
	fake_done(&fake);
}

static void ck_text(const tasker_value *v, const char *want)
{
	char got[200];
	ck_assert(v != NULL);
	tasker_copy(v, got, sizeof got);
	ck_assert_str_eq(got, want);
}

START_TEST(the_socket_is_looked_for_in_order)
{
	char dir[] = "/tmp/tasker-run-XXXXXX", path[256], want[128];
	ck_assert_ptr_nonnull(mkdtemp(dir));
	unsetenv("TASKERD_SOCKET");
	setenv("XDG_RUNTIME_DIR", dir, 1);
	ck_assert_int_eq(tasker_default_socket(path, sizeof path), 0);
	ck_assert_str_eq(path, "/run/taskerd/taskerd.sock");

	snprintf(want, sizeof want, "%s/taskerd", dir);
	ck_assert_int_eq(mkdir(want, 0700), 0);
	snprintf(want, sizeof want, "%s/taskerd/taskerd.sock", dir);
	FILE *f = fopen(want, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	ck_assert_int_eq(tasker_default_socket(path, sizeof path), 0);
	ck_assert_str_eq(path, want);

	setenv("TASKERD_SOCKET", "/elsewhere", 1);
	ck_assert_int_eq(tasker_default_socket(path, sizeof path), 0);
	ck_assert_str_eq(path, "/elsewhere");
	ck_assert_int_eq(tasker_default_socket(path, 5), -ENAMETOOLONG);
	unlink(want);
	snprintf(want, sizeof want, "%s/taskerd", dir);
	rmdir(want);
	rmdir(dir);
}
END_TEST

START_TEST(nobody_there)
{
	tasker *t = NULL;
	struct tasker_error err;
	ck_assert_int_eq(tasker_connect(&t, &(struct tasker_options){.socket_path = "/nonexistent/s"}, &err),
	                 -ENOENT);
	ck_assert_str_eq(err.code, "unreachable");
	ck_assert_ptr_nonnull(strstr(err.message, "/nonexistent/s"));

	static const struct act none[] = {{ACT_END, NULL, 0}};
	fake_start(&fake, none);
	fake_join(&fake);
	close(fake.listener);
	ck_assert_int_eq(tasker_connect(&t, &(struct tasker_options){.socket_path = fake.path}, &err),
	                 -ECONNREFUSED);
	fake_done(&fake);

	char longer[300];
	memset(longer, 'a', sizeof longer);
	longer[sizeof longer - 1] = '\0';
	ck_assert_int_eq(tasker_connect(&t, &(struct tasker_options){.socket_path = longer}, &err),
	                 -ENAMETOOLONG);
	ck_assert_ptr_null(t);
}
END_TEST

START_TEST(the_handshake_says_who_we_are)
{
	static const struct act script[] = {ACTS_GREET, {ACT_WAIT_CLOSE, NULL, 0}, {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	ck_assert_str_eq(tasker_server(t), "taskerd/9.9.9");
	ck_assert_str_eq(tasker_node(t), "n1");
	ck_assert_uint_eq(tasker_max_bulk(t), 100);
	ck_assert_uint_eq(tasker_max_frame(t), 65536);
	tasker_close(t);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
	const tasker_value *hello = fake_params(&fake, 0);
	ck_text(tasker_get(hello, "client"), "test/1");
	ck_text(tasker_get(hello, "language"), "c");
	ck_assert_int_eq(tasker_int(tasker_item(tasker_get(hello, "protocol"), 0), -1), 1);
	ck_assert_int_eq(tasker_int(tasker_get(hello, "pid"), -1), getpid());
	ck_assert_ptr_null(tasker_get(hello, "worker"));
	fake_done(&fake);
}
END_TEST

START_TEST(another_version_is_refused)
{
	static const struct act script[] = {
	    {ACT_ACCEPT, NULL, 0},
	    {ACT_EXPECT, "hello", 0},
	    {ACT_REPLY_ERROR, "{\"code\":\"unsupported_version\",\"message\":\"too new\"}", 0},
	    {ACT_CLOSE, NULL, 0},
	    {ACT_END, NULL, 0}};
	tasker *t = NULL;
	struct tasker_error err;
	fake_start(&fake, script);
	ck_assert_int_eq(tasker_connect(&t, &(struct tasker_options){.socket_path = fake.path}, &err),
	                 -EREMOTEIO);
	ck_assert_str_eq(err.code, "unsupported_version");
	ck_assert_str_eq(err.message, "too new");
	ck_assert_ptr_null(t);
	finish(NULL);
}
END_TEST

START_TEST(a_silent_daemon_times_out)
{
	static const struct act script[] = {
	    {ACT_ACCEPT, NULL, 0}, {ACT_EXPECT, "hello", 0}, {ACT_WAIT_CLOSE, NULL, 0}, {ACT_END, NULL, 0}};
	tasker *t = NULL;
	struct tasker_error err;
	fake_start(&fake, script);
	ck_assert_int_eq(
	    tasker_connect(&t, &(struct tasker_options){.socket_path = fake.path, .timeout_ms = 50}, &err),
	    -ETIMEDOUT);
	ck_assert_str_eq(err.code, "timeout");
	finish(NULL);
}
END_TEST

START_TEST(calls_carry_json_both_ways)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXPECT, "task.get", 0},
	    {ACT_REPLY, "{\"n\":9007199254740993,\"x\":[1.5,\"\\u00e9\",null]}", 0},
	    {ACT_EXPECT, "ping", 0},
	    {ACT_REPLY, "{}", 0},
	    {ACT_WAIT_CLOSE, NULL, 0},
	    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err = {0};
	char *json = NULL;
	ck_assert_int_eq(tasker_call_json(t, "task.get", "{\"task_uuid\":\"u\"}", 5000, &json, &err), 0);
	ck_assert_str_eq(json, "{\"n\":9007199254740993,\"x\":[1.5,\"\xc3\xa9\",null]}");
	free(json);
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), 0);
	ck_assert_str_eq(json, "{}");
	free(json);
	tasker_close(t);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
	ck_text(tasker_get(fake_params(&fake, 1), "task_uuid"), "u");
	ck_assert_uint_eq(tasker_count(fake_params(&fake, 2)), 0);
	fake_done(&fake);
}
END_TEST

START_TEST(an_error_answer_keeps_its_parts)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXPECT, "template.apply", 0},
	    {ACT_REPLY_ERROR,
	     "{\"code\":\"invalid_template\",\"message\":\"no\",\"path\":\"source\",\"retry_after_ms\":70,"
	     "\"details\":{\"findings\":[1]}}",
	     0},
	    {ACT_EXPECT, "ping", 0},
	    {ACT_REPLY_ERROR, "{\"code\":\"internal\",\"message\":\"no\"}", 0},
	    {ACT_WAIT_CLOSE, NULL, 0},
	    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err = {0};
	char *json = NULL;
	ck_assert_int_eq(tasker_call_json(t, "template.apply", "{}", 5000, &json, &err), -EREMOTEIO);
	ck_assert_str_eq(err.code, "invalid_template");
	ck_assert_str_eq(err.path, "source");
	ck_assert_uint_eq(err.retry_after_ms, 70);
	ck_assert_str_eq(tasker_error_details(t), "{\"findings\":[1]}");
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), -EREMOTEIO);
	ck_assert_ptr_null(tasker_error_details(t));
	finish(t);
}
END_TEST

static char order[8];

static void note_order(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	const char *name = arg;
	(void)result;
	strncat(order, err ? "!" : name, sizeof order - strlen(order) - 1);
}

START_TEST(answers_may_come_in_any_order)
{
	static const struct act script[] = {
	    ACTS_GREET,           {ACT_EXPECT, "task.wait", 0}, {ACT_EXPECT, "ping", 0},
	    {ACT_REPLY, "{}", 0}, {ACT_REPLY_FIRST, "{}", 0},   {ACT_WAIT_CLOSE, NULL, 0},
	    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	char a[] = "a", b[] = "b";
	order[0] = '\0';
	ck_assert_int_eq(tasker_send_json(t, "task.wait", NULL, note_order, a, NULL), 0);
	ck_assert_int_eq(tasker_send_json(t, "ping", NULL, note_order, b, NULL), 0);
	ck_assert_uint_eq(tasker_open_requests(t), 2);
	while (tasker_open_requests(t) > 0)
		ck_assert_int_ge(tasker_process(t, 5000000, NULL), 0);
	ck_assert_str_eq(order, "ba");
	finish(t);
}
END_TEST

START_TEST(a_late_answer_disturbs_nobody)
{
	static const struct act script[] = {ACTS_GREET,
	                                    {ACT_EXPECT, "task.wait", 0},
	                                    {ACT_EXPECT, "ping", 0},
	                                    {ACT_REPLY_FIRST, "{\"late\":true}", 0},
	                                    {ACT_REPLY, "{\"late\":false}", 0},
	                                    {ACT_WAIT_CLOSE, NULL, 0},
	                                    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err;
	char *json = NULL;
	ck_assert_int_eq(tasker_call_json(t, "task.wait", NULL, 30, &json, &err), -ETIMEDOUT);
	ck_assert_str_eq(err.code, "timeout");
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), 0);
	ck_assert_str_eq(json, "{\"late\":false}");
	free(json);
	finish(t);
}
END_TEST

START_TEST(a_lost_connection_answers_everything_once)
{
	static const struct act script[] = {ACTS_GREET,
	                                    {ACT_EXPECT, "task.wait", 0},
	                                    {ACT_EXPECT, "ping", 0},
	                                    {ACT_CLOSE, NULL, 0},
	                                    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err;
	char *json = NULL, a[] = "a";
	order[0] = '\0';
	ck_assert_int_eq(tasker_send_json(t, "task.wait", NULL, note_order, a, NULL), 0);
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), -ECONNRESET);
	ck_assert_str_eq(err.code, "connection_lost");
	ck_assert_str_eq(order, "!");
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), -ECONNRESET);
	ck_assert_int_lt(tasker_process(t, 0, &err), 0);
	finish(t);
	ck_assert_str_eq(order, "!");
}
END_TEST

START_TEST(the_daemons_last_words_are_the_reason)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXPECT, "ping", 0},
	    {ACT_NOTE, "error {\"code\":\"protocol_error\",\"message\":\"bad frame\"}", 0},
	    {ACT_CLOSE, NULL, 0},
	    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err;
	char *json = NULL;
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), -EPROTO);
	ck_assert_str_eq(err.code, "protocol_error");
	ck_assert_str_eq(err.message, "bad frame");
	finish(t);
}
END_TEST

static const struct {
	const char *what, *bytes;
	size_t n;
} broken[] = {
    {"impossible length", "\xff\xff\xff\xff\x00", 5},
    {"no length", "\x00\x00\x00\x00", 4},
    {"array without its elements", "\x00\x00\x00\x05\xdd\xff\xff\xff\xff", 9},
    {"bytes after the value", "\x00\x00\x00\x02\xc0\xc0", 6},
    {"not an envelope", "\x00\x00\x00\x01\xc0", 5},
    {"empty envelope", "\x00\x00\x00\x01\x90", 5},
    {"a request from the daemon", "\x00\x00\x00\x05\x94\x00\x01\xa0\x80", 9},
    {"a response of three", "\x00\x00\x00\x04\x93\x01\x01\xc0", 8},
    {"a response to a string", "\x00\x00\x00\x06\x94\x01\xa1\x41\xc0\x80", 10},
    {"a notification by number", "\x00\x00\x00\x04\x93\x02\x01\x80", 8},
};

START_TEST(broken_bytes_end_the_connection)
{
	struct act script[] = {ACTS_GREET,
	                       {ACT_EXPECT, "ping", 0},
	                       {ACT_RAW, NULL, 0},
	                       {ACT_WAIT_CLOSE, NULL, 0},
	                       {ACT_END, NULL, 0}};
	script[4].text = broken[_i].bytes;
	script[4].n = broken[_i].n;
	tasker *t = open_ok(script);
	struct tasker_error err;
	char *json = NULL;
	int rc = tasker_call_json(t, "ping", NULL, 5000, &json, &err);
	ck_assert_msg(rc == -EPROTO, "%s: %d", broken[_i].what, rc);
	ck_assert_str_eq(err.code, "protocol_error");
	finish(t);
}
END_TEST

START_TEST(what_cannot_be_sent_is_refused_here)
{
	static const struct act script[] = {ACTS_GREET,
	                                    {ACT_EXPECT, "ping", 0},
	                                    {ACT_REPLY, "{}", 0},
	                                    {ACT_WAIT_CLOSE, NULL, 0},
	                                    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	struct tasker_error err;
	char *json = NULL, *big = malloc(70001);
	ck_assert_ptr_nonnull(big);
	ck_assert_int_eq(tasker_call_json(t, "x", "{\"a\":", 5000, &json, &err), -EINVAL);
	ck_assert_str_eq(err.code, "invalid_value");
	memset(big, ' ', 70000);
	memcpy(big, "[\"", 2);
	memset(big + 2, 'x', 69990);
	memcpy(big + 69992, "\"]", 3);
	ck_assert_int_eq(tasker_call_json(t, "x", big, 5000, &json, &err), -EMSGSIZE);
	ck_assert_str_eq(err.code, "too_large");
	free(big);
	/* 10,001 items, in fewer bytes than a frame may have */
	big = malloc(30000);
	ck_assert_ptr_nonnull(big);
	big[0] = '[';
	for (size_t i = 0; i < 10001; i++)
		memcpy(big + 1 + 2 * i, "1,", 2);
	memcpy(big + 2 * 10001, "]", 2);
	ck_assert_int_lt(tasker_call_json(t, "x", big, 5000, &json, &err), 0);
	ck_assert_str_eq(err.code, "too_large");
	free(big);
	ck_assert_int_lt(tasker_notify(t, "x", "\xc1", 1, &err), 0);
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 5000, &json, &err), 0);
	free(json);
	finish(t);
}
END_TEST

static void try_to_process(void *arg, const char *method, const tasker_value *params)
{
	tasker *t = arg;
	struct tasker_error err;
	char *json = NULL;
	(void)params;
	ck_assert_str_eq(method, "task.event");
	ck_assert_int_eq(tasker_process(t, 0, &err), -EINVAL);
	ck_assert_int_eq(tasker_call_json(t, "ping", NULL, 10, &json, &err), -EINVAL);
	ck_assert_str_eq(err.code, "bad_call");
	ck_assert_int_eq(tasker_notify_json(t, "heartbeat", NULL, &err), 0);
	order[0] = 'n';
}

START_TEST(notifications_reach_the_callback)
{
	static const struct act script[] = {ACTS_GREET,
	                                    {ACT_EXPECT, "ping", 0},
	                                    {ACT_NOTE, "task.event {\"task_uuid\":\"u\",\"events\":[]}", 0},
	                                    {ACT_WAIT_CLOSE, NULL, 0},
	                                    {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	order[0] = order[1] = '\0';
	tasker_on_notification(t, try_to_process, t);
	ck_assert_int_eq(tasker_send_json(t, "ping", NULL, NULL, NULL, NULL), 0);
	while (!order[0])
		ck_assert_int_ge(tasker_process(t, 5000000, NULL), 0);
	finish(t);
}
END_TEST

START_TEST(closing_answers_what_is_open)
{
	static const struct act script[] = {ACTS_GREET, {ACT_WAIT_CLOSE, NULL, 0}, {ACT_END, NULL, 0}};
	tasker *t = open_ok(script);
	char a[] = "a";
	order[0] = '\0';
	ck_assert_int_eq(tasker_send_json(t, "ping", NULL, note_order, a, NULL), 0);
	finish(t);
	ck_assert_str_eq(order, "!");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client");
	TCase *c = tcase_create("connection");
	tcase_set_timeout(c, 30);
	tcase_add_test(c, the_socket_is_looked_for_in_order);
	tcase_add_test(c, nobody_there);
	tcase_add_test(c, the_handshake_says_who_we_are);
	tcase_add_test(c, another_version_is_refused);
	tcase_add_test(c, a_silent_daemon_times_out);
	suite_add_tcase(s, c);
	c = tcase_create("requests");
	tcase_set_timeout(c, 30);
	tcase_add_test(c, calls_carry_json_both_ways);
	tcase_add_test(c, an_error_answer_keeps_its_parts);
	tcase_add_test(c, answers_may_come_in_any_order);
	tcase_add_test(c, a_late_answer_disturbs_nobody);
	tcase_add_test(c, a_lost_connection_answers_everything_once);
	tcase_add_test(c, the_daemons_last_words_are_the_reason);
	tcase_add_loop_test(c, broken_bytes_end_the_connection, 0, (int)(sizeof broken / sizeof *broken));
	tcase_add_test(c, what_cannot_be_sent_is_refused_here);
	tcase_add_test(c, notifications_reach_the_callback);
	tcase_add_test(c, closing_answers_what_is_open);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
