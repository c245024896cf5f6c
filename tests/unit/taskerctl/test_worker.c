/* The worker of the C client library against a scripted daemon. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/c/worker.h"
#include "tests/unit/taskerctl/fake_daemon.h"

#define END                                                                                                  \
	{                                                                                                    \
		ACT_END, NULL, 0                                                                             \
	}
/* What a worker does to stop, when it holds nothing. */
#define ACTS_DRAIN                                                                                           \
	{ACT_EXPECT, "worker.update", 0}, {ACT_EXPECT, "goodbye", 0},                                        \
	{                                                                                                    \
		ACT_WAIT_CLOSE, NULL, 0                                                                      \
	}
#define ACK(attempt, uuid_end, status)                                                                       \
	"{\"step_uuid\":\"00000000-0000-7000-8000-00000000000" uuid_end "\",\"attempt\":" attempt            \
	",\"status\":\"" status "\"}"

static struct fake fake;
static char last_log[700];
static tasker_step *deferred[8];
static size_t ndeferred;
static char cancel_reason[32];

static void keep_log(void *arg, const char *line)
{
	(void)arg;
	snprintf(last_log, sizeof last_log, "%s", line);
}

static enum tasker_verdict noop(void *arg, tasker_step *s)
{
	(void)arg;
	(void)s;
	return TASKER_DONE;
}

static enum tasker_verdict doubles(void *arg, tasker_step *s)
{
	char json[64];
	(void)arg;
	int64_t n = tasker_int(tasker_get(tasker_get(tasker_step_value(s), "context"), "number"), -1);
	snprintf(json, sizeof json, "{\"twice\":%lld}", (long long)n * 2);
	ck_assert_int_eq(tasker_step_succeed(s, "{", NULL), -EINVAL);
	ck_assert_int_eq(tasker_step_succeed(s, json, NULL), 0);
	ck_assert_int_eq(tasker_step_metadata(s, "{\"m\":1}", NULL), 0);
	return TASKER_DONE;
}

static enum tasker_verdict fails(void *arg, tasker_step *s)
{
	(void)arg;
	const struct tasker_failure f = {.message = "no money",
	                                 .error_type = "PaymentError",
	                                 .error_code = "E7",
	                                 .permanent = true,
	                                 .retry_after_ms = 250,
	                                 .status_code = 402,
	                                 .context = "{\"a\":[1]}"};
	const struct tasker_failure bad = {.message = "\xff\xfe"};
	ck_assert_int_eq(tasker_step_fail(s, &bad, NULL), 0); /* mended */
	ck_assert_int_eq(tasker_step_fail(s, &f, NULL), 0);
	return TASKER_DONE;
}

static enum tasker_verdict defers(void *arg, tasker_step *s)
{
	(void)arg;
	deferred[ndeferred++] = s;
	ck_assert_int_eq(tasker_step_heartbeat(s, NULL, NULL), 0);
	return TASKER_DEFERRED;
}

static enum tasker_verdict makes_too_much(void *arg, tasker_step *s)
{
	(void)arg;
	char *json = malloc(65532);
	ck_assert_ptr_nonnull(json);
	memset(json, 'x', 65531);
	json[0] = json[65530] = '"';
	json[65531] = '\0';
	ck_assert_int_eq(tasker_step_succeed(s, json, NULL), 0);
	free(json);
	return TASKER_DONE;
}

static enum tasker_verdict asks_for_dependencies(void *arg, tasker_step *s)
{
	struct tasker_error err;
	char *json = NULL;
	(void)arg;
	ck_assert_int_eq(tasker_step_dependency(s, "first", &json, &err), 0);
	ck_assert_str_eq(json, "null");
	free(json);
	ck_assert_int_eq(tasker_step_dependency(s, "second", &json, &err), 0);
	ck_assert_str_eq(json, "{\"v\":2}");
	free(json);
	ck_assert_int_eq(tasker_step_dependency(s, "third", &json, &err), -ENOENT);
	ck_assert_int_eq(tasker_step_heartbeat(s, "{\"done\":1}", &err), 0);
	ck_assert_int_eq(tasker_step_log(s, "info", "halfway", &err), 0);
	ck_assert_int_eq(tasker_step_finish(s, &err), -EINVAL);
	return TASKER_DONE;
}

