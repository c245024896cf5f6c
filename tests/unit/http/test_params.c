/* From a request to the parameters of its message. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/mpjson.h"
#include "tests/unit/http/util.h"

#define UUID "01890a5d-ac96-774b-bcce-b30200000000"
#define JSON "Content-Type: application/json\n\n"

static const struct {
	const char *request, *params;
} taken[] = {
	{"GET /v1/tasks\n\n", "{\"page\":1}"},
	{"GET /v1/tasks?\n\n", "{\"page\":1}"},
	{"GET /v1/tasks?state=complete&limit=5\n\n", "{\"state\":\"complete\",\"limit\":5}"},
	{"GET /v1/tasks?per_page=5&status=error\n\n", "{\"limit\":5,\"state\":\"error\",\"page\":1}"},
	{"GET /v1/tasks?tag=a%20b+c%2Bd%26e%3Df\n\n", "{\"tag\":\"a b c+d&e=f\",\"page\":1}"},
	{"GET /v1/tasks?tag=%2500\n\n", "{\"tag\":\"%00\",\"page\":1}"},
	{"GET /v1/tasks?tag=%C3%A9\n\n", "{\"tag\":\"\xc3\xa9\",\"page\":1}"},
	{"GET /v1/tasks?tag=\n\n", "{\"tag\":\"\",\"page\":1}"},
	{"GET /v1/tasks?states=complete,error\n\n", "{\"states\":[\"complete\",\"error\"],\"page\":1}"},
	{"GET /v1/tasks?paused=true\n\n", "{\"paused\":true,\"page\":1}"},
	{"GET /v1/tasks?priority_min=-5\n\n", "{\"priority_min\":-5,\"page\":1}"},
	{"GET /v1/tasks?tag=a#tag=b\n\n", "{\"tag\":\"a\",\"page\":1}"},
	{"GET /v1/tasks/" UUID "/wait\n\n", "{\"task_uuid\":\"" UUID "\",\"timeout_ms\":30000}"},
	{"GET /v1/tasks/" UUID "/wait?timeout_ms=7\n\n", "{\"task_uuid\":\"" UUID "\",\"timeout_ms\":7}"},
	{"GET /v1/tasks/x/workflow_steps\n\n",
         "{\"steps\":true,\"readiness\":true,\"task_uuid\":\"x\",\"limit\":1000}"},
	{"GET /v1/tasks/x/workflow_steps?limit=7\n\n",
         "{\"steps\":true,\"readiness\":true,\"task_uuid\":\"x\",\"limit\":7}"},
	{"GET /v1/tasks?cursor=5&per_page=7\n\n", "{\"cursor\":\"5\",\"limit\":7}"},
	{"GET /v1/tasks?per_page=7\n\n", "{\"limit\":7,\"page\":1}"},
	{"GET /v1/tasks?page=3\n\n", "{\"page\":3}"},
	{"POST /v1/tasks\n" JSON "{\"name\":\"a\",\"context\":{\"x\":[1,null]},\"reason\":null}",
         "{\"name\":\"a\",\"context\":{\"x\":[1,null]}}"},
	{"POST /v1/tasks\nContent-Type: Application/JSON; charset=utf-8\n\n{\"name\":\"a\"}", "{\"name\":\"a\"}"},
	{"POST /v1/tasks\nIdempotency-Key: k\ntraceparent: t\n" JSON "{\"name\":\"a\"}",
         "{\"name\":\"a\",\"idempotency_key\":\"k\",\"traceparent\":\"t\"}"},
	{"POST /v1/tasks\nIdempotency-Key: far\n" JSON "{\"name\":\"a\",\"idempotency_key\":\"near\"}",
         "{\"name\":\"a\",\"idempotency_key\":\"near\"}"},
	{"POST /v1/tasks?name=a\n\n", "{\"name\":\"a\"}"},
	{"POST /v1/tasks/x/cancel\n" JSON "{\"reason\":\"r\"}",
         "{\"action\":\"cancel\",\"task_uuid\":\"x\",\"reason\":\"r\"}"},
	{"PATCH /v1/tasks/x/workflow_steps/s\n" JSON
         "{\"action_type\":\"complete_manually\",\"completion_data\":{\"result\":{\"a\":1}},\"completed_by\":\"me\",\"reason\":\"r\"}",
         "{\"task_uuid\":\"x\",\"step\":\"s\",\"action\":\"complete_manually\",\"result\":{\"a\":1},\"operator\":\"me\",\"reason\":\"r\"}"},
	{"POST /v1/templates\nContent-Type: application/yaml\n\nname: a\n", "{\"source\":\"name: a\\n\"}"},
	{"POST /v1/templates?strict=true\nContent-Type: text/yaml; charset=utf-8\n\nx",
         "{\"strict\":true,\"source\":\"x\"}"},
	{"GET /metrics\n\n", "{\"format\":\"prometheus\"}"},
};

START_TEST(requests_become_parameters)
{
	struct asked a;
	struct buf want, json;
	buf_init(&want, 0);
	buf_init(&json, 0);
	ck_assert(ask_text(&a, taken[_i].request, strlen(taken[_i].request)));
	ck_assert_ptr_nonnull(a.x.route);
	ck_assert_msg(a.rc == 0, "%s: %s", taken[_i].request, a.e.text);
	ck_assert_int_eq(mp_to_json(&a.params.root, "", &json, NULL), 0);
	ck_assert_str_eq(buf_text(&json), taken[_i].params);
	buf_done(&want);
	buf_done(&json);
	asked_done(&a);
}
END_TEST

static const struct {
	const char *request, *path, *says;
} refused[] = {
	{"GET /v1/tasks?x=1\n\n", "x", "no such parameter: \"x\"; there are namespace"},
	{"GET /v1/tasks?limit=5&per_page=6\n\n", "per_page", "limit is given twice"},
	{"GET /v1/tasks?limit=5&limit=5\n\n", "limit", "given twice"},
	{"GET /v1/tasks?limit=\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=5x\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=%205\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=+5\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=0x5\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=1e3\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=99999999999999999999\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?limit=-\n\n", "limit", "must be an integer"},
	{"GET /v1/tasks?paused=yes\n\n", "paused", "must be true or false"},
	{"GET /v1/tasks?tag=%ff\n\n", "tag", "not UTF-8"},
	{"GET /v1/tasks?tag=a%00b\n\n", "", "U+0000"},
	{"GET /v1/tasks?t%00x=a\n\n", "", "U+0000"},
	{"GET /v1/tasks?tag=a%zz\n\n", "", "two hexadecimal digits"},
	{"GET /v1/tasks?tag=a%\n\n", "", "two hexadecimal digits"},
	{"GET /v1/tasks?tag\n\n", "", "not a list of name=value"},
	{"GET /v1/tasks?=a\n\n", "", ""},
	{"GET /v1/tasks?tag=a&&limit=5\n\n", "", "not a list of name=value"},
	{"GET /v1/tasks/x?task_uuid=y\n\n", "task_uuid", "given twice"},
	{"GET /v1/tasks/x/workflow_steps?steps=true\n\n", "steps", "given twice"},
	{"GET /v1/tasks\n" JSON "{}", "", "a body is not expected here"},
	{"POST /v1/tasks?context=x\n\n", "context", "expected in the body"},
	{"POST /v1/tasks\n\n{\"name\":\"a\"}", "Content-Type", "must be application/json"},
	{"POST /v1/tasks\nContent-Type: text/plain\n\n{}", "Content-Type", "must be application/json"},
	{"POST /v1/tasks\nContent-Type: application/jsonx\n\n{}", "Content-Type", "must be application/json"},
	{"POST /v1/tasks\nContent-Type: application/yaml\n\n{}", "Content-Type", "must be application/json,"},
	{"POST /v1/templates\nContent-Type: text/plain\n\n{}", "Content-Type", "or application/yaml"},
	{"POST /v1/tasks\n" JSON "[]", "", "must be a JSON object"},
	{"POST /v1/tasks\n" JSON "{\"name\":\"a\"", "", "not JSON"},
	{"POST /v1/tasks\n" JSON "{\"name\":\"a\"}}", "", "not JSON"},
	{"POST /v1/tasks\n" JSON "{\"name\":\"a\",\"name\":\"b\"}", "", "duplicate key"},
	{"POST /v1/tasks\n" JSON "{\"name\":\"\xff\"}", "", "not JSON"},
	{"POST /v1/tasks\n" JSON "{\"nmae\":\"a\"}", "nmae", "no such member of the body: \"nmae\"; there are name"},
	{"POST /v1/tasks?name=a\n" JSON "{\"name\":\"b\"}", "name", "given twice"},
	{"POST /v1/tasks/x/cancel\n" JSON "{\"action\":\"retry\",\"reason\":\"r\"}", "action", "given twice"},
	{"PATCH /v1/tasks/x/workflow_steps/s\n" JSON "{\"completion_data\":{\"x\":1}}", "completion_data.x",
	 "no such member"},
	{"POST /v1/templates\nContent-Type: application/yaml\n\n\xff", "source", "not UTF-8"},
	{"POST /v1/tasks\nIdempotency-Key: \xff\n" JSON "{\"name\":\"b\"}", "idempotency_key", "not UTF-8"},
};

START_TEST(what_is_wrong_is_said)
{
	struct asked a;
	ck_assert(ask_text(&a, refused[_i].request, strlen(refused[_i].request)));
	ck_assert_ptr_nonnull(a.x.route);
	ck_assert_msg(a.rc < 0, "%s", refused[_i].request);
	ck_assert_str_eq(a.e.code, "bad_request");
	ck_assert_str_eq(a.e.path, refused[_i].path);
	ck_assert_msg(strstr(a.e.text, refused[_i].says), "%s: %s", refused[_i].request, a.e.text);
	const char *place = strstr(a.e.text, " at byte ");
	ck_assert_msg(!place || !strstr(place + 1, " at byte "), "the place is said twice: %s", a.e.text);
	asked_done(&a);
}
END_TEST

/* A body nested as deep as it may be, and one deeper. */
START_TEST(depth_is_bounded)
{
	for (int depth = 20; depth < 2000; depth *= 9) {
		struct asked a;
		struct buf b;
		buf_init(&b, 0);
		buf_append_str(&b, "POST /v1/tasks\n" JSON "{\"name\":\"a\",\"context\":{\"x\":");
		for (int i = 0; i < depth; i++)
			buf_append_char(&b, '[');
		for (int i = 0; i < depth; i++)
			buf_append_char(&b, ']');
		buf_append_str(&b, "}}");
		ck_assert(ask_text(&a, (const char *)b.data, b.len));
		ck_assert_int_eq(a.rc < 0, depth > 20);
		asked_done(&a);
		buf_done(&b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("params");
	TCase *t = tcase_create("params");
	tcase_add_loop_test(t, requests_become_parameters, 0, (int)(sizeof taken / sizeof *taken));
	tcase_add_loop_test(t, what_is_wrong_is_said, 0, (int)(sizeof refused / sizeof *refused));
	tcase_add_test(t, depth_is_bounded);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
