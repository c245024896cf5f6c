/* Bearer tokens count for as long as the database has been heard of lately, whatever stands in the table. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "daemon/auth/auth.h"
#include "daemon/auth/secret.h"
#include "daemon/base/clock.h"
#include "daemon/config/options.h"
#include "protocol/mpjson.h"

static struct token_text token;
static struct options opt;
static struct auth *auth;

static void begin(void)
{
	struct buf notes;
	struct err e = {0};
	buf_init(&notes, 0);
	ck_assert_int_eq(token_draw(&token), 0);
	auth = auth_new(&opt, &notes, &e);
	ck_assert_ptr_nonnull(auth);
	buf_done(&notes);
}

static void end(void)
{
	auth_free(auth);
}

/* The database has told of the token, when it was asked so long ago. */
static void hear(usec_t ago)
{
	char hash[2 * TOKEN_HASH_LEN + 1], json[512];
	struct buf b;
	struct mp_value v;
	hex_write(token.hash, sizeof token.hash, hash);
	snprintf(
		json, sizeof json,
		"{\"seen\": \"x\", \"tokens\": [{\"id\": \"%s\", \"hash\": \"%s\", \"name\": \"n\", \"roles\": [\"read\"], \"expires_us\": null}]}",
		token.id, hash);
	buf_init(&b, 0);
	ck_assert_int_eq(json_to_mp(json, strlen(json), &b, NULL), 0);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_int_eq(auth_sync_answer(auth, &v.root, now_mono() - ago), 0);
	mp_value_done(&v);
	buf_done(&b);
}

/* What whoever shows the token is told; "": it is good, and still is if it was taken before. */
static const char *told(void)
{
	static struct err e;
	char header[sizeof "Bearer " + TOKEN_TEXT_LEN];
	struct principal who;
	snprintf(header, sizeof header, "Bearer %s", token.text);
	e = (struct err){0};
	enum auth_verdict v =
		http_authenticate(auth, &(struct auth_question){.authorization = header, .peer = "here"}, &who, &e);
	struct principal taken = {0};
	snprintf(taken.token, sizeof taken.token, "%s", token.id);
	ck_assert_int_eq(auth_still(auth, &taken), v == AUTH_OK);
	if (v == AUTH_OK)
		principal_done(&who);
	return v == AUTH_OK ? "" : e.code;
}

START_TEST(nothing_was_heard)
{
	ck_assert_str_eq(told(), "database_unavailable");
}
END_TEST

START_TEST(it_was_heard_lately)
{
	hear(AUTH_STALE_US - 10 * USEC_PER_SEC);
	ck_assert_str_eq(told(), "");
	ck_assert_uint_eq(AUTH_STALE_US, 15 * USEC_PER_SEC); /* as docs/security.md says */
}
END_TEST

START_TEST(it_was_heard_too_long_ago)
{
	hear(AUTH_STALE_US + USEC_PER_SEC);
	ck_assert_str_eq(told(), "database_unavailable");
	hear(0);
	ck_assert_str_eq(told(), "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("auth");
	TCase *t = tcase_create("auth");
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, nothing_was_heard);
	tcase_add_test(t, it_was_heard_lately);
	tcase_add_test(t, it_was_heard_too_long_ago);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