static void on_cancel(void *arg, tasker_step *s, const char *reason)
{
	(void)arg;
	ck_assert(tasker_step_cancelled(s));
	snprintf(cancel_reason, sizeof cancel_reason, "%s", reason);
}

static tasker_worker *begin(const struct act *script)
{
	tasker_worker *w = NULL;
	static const char *const namespaces[] = {"shop", "bench", NULL};
	fake_start(&fake, script);
	const struct tasker_worker_options o = {.socket_path = fake.path,
	                                        .name = "w",
	                                        .namespaces = namespaces,
	                                        .max_concurrency = 7,
	                                        .log = keep_log};
	ck_assert_int_eq(tasker_worker_new(&w, &o, NULL), 0);
	ck_assert_int_eq(tasker_worker_add(w, "noop", noop, NULL), 0);
	ck_assert_int_eq(tasker_worker_add(w, "noop", noop, NULL), -EEXIST);
	tasker_worker_add(w, "doubles", doubles, NULL);
	tasker_worker_add(w, "fails", fails, NULL);
	tasker_worker_add(w, "defers", defers, NULL);
	tasker_worker_add(w, "makes_too_much", makes_too_much, NULL);
	tasker_worker_add(w, "asks", asks_for_dependencies, NULL);
	tasker_worker_on_cancel(w, on_cancel, NULL);
	return w;
}

/* Polls as long as it takes: what is to be sent must go out before that, or the daemon loses patience. */
static void poll_until(tasker_worker *w, bool (*condition)(const struct tasker_worker_stats *))
{
	struct tasker_worker_stats st;
	struct tasker_error err = {0};
	for (tasker_worker_stats(w, &st); !condition(&st); tasker_worker_stats(w, &st)) {
		int rc = tasker_worker_poll(w, -1, &err);
		ck_assert_msg(rc == 1, "poll: %d %s", rc, err.message);
	}
}

static bool all_acknowledged(const struct tasker_worker_stats *s)
{
	return s->steps > 0 && s->held == 0 && s->unacknowledged == 0;
}

static bool second_connection(const struct tasker_worker_stats *s)
{
	return s->connects == 2;
}

static bool holds_two(const struct tasker_worker_stats *s)
{
	(void)s;
	return ndeferred == 2;
}

static bool holds_one(const struct tasker_worker_stats *s)
{
	(void)s;
	return ndeferred == 1;
}

static bool was_cancelled(const struct tasker_worker_stats *s)
{
	(void)s;
	return cancel_reason[0] != '\0';
}

static void stop(tasker_worker *w)
{
	struct tasker_error err = {0};
	tasker_worker_stop(w);
	int rc = tasker_worker_run(w, &err);
	ck_assert_msg(rc == 0, "run: %d %s", rc, err.message);
	tasker_worker_free(w);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
}

static const tasker_value *result_at(size_t message, size_t i)
{
	return tasker_item(tasker_get(fake_params(&fake, message), "results"), i);
}

static void ck_text(const tasker_value *v, const char *want)
{
	char got[200];
	ck_assert(v != NULL);
	tasker_copy(v, got, sizeof got);
	ck_assert_str_eq(got, want);
}

static void ck_json(const tasker_value *v, const char *want)
{
	char *json = tasker_json(v);
	ck_assert_str_eq(json, want);
	free(json);
}

START_TEST(it_offers_its_handlers)
{
	static const struct act script[] = {ACTS_GREET, ACTS_DRAIN, END};
	tasker_worker *w = begin(script);
	ck_assert_int_eq(tasker_worker_poll(w, 0, NULL), 1);
	stop(w);
	const tasker_value *offer = tasker_get(fake_params(&fake, 0), "worker");
	ck_text(tasker_get(offer, "name"), "w");
	ck_json(tasker_get(offer, "namespaces"), "[\"shop\",\"bench\"]");
	ck_assert_int_eq(tasker_int(tasker_get(offer, "max_concurrency"), 0), 7);
	ck_assert_uint_eq(tasker_count(tasker_get(offer, "handlers")), 6);
	ck_assert_ptr_null(tasker_get(fake_params(&fake, 0), "resume"));
	ck_json(fake_params(&fake, 1), "{\"draining\":true}");
	fake_done(&fake);
}
END_TEST

