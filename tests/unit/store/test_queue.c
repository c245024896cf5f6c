/* How what waits is shared among the store's threads, which do not run here: the test is the first of them. */
#include <check.h>
#include <stdlib.h>
#include "daemon/store/store_impl.h"

#define MAX 500

static struct store *s;
static struct req *taken[MAX];

static void set_up(void)
{
	s = calloc(1, sizeof *s);
	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(pthread_mutex_init(&s->lock, NULL), 0);
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(pthread_cond_init(&s->wake[i], NULL), 0);
	store_list_init(&s->hot);
	store_list_init(&s->api);
	s->cfg.batch_max = MAX;
	s->n_threads = 4;
	s->adopted = true;
}

static void tear_down(void)
{
	for (int i = 0; i < 16; i++)
		pthread_cond_destroy(&s->wake[i]);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct row {
	int idle; /* threads beside the one that takes */
	size_t waiting, batch_max, taken;
} rows[] = {
	{0, 200, MAX, 200}, /* the others are at work: whoever comes takes all */
	{1, 200, MAX, 100},
	{1, 201, MAX, 101},
	{3, 400, MAX, 100},
	{3, 200, MAX, 64}, /* less is not worth a call of its own */
	{1, 40, MAX, 40},
	{1, 200, 50, 50},
	{0, 200, 50, 50},
};

START_TEST(a_fair_part)
{
	const struct row *row = &rows[_i];
	struct worker w = {.s = s, .index = 0};
	bool api = true;
	s->cfg.batch_max = (int)row->batch_max;
	for (size_t i = 0; i < row->waiting; i++)
		store_submit(s, req_new(REQ_RESULT, (struct origin){0}));
	for (int i = 1; i <= row->idle; i++)
		store_set_idle(s, i);
	ck_assert_uint_eq(store_take(&w, taken, &api), row->taken);
	ck_assert(!api);
	ck_assert_uint_eq(s->hot.n, row->waiting - row->taken);
	/* another is woken for the rest */
	ck_assert_int_eq(s->n_idle, s->hot.n && row->idle ? row->idle - 1 : row->idle);
	for (size_t n = row->taken; n > 0; n = s->hot.n ? store_take(&w, taken, &api) : 0)
		for (size_t i = 0; i < n; i++)
			req_free(taken[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("queue");
	TCase *t = tcase_create("queue");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, a_fair_part, 0, (int)(sizeof rows / sizeof *rows));
	suite_add_tcase(suite, t);
	SRunner *sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
