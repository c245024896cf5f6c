/* Notifications of other nodes about domain events: whole, in pieces, and all that is nonsense. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/notice.h"
#include "protocol/mp.h"

#define OWN 7

static struct notice notice;

static void set_up(void)
{
	notice_reset(&notice);
}

static void tear_down(void)
{
	notice_reset(&notice);
}

static void ends_nothing(const char *payload)
{
	struct done *d = notice_read(&notice, OWN, payload);
	ck_assert_msg(!d || !d->fired, "%s", payload);
	done_free(d);
}

/* The event that a payload completes must be `name`. */
static void ends(const char *payload, const char *name)
{
	struct mp_value v;
	struct done *d = notice_read(&notice, OWN, payload);
	ck_assert_ptr_nonnull(d);
	ck_assert_int_eq(d->kind, DONE_NOTIFY_EVENTS);
	ck_assert_ptr_nonnull(d->fired);
	ck_assert_ptr_null(d->fired->next);
	ck_assert_int_eq(mp_decode(d->fired->body.data, d->fired->body.len, &v), 0);
	ck_assert(mp_str_eq(mp_get(&v.root, "n"), name));
	mp_value_done(&v);
	done_free(d);
}

START_TEST(a_whole_event)
{
	ends("e 1 id 1 1 {\"n\": \"x y\"}", "x y");
	ends_nothing("e 7 id 1 1 {\"n\": \"own\"}");
	ends("e 70 id 1 1 {\"n\": \"b\"}", "b");
}
END_TEST

START_TEST(pieces)
{
	ends_nothing("e 1 id 1 3 {\"n\"");
	ends_nothing("e 1 id 2 3 : \"a ");
	ends("e 1 id 3 3 b\"}", "a b");
	ends_nothing("e 1 id 3 3 b\"}");
}
END_TEST

START_TEST(pieces_that_do_not_fit_together)
{
	static const char *const orders[][3] = {
		{"e 1 a 1 2 {\"n\":", "e 1 b 2 2 \"x\"}", NULL},		 /* another event */
		{"e 1 a 1 3 {\"n\":", "e 1 a 3 3 \"x\"}", "e 1 a 2 3 "},	 /* one is missing */
		{"e 1 a 1 2 {\"n\":", "e 1 a 2 3 \"x\"}", NULL},		 /* it has grown */
		{"e 1 a 1 2 {\"n\":", "e 1 a 1 2 {\"n\":", "e 1 a 3 2 \"x\"}"}, /* beyond the last */
		{"e 1 a 2 2 \"x\"}", NULL, NULL},
	};
	for (size_t i = 0; i < 3 && orders[_i][i]; i++)
		ends_nothing(orders[_i][i]);
	ends("e 1 new 1 1 {\"n\": \"after\"}", "after");
}
END_TEST

START_TEST(a_new_event_takes_the_place_of_half_a_one)
{
	ends_nothing("e 1 a 1 2 {\"n\":");
	ends_nothing("e 2 b 1 2 {\"n\":");
	ends("e 2 b 2 2 \"b\"}", "b");
}
END_TEST

START_TEST(nonsense)
{
	static const char *const payloads[] = {
		"",
		"e",
		"q",
		"e ",
		"q ",
		"x 1 a",
		"e x a 1 1 {}",
		"e 1 a 0 1 {}",
		"e 1 a 1 0 {}",
		"e 1 a 2 1 {}",
		"e 1 a 1 1001 {",
		"e 1 a 1 1 {",
		"e 1 a 1 1",
		"e 1  1 1 {}",
		"e -1 a 1 1 {}",
		"e 1 a +1 1 {}",
		"e 1 a 1x 1 {}",
		"e 99999999999 a 1 1 {}",
		"e 1 a 1 1 not json",
		"e 1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 1 {}",
		"q 1",
		"q 1 ",
		"q x ns",
		"q 1 a-name-that-is-too-long-for-a-namespace",
		"q 7 ns",
		"E 1 a 1 1 {}",
		"e\n1 a 1 1 {}",
	};
	ends_nothing(payloads[_i]);
}
END_TEST

START_TEST(more_than_may_be)
{
	size_t n = NOTICE_MAX / 2;
	char *payload = malloc(n + 64);
	ck_assert_ptr_nonnull(payload);
	for (int part = 1; part <= 3; part++) {
		int at = snprintf(payload, 64, "e 1 a %d 3 ", part);
		memset(payload + at, ' ', n);
		payload[(size_t)at + n] = '\0';
		ends_nothing(payload);
	}
	free(payload);
}
END_TEST

START_TEST(a_queue_has_messages)
{
	struct done *d = notice_read(&notice, OWN, "q 0 payments");
	ck_assert_ptr_nonnull(d);
	ck_assert_str_eq(d->fired->ns, "payments");
	ck_assert_uint_eq(d->fired->body.len, 0);
	ck_assert_uint_eq(d->fired->n, 0);
	done_free(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("notice");
	TCase *t = tcase_create("notice");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_whole_event);
	tcase_add_test(t, pieces);
	tcase_add_loop_test(t, pieces_that_do_not_fit_together, 0, 5);
	tcase_add_test(t, a_new_event_takes_the_place_of_half_a_one);
	tcase_add_loop_test(t, nonsense, 0, 27);
	tcase_add_test(t, more_than_may_be);
	tcase_add_test(t, a_queue_has_messages);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
