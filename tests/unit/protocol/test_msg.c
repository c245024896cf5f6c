/* msg.c: every name is found, in its direction only, and nothing else is. */
#include <string.h>
#include "protocol/msg.h"
#include "tests/unit/protocol/util.h"

START_TEST(every_message_is_found)
{
	for (int i = 0; i < MSG_COUNT; i++) {
		const struct msg_info *m = &msg_infos[i];
		enum msg_dir other = m->dir == MSG_TO_DAEMON ? MSG_TO_CLIENT : MSG_TO_DAEMON;
		ck_assert_ptr_nonnull(m->name);
		ck_assert_int_eq(msg_find(m->name, strlen(m->name), m->dir), i);
		ck_assert_int_eq(msg_find(m->name, strlen(m->name), other), -1);
		ck_assert_int_eq(msg_find(m->name, strlen(m->name) - 1, m->dir), -1);
		ck_assert_int_eq(msg_find(m->name, strlen(m->name) + 1, m->dir), -1);
	}
}
END_TEST

START_TEST(nothing_else_is_found)
{
	static const char *const names[] = {"", "nonsense", "Hello", "task", "task.", "hello "};
	for (size_t i = 0; i < N_OF(names); i++) {
		ck_assert_int_eq(msg_find(names[i], strlen(names[i]), MSG_TO_DAEMON), -1);
		ck_assert_int_eq(msg_find(names[i], strlen(names[i]), MSG_TO_CLIENT), -1);
	}
	ck_assert_int_eq(msg_find("hel\0o", 5, MSG_TO_DAEMON), -1);
}
END_TEST

START_TEST(clients_alone_send_requests_and_only_hello_comes_early)
{
	for (int i = 0; i < MSG_COUNT; i++) {
		const struct msg_info *m = &msg_infos[i];
		if (m->dir == MSG_TO_CLIENT)
			ck_assert_int_eq(m->kind, MSG_NOTIFICATION);
		ck_assert_int_eq(m->early, i == MSG_HELLO || i == MSG_ERROR);
	}
}
END_TEST

/* A new message must say what it needs; what anybody may send is listed here. */
START_TEST(every_message_needs_a_role_but_these)
{
	static const int free[] = {MSG_HELLO, MSG_PING, MSG_HEARTBEAT, MSG_GOODBYE};
	for (int i = 0; i < MSG_COUNT; i++) {
		const struct msg_info *m = &msg_infos[i];
		bool listed = m->dir == MSG_TO_CLIENT;
		for (size_t k = 0; k < N_OF(free); k++)
			listed = listed || free[k] == i;
		ck_assert_msg((m->role == ROLE_NONE) == listed, "%s", m->name);
		if (listed)
			ck_assert_int_eq(m->scope, SCOPE_NONE);
	}
	for (int r = 0; r < ROLE_COUNT; r++)
		ck_assert_ptr_nonnull(role_names[r]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("msg");
	TCase *t = tcase_create("msg");
	tcase_add_test(t, every_message_is_found);
	tcase_add_test(t, nothing_else_is_found);
	tcase_add_test(t, clients_alone_send_requests_and_only_hello_comes_early);
	tcase_add_test(t, every_message_needs_a_role_but_these);
	suite_add_tcase(s, t);
	return run_suite(s);
}
