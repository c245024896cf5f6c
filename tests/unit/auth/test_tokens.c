/* The table of good tokens: what an answer of the database makes of it, and who is found in it. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/auth/tokens.h"
#include "protocol/mpjson.h"

#define NOW ((usec_t)2000000000 * USEC_PER_SEC)

static struct token_text one, two;
static struct tokens *table;

static void begin(void)
{
	ck_assert_int_eq(token_draw(&one), 0);
	ck_assert_int_eq(token_draw(&two), 0);
	table = tokens_new();
}

static void end(void)
{
	tokens_free(table);
}

static int take(usec_t asked, const char *json)
{
	struct buf b;
	struct mp_value v;
	buf_init(&b, 0);
	ck_assert_int_eq(json_to_mp(json, strlen(json), &b, NULL), 0);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	int rc = tokens_take(table, &v.root, asked);
	mp_value_done(&v);
	buf_done(&b);
	return rc;
}

/* A token as the database tells it; `more` are further members. */
static const char *told(const struct token_text *t, const char *name, const char *more)
{
	static char text[4][512];
	static unsigned turn;
	char hash[2 * TOKEN_HASH_LEN + 1];
	char *at = text[turn++ % 4];
	hex_write(t->hash, sizeof t->hash, hash);
	snprintf(
		at, sizeof text[0],
		"{\"id\": \"%s\", \"hash\": \"%s\", \"name\": \"%s\", \"roles\": [\"read\", \"submit\"], \"expires_us\": null%s}",
		t->id, hash, name, more);
	return at;
}

static int take_list(usec_t asked, const char *seen, const char *first, const char *second)
{
	char json[2048];
	snprintf(json, sizeof json, "{\"seen\": \"%s\", \"tokens\": [%s%s%s]}", seen, first, *second ? ", " : "",
	         second);
	return take(asked, json);
}

static bool found(const struct token_text *t, usec_t now)
{
	struct principal who = {0};
	int rc = tokens_find(table, t, now, &who);
	ck_assert(rc == 0 || rc == -EACCES);
	principal_done(&who);
	return rc == 0;
}

static const char *question(void)
{
	static char text[512];
	struct buf b;
	buf_init(&b, 0);
	tokens_question(table, &b);
	snprintf(text, sizeof text, "%s", buf_text(&b));
	buf_done(&b);
	return text;
}

START_TEST(what_is_found)
{
	struct principal who = {0};
	ck_assert(!found(&one, NOW));
	ck_assert_uint_eq(tokens_asked(table), 0);
	ck_assert_int_eq(take_list(5, "x", told(&one, "ci", ", \"namespaces\": [\"shop\"]"), ""), 0);
	ck_assert_uint_eq(tokens_asked(table), 5);
	ck_assert_int_eq(tokens_find(table, &one, NOW, &who), 0);
	ck_assert_str_eq(who.name, "token:ci");
	ck_assert(access_allows(&who.access, ROLE_SUBMIT, "shop", 4) &&
	          !access_allows(&who.access, ROLE_READ, "other", 5) && !access_has(&who.access, ROLE_WORK));
	principal_done(&who);
	ck_assert(!found(&two, NOW));
	memcpy(two.id, one.id, sizeof two.id); /* the right id and another secret */
	ck_assert(!found(&two, NOW));
}
END_TEST

START_TEST(all_namespaces)
{
	struct principal who = {0};
	ck_assert_int_eq(take_list(5, "x", told(&one, "a", ""), told(&two, "b", ", \"namespaces\": null")), 0);
	ck_assert_int_eq(tokens_find(table, &two, NOW, &who), 0);
	ck_assert(access_everywhere(&who.access, ROLE_READ));
	principal_done(&who);
}
END_TEST

START_TEST(time_passes)
{
	char more[64];
	ck_assert_int_eq(take_list(5, "x", told(&one, "a", ""), ""), 0);
	snprintf(more, sizeof more, ", \"expires_us\": %llu", (unsigned long long)NOW);
	char json[1024];
	snprintf(json, sizeof json, "{\"seen\": \"y\", \"tokens\": [{\"id\": \"%s\", \"hash\": \"", one.id);
	char hash[2 * TOKEN_HASH_LEN + 1];
	hex_write(one.hash, sizeof one.hash, hash);
	size_t n = strlen(json);
	snprintf(json + n, sizeof json - n, "%s\", \"name\": \"a\", \"roles\": [\"read\"]%s}]}", hash, more);
	ck_assert_int_eq(take(6, json), 0);
	ck_assert(found(&one, NOW - 1));
	ck_assert(tokens_have(table, one.id, NOW - 1));
	ck_assert(!found(&one, NOW));
	ck_assert(!tokens_have(table, one.id, NOW));
}
END_TEST

START_TEST(what_is_gone_is_gone)
{
	ck_assert_int_eq(take_list(5, "x", told(&one, "a", ""), told(&two, "b", "")), 0);
	ck_assert_str_eq(question(), "{\"seen\":\"x\",\"used\":[]}");
	ck_assert(found(&one, NOW));
	ck_assert_int_eq(take(6, "{\"seen\": \"x\", \"tokens\": null}"), 0); /* nothing has changed */
	ck_assert(found(&two, NOW));
	ck_assert_int_eq(take_list(7, "y", told(&one, "a", ""), ""), 0);
	ck_assert(!found(&two, NOW));
	char wanted[128];
	snprintf(wanted, sizeof wanted, "{\"seen\":\"y\",\"used\":[\"%s\"]}", one.id); /* as before the change */
	ck_assert_str_eq(question(), wanted);
	ck_assert_str_eq(question(), "{\"seen\":\"y\",\"used\":[]}");
	ck_assert_int_eq(take_list(6, "x", told(&two, "b", ""), ""), 0); /* asked earlier, answered later */
	ck_assert(found(&one, NOW) && !found(&two, NOW));
	ck_assert_uint_eq(tokens_asked(table), 7);
}
END_TEST

/* An answer that is not understood changes nothing. */
START_TEST(nonsense)
{
	static const char *const odd[] = {
		"{}",
		"{\"seen\": 7}",
		"{\"seen\": \"z\", \"tokens\": [7]}",
		"{\"seen\": \"z\", \"tokens\": [{}]}",
		"{\"seen\": \"z\", \"tokens\": [{\"id\": \"x\"}]}",
		"{\"seen\": \"z\", \"tokens\": [{\"id\": \"000000000000\", \"hash\": \"00\", \"name\": \"x\", \"roles\": []}]}",
		"{\"seen\": \"0000000000000000000000000000000000000000000000000000000000000000000000\"}",
	};
	char json[1024];
	ck_assert_int_eq(take_list(5, "x", told(&one, "a", ""), ""), 0);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
		ck_assert_msg(take(9, odd[i]) < 0, "%s", odd[i]);
	snprintf(json, sizeof json, "{\"seen\": \"z\", \"tokens\": [%s, 7]}", told(&two, "b", ""));
	ck_assert_int_lt(take(9, json), 0);
	ck_assert_int_lt(take_list(9, "z", told(&two, "b", ", \"namespaces\": []"), ""), 0);
	ck_assert(found(&one, NOW) && !found(&two, NOW));
	ck_assert_uint_eq(tokens_asked(table), 5);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokens");
	TCase *t = tcase_create("tokens");
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, what_is_found);
	tcase_add_test(t, all_namespaces);
	tcase_add_test(t, time_passes);
	tcase_add_test(t, what_is_gone_is_gone);
	tcase_add_test(t, nonsense);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