START_TEST(results_of_one_read_go_in_one_message)
{
	static const struct act script[] = {ACTS_GREET,
	                                    {ACT_EXECUTE, "doubles", 3},
	                                    {ACT_EXPECT, "step.result", 0},
	                                    {ACT_NOTE,
	                                     "result.ack {\"acks\":[" ACK("1", "2", "recorded") "," ACK(
	                                         "1", "0", "duplicate") "," ACK("1", "1", "recorded") "]}",
	                                     0},
	                                    ACTS_DRAIN,
	                                    END};
	tasker_worker *w = begin(script);
	w->run_slice_us = 60000000; /* however slow the machine */
	poll_until(w, all_acknowledged);
	struct tasker_worker_stats st;
	tasker_worker_stats(w, &st);
	ck_assert_uint_eq(st.recorded, 3);
	ck_assert_uint_eq(st.refused, 0);
	stop(w);
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 1), "results")), 3);
	for (size_t i = 0; i < 3; i++) {
		char uuid[37];
		const tasker_value *r = result_at(1, i);
		fake_step_uuid(i, uuid);
		ck_text(tasker_get(r, "step_uuid"), uuid);
		ck_assert_int_eq(tasker_int(tasker_get(r, "attempt"), 0), 1);
		ck_assert(tasker_bool(tasker_get(r, "success"), false));
		ck_assert_int_eq(tasker_int(tasker_get(tasker_get(r, "result"), "twice"), -1),
		                 (int64_t)i * 2);
		ck_json(tasker_get(r, "metadata"), "{\"m\":1}");
		ck_assert(tasker_double(tasker_get(r, "execution_ms"), -1) >= 0);
		const msgpack_object *claim = (const msgpack_object *)tasker_get(r, "claim");
		ck_assert_int_eq(claim->type, MSGPACK_OBJECT_BIN);
		ck_assert_uint_eq(claim->via.bin.size, 16);
		ck_assert_uint_eq((unsigned char)claim->via.bin.ptr[0], i);
	}
	fake_done(&fake);
}
END_TEST

START_TEST(a_failure_carries_all_it_was_given)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "fails", 1},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "0", "stale") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	poll_until(w, all_acknowledged);
	struct tasker_worker_stats st;
	tasker_worker_stats(w, &st);
	ck_assert_uint_eq(st.refused, 1);
	ck_assert_ptr_nonnull(strstr(last_log, "stale"));
	stop(w);
	const tasker_value *r = result_at(1, 0);
	ck_assert(!tasker_bool(tasker_get(r, "success"), true));
	ck_json(tasker_get(r, "error"),
	        "{\"message\":\"no money\",\"error_type\":\"PaymentError\",\"error_code\":\"E7\","
	        "\"retryable\":false,\"status_code\":402,\"context\":{\"a\":[1]}}");
	ck_assert_int_eq(tasker_int(tasker_get(r, "retry_after_ms"), 0), 250);
	fake_done(&fake);
}
END_TEST

START_TEST(what_does_not_fit_becomes_a_failure)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "makes_too_much", 1},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "0", "recorded") "]}", 0},
	    {ACT_EXECUTE, "never_offered", 1},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "1", "recorded") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	struct tasker_worker_stats st = {0};
	while (st.recorded < 2) {
		ck_assert_int_eq(tasker_worker_poll(w, 100000, NULL), 1);
		tasker_worker_stats(w, &st);
	}
	stop(w);
	ck_text(tasker_get(tasker_get(result_at(1, 0), "error"), "error_type"), "result_too_large");
	ck_assert(!tasker_bool(tasker_get(tasker_get(result_at(1, 0), "error"), "retryable"), true));
	ck_text(tasker_get(tasker_get(result_at(2, 0), "error"), "error_type"), "handler_not_found");
	fake_done(&fake);
}
END_TEST

