/* The mailbox between threads: nothing is lost, nothing is out of order for one sender, and the descriptor wakes the
 * reader for all that is there. */
#include <check.h>
#include <poll.h>
#include <stdlib.h>
#include "daemon/base/mailbox.h"

#define SENDERS 4
#define EACH 20000

struct item {
	struct mail mail;
	int sender, number;
};

static struct mailbox box;

static void *send_all(void *arg)
{
	int sender = *(int *)arg;
	for (int i = 0; i < EACH; i++) {
		struct item *it = calloc(1, sizeof *it);
		if (!it)
			abort();
		it->sender = sender;
		it->number = i;
		mailbox_push(&box, &it->mail);
	}
	return NULL;
}

/* Sleeps in poll between takes, as the loop does: a wake-up that is lost hangs here until the test's time is over. */
START_TEST(all_arrive_in_order)
{
	pthread_t threads[SENDERS];
	int ids[SENDERS], next[SENDERS] = {0}, got = 0, out_of_order = 0;
	ck_assert_int_eq(mailbox_init(&box), 0);
	for (int i = 0; i < SENDERS; i++) {
		ids[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, send_all, &ids[i]), 0);
	}
	while (got < SENDERS * EACH) {
		struct pollfd p = {.fd = box.fd, .events = POLLIN};
		ck_assert_int_ge(poll(&p, 1, -1), 0);
		for (struct mail *m = mailbox_take(&box), *after; m; m = after) {
			after = m->next;
			struct item *it = (struct item *)m;
			out_of_order += it->number != next[it->sender]++;
			got++;
			free(it);
		}
	}
	for (int i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(out_of_order, 0);
	ck_assert_uint_eq(mailbox_depth(&box), 0);
	mailbox_done(&box);
}
END_TEST

START_TEST(empty_is_quiet)
{
	ck_assert_int_eq(mailbox_init(&box), 0);
	struct item it = {0};
	struct pollfd p = {.fd = box.fd, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	mailbox_push(&box, &it.mail);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_ptr_eq(mailbox_take(&box), &it.mail);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_ptr_null(mailbox_take(&box));
	ck_assert_ptr_null(mailbox_wait(&box, 0));
	mailbox_close(&box);
	ck_assert_int_ne(mailbox_is_closed(&box), 0);
	ck_assert_ptr_null(mailbox_wait(&box, -1));
	mailbox_done(&box);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mailbox");
	TCase *t = tcase_create("threads");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, all_arrive_in_order);
	tcase_add_test(t, empty_is_quiet);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
