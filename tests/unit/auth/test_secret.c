/* The text of a bearer token. */
#include <check.h>
#include <ctype.h>
#include <string.h>

#include "daemon/auth/secret.h"

START_TEST(what_is_drawn_is_read)
{
	struct token_text a, b, c;
	ck_assert_int_eq(token_draw(&a), 0);
	ck_assert_int_eq(token_draw(&b), 0);
	ck_assert_uint_eq(strlen(a.text), TOKEN_TEXT_LEN);
	ck_assert_int_eq(strncmp(a.text, "tasker_", 7), 0);
	ck_assert(token_read(a.text, strlen(a.text), &c));
	ck_assert_str_eq(a.id, c.id);
	ck_assert(token_hash_equal(a.hash, c.hash));
	ck_assert_str_ne(a.id, b.id);
	ck_assert(!token_hash_equal(a.hash, b.hash));
}
END_TEST

START_TEST(every_character_counts)
{
	struct token_text a, b;
	ck_assert_int_eq(token_draw(&a), 0);
	for (size_t i = 0; i < TOKEN_TEXT_LEN; i++) {
		char text[TOKEN_TEXT_LEN + 1];
		memcpy(text, a.text, sizeof text);
		text[i] = text[i] == '0' ? '1' : '0';
		ck_assert_msg(!token_read(text, TOKEN_TEXT_LEN, &b) || !token_hash_equal(a.hash, b.hash),
		              "character %zu", i);
		text[i] = (char)toupper((unsigned char)a.text[i]);
		ck_assert_msg(isdigit((unsigned char)text[i]) || text[i] == '_' ||
		                      !token_read(text, TOKEN_TEXT_LEN, &b),
		              "character %zu", i);
	}
	for (size_t n = 0; n < TOKEN_TEXT_LEN; n++)
		ck_assert(!token_read(a.text, n, &b));
}
END_TEST

START_TEST(the_hash_is_a_known_one)
{
	static const char text[] =
		"tasker_000000000000_0000000000000000000000000000000000000000000000000000000000000000";
	char hex[2 * TOKEN_HASH_LEN + 1];
	struct token_text t;
	ck_assert(token_read(text, sizeof text - 1, &t));
	hex_write(t.hash, sizeof t.hash, hex);
	ck_assert_str_eq(hex, "e67021b35e43dc3cc804de9daa9669d0bd5948d785e47e387af44359050daca0");
	token_wipe(&t, sizeof t);
	for (size_t i = 0; i < sizeof t; i++)
		ck_assert_int_eq(((const char *)&t)[i], 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("secret");
	TCase *t = tcase_create("secret");
	tcase_add_test(t, what_is_drawn_is_read);
	tcase_add_test(t, every_character_counts);
	tcase_add_test(t, the_hash_is_a_known_one);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