START_TEST(unacknowledged_results_are_sent_again)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "doubles", 2},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "0", "recorded") "]}", 0},
	    {ACT_CLOSE, NULL, 0},
	    ACTS_GREET,
	    {ACT_EXPECT, "session.resume", 0},
	    {ACT_REPLY, "{\"steps\":[" ACK("1", "1", "stale") "]}", 0},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "1", "recorded") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	poll_until(w, second_connection);
	poll_until(w, all_acknowledged);
	stop(w);
	const tasker_value *resume = tasker_get(fake_params(&fake, 2), "resume");
	ck_json(resume, "{\"session\":\"s-1\",\"held\":1}");
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 3), "steps")), 1);
	/* Sent again whatever the answer says: it may have been recorded before the connection broke. */
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 4), "results")), 1);
	ck_assert_int_eq(tasker_int(tasker_get(tasker_get(result_at(4, 0), "result"), "twice"), -1), 2);
	fake_done(&fake);
}
END_TEST

START_TEST(held_steps_are_taken_up_again)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "defers", 2},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_CLOSE, NULL, 0},
	    ACTS_GREET,
	    {ACT_EXPECT, "session.resume", 0},
	    {ACT_REPLY, "{\"steps\":[" ACK("1", "0", "stale") "," ACK("1", "1", "held") "]}", 0},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "1", "recorded") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	ndeferred = 0;
	cancel_reason[0] = '\0';
	poll_until(w, holds_two);
	poll_until(w, second_connection);
	ck_assert_str_eq(cancel_reason, "stale");
	ck_assert(tasker_step_cancelled(deferred[0]));
	ck_assert(!tasker_step_cancelled(deferred[1]));
	ck_assert_int_eq(tasker_step_finish(deferred[0], NULL), 0);
	ck_assert_int_eq(tasker_step_finish(deferred[1], NULL), 0);
	poll_until(w, all_acknowledged);
	stop(w);
	ck_json(tasker_get(fake_params(&fake, 3), "resume"), "{\"session\":\"s-1\",\"held\":2}");
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 4), "steps")), 2);
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 5), "results")), 1);
	fake_done(&fake);
}
END_TEST

START_TEST(a_cancel_reaches_a_deferred_step)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "defers", 2},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_NOTE,
	     "step.cancel "
	     "{\"step_uuid\":\"00000000-0000-7000-8000-000000000001\",\"attempt\":1,\"reason\":\"timeout\"}",
	     0},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "1", "stale") "," ACK("1", "0", "recorded") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	ndeferred = 0;
	cancel_reason[0] = '\0';
	poll_until(w, was_cancelled);
	ck_assert_str_eq(cancel_reason, "timeout");
	ck_assert_uint_eq(ndeferred, 2);
	ck_assert(!tasker_step_cancelled(deferred[0]));
	ck_assert_int_eq(tasker_step_finish(deferred[1], NULL), 0);
	ck_assert_int_eq(tasker_step_finish(deferred[0], NULL), 0);
	poll_until(w, all_acknowledged);
	stop(w);
	fake_done(&fake);
}
END_TEST

/* A step that comes while it drains is not begun: the end of the session gives it to others. */
START_TEST(draining_waits_for_what_is_held)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "defers", 1},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_EXPECT, "worker.update", 0},
	    {ACT_EXECUTE, "doubles", 1},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "0", "recorded") "]}", 0},
	    {ACT_EXPECT, "goodbye", 0},
	    {ACT_WAIT_CLOSE, NULL, 0},
	    END};
	struct tasker_worker_stats st;
	ndeferred = 0;
	tasker_worker *w = begin(script);
	poll_until(w, holds_one);
	tasker_worker_stop(w);
	ck_assert_int_eq(tasker_worker_poll(w, 0, NULL), 1);
	ck_assert_int_eq(tasker_step_finish(deferred[0], NULL), 0);
	ck_assert_int_eq(tasker_worker_run(w, NULL), 0);
	tasker_worker_stats(w, &st);
	ck_assert_uint_eq(st.steps, 1);
	tasker_worker_free(w);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
	ck_assert_uint_eq(tasker_count(tasker_get(fake_params(&fake, 3), "results")), 1);
	fake_done(&fake);
}
END_TEST

