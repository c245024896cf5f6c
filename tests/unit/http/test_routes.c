/* The table of routes: its rows, and which of them a path finds. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "daemon/http/exchange.h"
#include "daemon/server/params.h"
#include "protocol/mpjson.h"

static const struct {
	enum evhttp_cmd_type verb;
	const char *path, *route; /* NULL: none */
	const char *vars;	  /* name=value;... */
} found[] = {
	{EVHTTP_REQ_GET, "/v1/tasks", "/v1/tasks", ""},
	{EVHTTP_REQ_POST, "/v1/tasks/bulk", "/v1/tasks/bulk", ""},
	{EVHTTP_REQ_GET, "/v1/tasks/abc", "/v1/tasks/{task_uuid}", "task_uuid=abc;"},
	{EVHTTP_REQ_GET, "/v1/tasks/a/workflow_steps/b%2Fc", "/v1/tasks/{task_uuid}/workflow_steps/{step}",
	 "task_uuid=a;step=b/c;"},
	{EVHTTP_REQ_GET, "/v1/tasks/a/workflow_steps/%c3%A9t%C3%a9", "/v1/tasks/{task_uuid}/workflow_steps/{step}",
	 "task_uuid=a;step=\xc3\xa9t\xc3\xa9;"},
	{EVHTTP_REQ_GET, "/v1/templates/a/b/1.0.0", "/v1/templates/{namespace}/{name}/{version}",
	 "namespace=a;name=b;version=1.0.0;"},
	{EVHTTP_REQ_GET, "/v1/dlq/stats", "/v1/dlq/stats", ""},
	/* a plus sign is one in a path, and twice encoded is once decoded */
	{EVHTTP_REQ_GET, "/v1/tasks/a+b%252F", "/v1/tasks/{task_uuid}", "task_uuid=a+b%2F;"},
	/* dots are names like others: nothing is resolved */
	{EVHTTP_REQ_GET, "/v1/tasks/..", "/v1/tasks/{task_uuid}", "task_uuid=..;"},
	{EVHTTP_REQ_GET, "/v1/tasks/%2e%2e%2f%2e%2e", "/v1/tasks/{task_uuid}", "task_uuid=../..;"},
	{EVHTTP_REQ_GET, "/v1/../v1/tasks", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/", NULL, NULL},
	{EVHTTP_REQ_GET, "//v1/tasks", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1//tasks", NULL, NULL},
	{EVHTTP_REQ_GET, "/V1/tasks", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tas%6bs", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/task", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasksx", NULL, NULL},
	{EVHTTP_REQ_GET, "v1/tasks", NULL, NULL},
	{EVHTTP_REQ_GET, "", NULL, NULL},
	{EVHTTP_REQ_GET, "/", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%00b", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%4", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%4g", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%g4", NULL, NULL},
	{EVHTTP_REQ_GET, "/v1/tasks/a%4/b", NULL, NULL},
};

START_TEST(paths_find_their_rows)
{
	struct route_match m = {0};
	unsigned verbs;
	char vars[256] = "";
	const struct route *r = route_find(found[_i].verb, found[_i].path, &m, &verbs);
	if (!found[_i].route) {
		ck_assert_msg(!r && verbs == 0, "%s found %s", found[_i].path, r ? r->path : "verbs");
		return;
	}
	ck_assert_ptr_nonnull(r);
	ck_assert_str_eq(r->path, found[_i].route);
	for (size_t i = 0; i < m.n; i++)
		snprintf(vars + strlen(vars), sizeof vars - strlen(vars), "%.*s=%s;", (int)m.var[i].name_len,
		         m.var[i].name, m.var[i].value);
	ck_assert_str_eq(vars, found[_i].vars);
}
END_TEST

START_TEST(a_method_that_is_not_there_is_told_from_a_path_that_is_not)
{
	struct route_match m;
	unsigned verbs;
	ck_assert_ptr_null(route_find(EVHTTP_REQ_PUT, "/v1/tasks", &m, &verbs));
	ck_assert_uint_eq(verbs, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	ck_assert_ptr_null(route_find(EVHTTP_REQ_PUT, "/v1/nothing", &m, &verbs));
	ck_assert_uint_eq(verbs, 0);
}
END_TEST

START_TEST(a_path_of_any_length_is_looked_up)
{
	char path[2 * ROUTE_TEXT_MAX] = "/v1/tasks/";
	struct route_match m;
	unsigned verbs;
	size_t at = strlen(path), most = ROUTE_TEXT_MAX - 1;
	memset(path + at, 'a', most);
	ck_assert_ptr_nonnull(route_find(EVHTTP_REQ_GET, path, &m, &verbs));
	ck_assert_uint_eq(strlen(m.var[0].value), most);
	path[at + most] = 'a';
	ck_assert_ptr_null(route_find(EVHTTP_REQ_GET, path, &m, &verbs));
}
END_TEST

/* What the router, the document and the reading of parameters take for granted of each row. */
START_TEST(every_row_is_sound)
{
	const struct route *r = &routes[_i];
	const struct param *spec = r->fn ? NULL : message_params(r->msg);
	struct route_match m;
	unsigned verbs;
	struct buf b;
	ck_assert_msg(r->path[0] == '/' && r->answer && r->tag && r->summary, "%s", r->path);
	ck_assert_msg(!r->fn == (r->msg != MSG_COUNT), "%s: a message or a function", r->path);
	ck_assert_msg(r->fn || spec, "%s: its message has no parameters", r->path);
	ck_assert_msg(!(r->flags & ROUTE_SOURCE) || r->flags & ROUTE_BODY, "%s: a source is a body", r->path);
	ck_assert_msg(!(r->flags & ROUTE_BODY) || r->verb & (EVHTTP_REQ_POST | EVHTTP_REQ_PATCH),
	              "%s: the method has no body", r->path);
	ck_assert_msg(route_find(r->verb, r->path, &m, &verbs) == r, "%s: another row has it", r->path);
	for (size_t v = 0; v < m.n; v++) {
		bool known = false;
		for (const struct param *p = spec; p && p->name; p++)
			known |= strlen(p->name) == m.var[v].name_len &&
			         memcmp(p->name, m.var[v].name, m.var[v].name_len) == 0;
		ck_assert_msg(known, "%s: %.*s is no parameter of its message", r->path, (int)m.var[v].name_len,
		              m.var[v].name);
	}
	for (const struct alias *a = r->aliases; a && a->from; a++) {
		bool known = false;
		for (const struct param *p = spec; p->name; p++)
			known |= strcmp(p->name, a->to) == 0;
		ck_assert_msg(known, "%s: %s stands for no parameter", r->path, a->from);
	}
	buf_init(&b, 0);
	ck_assert_msg(!r->fixed || json_to_mp(r->fixed, strlen(r->fixed), &b, NULL) == 0, "%s: %s is not JSON", r->path,
	              r->fixed);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("routes");
	TCase *t = tcase_create("routes");
	tcase_add_loop_test(t, paths_find_their_rows, 0, (int)(sizeof found / sizeof *found));
	tcase_add_test(t, a_method_that_is_not_there_is_told_from_a_path_that_is_not);
	tcase_add_test(t, a_path_of_any_length_is_looked_up);
	tcase_add_loop_test(t, every_row_is_sound, 0, (int)route_count);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
