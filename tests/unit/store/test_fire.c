/* What the daemon knows of a step's domain events when its attempt ends. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/fire.h"

#define SCHEMA "{\"type\":\"object\",\"required\":[\"id\"]}"

static const char declarations[] =
	"[{\"name\":\"a.ok\",\"condition\":\"success\",\"delivery_mode\":\"durable\",\"schema\":true},"
	"{\"name\":\"a.strict\",\"condition\":\"always\",\"delivery_mode\":\"fast\",\"publisher\":\"P\",\"schema\":" SCHEMA
	"},"
	"{\"name\":\"a.bad\",\"condition\":\"permanent_failure\",\"delivery_mode\":\"broadcast\",\"schema\":" SCHEMA
	"}]";

static struct declared_events declared;
static struct req *r;

static void set_up(void)
{
	struct err e;
	declared = (struct declared_events){0};
	ck_assert_int_eq(declared_read(&declared, declarations, strlen(declarations), &e), 0);
	r = req_new(REQ_RESULT, (struct origin){0});
	ck_assert_ptr_nonnull(r);
}

static void tear_down(void)
{
	declared_done(&declared);
	req_free(r);
}

static void say(const char *name, const char *payload, bool skip)
{
	r->result.words = realloc(r->result.words, (r->result.n_words + 1) * sizeof *r->result.words);
	struct event_word *w = &r->result.words[r->result.n_words++];
	*w = (struct event_word){.name = strdup(name), .skip = skip};
	if (payload)
		text_set(&w->payload, payload, strlen(payload));
}

static void result(const char *json)
{
	r->result.outcome = OUTCOME_SUCCESS;
	text_set(&r->result.result, json, strlen(json));
}

static void error(enum outcome outcome, const char *json)
{
	r->result.outcome = outcome;
	text_set(&r->result.error, json, strlen(json));
}

static void known(int refused, const char *expected)
{
	ck_assert_int_eq(fire_prepare(&declared, &r->result, true), refused);
	ck_assert_str_eq(r->result.known.s, expected);
}

START_TEST(conditions)
{
	static const struct {
		enum event_condition c;
		bool success, again, final;
	} table[] = {
		{EVENT_SUCCESS, true, false, false},	       {EVENT_FAILURE, false, true,
		 true}, {EVENT_RETRYABLE_FAILURE, false, true, false},
		{EVENT_PERMANENT_FAILURE, false, false, true}, {EVENT_ALWAYS, true, true, true},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		ck_assert(event_fires(table[i].c, OUTCOME_SUCCESS, true) == table[i].success);
		ck_assert(!event_fires(table[i].c, OUTCOME_RELEASED, true));
		for (int o = OUTCOME_HANDLER_ERROR; o < OUTCOME_RELEASED; o++) {
			ck_assert(event_fires(table[i].c, (enum outcome)o, false) == table[i].again);
			ck_assert(event_fires(table[i].c, (enum outcome)o, true) == table[i].final);
		}
	}
}
END_TEST

START_TEST(nothing_to_say)
{
	result("{\"id\":1}");
	known(0, "{\"ok\":true,\"refused\":[]}");
	ck_assert_ptr_null(r->result.meta.s);
	known(0, "{\"ok\":true,\"refused\":[]}"); /* a second time changes nothing */
}
END_TEST

START_TEST(payloads_that_do_not_fit)
{
	result("{}");
	known(1, "{\"ok\":true,\"refused\":[1]}");
	ck_assert_ptr_nonnull(
		strstr(r->result.meta.s, "{\"event_errors\":[{\"name\":\"a.strict\",\"message\":\"payload"));
}
END_TEST

START_TEST(of_a_failure)
{
	error(OUTCOME_TIMEOUT, "{\"message\":\"late\"}");
	text_set(&r->result.meta, "{\"host\":\"w\"}", 12);
	known(2, "{\"ok\":false,\"refused\":[1,2]}");
	ck_assert_ptr_nonnull(strstr(r->result.meta.s, "{\"host\":\"w\",\"event_errors\":[{\"name\":\"a.strict\""));
}
END_TEST

START_TEST(words)
{
	result("{}");
	say("a.strict", "{\"id\":2}", false);
	say("a.ok", NULL, true);
	known(0,
	      "{\"ok\":true,\"said\":[{\"name\":\"a.strict\",\"payload\":{\"id\":2}},{\"name\":\"a.ok\",\"skip\":true}],\"refused\":[]}");
}
END_TEST

START_TEST(words_about_others)
{
	result("{\"id\":1}");
	say("quote\"d", "1", false);
	known(1, "{\"ok\":true,\"said\":[{\"name\":\"quote\\\"d\",\"payload\":1}],\"refused\":[]}");
	ck_assert_str_eq(
		r->result.meta.s,
		"{\"event_errors\":[{\"name\":\"quote\\\"d\",\"message\":\"the step declares no event of this name\"}]}");
}
END_TEST

START_TEST(a_publisher_that_failed)
{
	result("{\"id\":1}");
	say("a.ok", NULL, true);
	r->result.words[0].failed = strdup("no key");
	ck_assert_int_eq(fire_prepare(&declared, &r->result, true), 1);
	ck_assert_ptr_nonnull(strstr(r->result.known.s, "{\"name\":\"a.ok\",\"skip\":true}"));
	ck_assert_str_eq(r->result.meta.s, "{\"event_errors\":[{\"name\":\"a.ok\",\"message\":\"no key\"}]}");
}
END_TEST

START_TEST(metadata_of_other_types)
{
	result("{}");
	text_set(&r->result.meta, _i ? "[1]" : "{}", _i ? 3 : 2);
	ck_assert_int_eq(fire_prepare(&declared, &r->result, true), 1);
	const char *begins = _i ? "{\"metadata\":[1],\"event_errors\":[" : "{\"event_errors\":[";
	ck_assert_int_eq(strncmp(r->result.meta.s, begins, strlen(begins)), 0);
}
END_TEST

START_TEST(not_everything_is_told)
{
	result("{\"id\":1}");
	for (int i = 0; i < 40; i++)
		say("other", NULL, false);
	ck_assert_int_eq(fire_prepare(&declared, &r->result, true), 40);
	unsigned told = 0;
	for (const char *p = r->result.meta.s; (p = strstr(p, "\"other\"")); p++)
		told++;
	ck_assert_uint_eq(told, 16);
}
END_TEST

START_TEST(bad_declarations)
{
	static const char *const texts[] = {"", "5", "{}", "[{\"name\":\"a\",\"schema\":{\"type\":\"thing\"}}]"};
	struct declared_events d = {0};
	struct err e;
	ck_assert_int_lt(declared_read(&d, texts[_i], strlen(texts[_i]), &e), 0);
	declared_done(&d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fire");
	TCase *t = tcase_create("fire");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, conditions);
	tcase_add_test(t, nothing_to_say);
	tcase_add_test(t, payloads_that_do_not_fit);
	tcase_add_test(t, of_a_failure);
	tcase_add_test(t, words);
	tcase_add_test(t, words_about_others);
	tcase_add_test(t, a_publisher_that_failed);
	tcase_add_loop_test(t, metadata_of_other_types, 0, 2);
	tcase_add_test(t, not_everything_is_told);
	tcase_add_loop_test(t, bad_declarations, 0, 4);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