START_TEST(handlers_can_ask_and_tell)
{
	static const struct act script[] = {
	    ACTS_GREET,
	    {ACT_EXECUTE, "asks", 1},
	    {ACT_EXPECT, "step.dependencies", 0},
	    {ACT_REPLY, "{\"dependencies\":{\"second\":{\"v\":2}}}", 0},
	    {ACT_EXPECT, "step.dependencies", 0},
	    {ACT_REPLY, "{\"dependencies\":{}}", 0},
	    {ACT_EXPECT, "step.heartbeat", 0},
	    {ACT_EXPECT, "step.log", 0},
	    {ACT_EXPECT, "step.result", 0},
	    {ACT_NOTE, "result.ack {\"acks\":[" ACK("1", "0", "recorded") "]}", 0},
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	poll_until(w, all_acknowledged);
	stop(w);
	ck_json(tasker_get(fake_params(&fake, 1), "names"), "[\"second\"]");
	ck_json(tasker_get(fake_params(&fake, 3), "progress"), "{\"done\":1}");
	ck_text(tasker_get(fake_params(&fake, 4), "message"), "halfway");
	ck_json(tasker_get(result_at(5, 0), "result"), "{}");
	fake_done(&fake);
}
END_TEST

START_TEST(a_refusal_for_good_ends_the_worker)
{
	static const struct act script[] = {
	    {ACT_ACCEPT, NULL, 0},
	    {ACT_EXPECT, "hello", 0},
	    {ACT_REPLY_ERROR, "{\"code\":\"permission_denied\",\"message\":\"not you\"}", 0},
	    {ACT_WAIT_CLOSE, NULL, 0},
	    END};
	tasker_worker *w = begin(script);
	struct tasker_error err;
	ck_assert_int_eq(tasker_worker_run(w, &err), -EREMOTEIO);
	ck_assert_str_eq(err.code, "permission_denied");
	tasker_worker_free(w);
	fake_join(&fake);
	ck_assert_str_eq(fake.failure, "");
	fake_done(&fake);
}
END_TEST

START_TEST(a_busy_daemon_is_tried_again)
{
	static const struct act script[] = {
	    {ACT_ACCEPT, NULL, 0},
	    {ACT_EXPECT, "hello", 0},
	    {ACT_REPLY_ERROR, "{\"code\":\"overloaded\",\"message\":\"later\",\"retry_after_ms\":1}", 0},
	    {ACT_WAIT_CLOSE, NULL, 0},
	    ACTS_GREET,
	    ACTS_DRAIN,
	    END};
	tasker_worker *w = begin(script);
	struct tasker_worker_stats st = {0};
	while (st.connects == 0) {
		ck_assert_int_eq(tasker_worker_poll(w, 100000, NULL), 1);
		tasker_worker_stats(w, &st);
	}
	stop(w);
	fake_done(&fake);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("worker");
	TCase *c = tcase_create("worker");
	tcase_set_timeout(c, 30);
	tcase_add_test(c, it_offers_its_handlers);
	tcase_add_test(c, results_of_one_read_go_in_one_message);
	tcase_add_test(c, a_failure_carries_all_it_was_given);
	tcase_add_test(c, what_does_not_fit_becomes_a_failure);
	tcase_add_test(c, unacknowledged_results_are_sent_again);
	tcase_add_test(c, held_steps_are_taken_up_again);
	tcase_add_test(c, a_cancel_reaches_a_deferred_step);
	tcase_add_test(c, draining_waits_for_what_is_held);
	tcase_add_test(c, handlers_can_ask_and_tell);
	tcase_add_test(c, a_refusal_for_good_ends_the_worker);
	tcase_add_test(c, a_busy_daemon_is_tried_again);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
