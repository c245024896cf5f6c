/* The metrics library: who gets a series, what falls into a bucket, and what is written. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/metrics/expo.h"
#include "daemon/metrics/series.h"
#include "protocol/mp.h"

START_TEST(the_first_have_series)
{
	const char *ns, *name;
	struct series *s = series_new(2);
	ck_assert_uint_eq(series_of(s, "a", "x"), 1);
	ck_assert_uint_eq(series_of(s, "b", "x"), 2);
	ck_assert_uint_eq(series_of(s, "a", "x"), 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(series_of(s, "c", "x"), 0);
		ck_assert_uint_eq(series_of(s, "ax", ""), 0);
	}
	ck_assert_uint_eq(series_folded(s), 2);
	ck_assert_uint_eq(series_count(s), 2);
	series_names(s, 2, &ns, &name);
	ck_assert_str_eq(ns, "b");
	ck_assert_str_eq(name, "x");
	series_names(s, 0, &ns, &name);
	ck_assert_str_eq(name, "other");
	ck_assert_uint_eq(series_of(NULL, "a", "x"), 0);
	series_free(s);
}
END_TEST

/* One that is called like the others is one of them, and names that are too long are. */
START_TEST(odd_names)
{
	char name[600];
	struct series *s = series_new(10);
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	ck_assert_uint_eq(series_of(s, "other", "other"), 0);
	ck_assert_uint_eq(series_of(s, "other", "x"), 1);
	ck_assert_uint_eq(series_of(s, "x", name), 0);
	ck_assert_uint_eq(series_folded(s), 0);
	series_free(s);
}
END_TEST

static void *ask_all(void *arg)
{
	char name[16];
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "%u", i % 500);
		ck_assert_uint_le(series_of(arg, "n", name), 100);
	}
	return NULL;
}

START_TEST(many_threads)
{
	pthread_t t[4];
	struct series *s = series_new(100);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, ask_all, s), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(series_count(s), 100);
	ck_assert_uint_eq(series_folded(s), 400);
	series_free(s);
}
END_TEST

static const struct histogram_kind kind = {{1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10000, 20000, 30000,
                                            40000},
                                           1e-3};

static char *write_all(enum expo_format format, struct buf *b)
{
	struct expo x;
	struct histogram h = {0};
	const struct label odd[] = {{"a", "q\"b\\n\n"}, {"b", "é"}};
	histogram_add(&h, &kind, 1000);
	histogram_add(&h, &kind, 1001);
	histogram_add(&h, &kind, 50000);
	buf_init(b, 0);
	expo_begin(&x, format, b);
	expo_family(&x, "t_things", METRIC_COUNTER, NULL, "Things.");
	expo_sample(&x, odd, 2, 9007199254740991.0);
	expo_family(&x, "t_age_seconds", METRIC_GAUGE, "seconds", "Age.");
	expo_sample(&x, NULL, 0, 0.25);
	expo_family(&x, "t_run_seconds", METRIC_HISTOGRAM, "seconds", "Run.");
	expo_histogram(&x, odd, 1, &h, &kind);
	expo_end(&x);
	return format == EXPO_VALUES ? NULL : buf_text(b);
}

START_TEST(prometheus)
{
	struct buf b;
	const char *text = write_all(EXPO_PROMETHEUS, &b);
	ck_assert_ptr_nonnull(strstr(
		text,
		"# HELP t_things_total Things.\n# TYPE t_things_total counter\nt_things_total{a=\"q\\\"b\\\\n\\n\",b=\"é\"} 9007199254740991\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nt_age_seconds 0.25\n"));
	ck_assert_ptr_nonnull(strstr(text, "t_run_seconds_bucket{a=\"q\\\"b\\\\n\\n\",le=\"1\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(text, ",le=\"2\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(text, ",le=\"40\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(text, ",le=\"+Inf\"} 3\n"));
	ck_assert_ptr_nonnull(strstr(text, "t_run_seconds_sum{a=\"q\\\"b\\\\n\\n\"} 52.001\n"));
	ck_assert_ptr_null(strstr(text, "EOF"));
	buf_done(&b);
}
END_TEST

START_TEST(openmetrics)
{
	struct buf b;
	const char *text = write_all(EXPO_OPENMETRICS, &b);
	ck_assert_ptr_nonnull(strstr(text, "# TYPE t_things counter\nt_things_total{"));
	ck_assert_ptr_nonnull(strstr(text, "# UNIT t_age_seconds seconds\n"));
	ck_assert_ptr_nonnull(strstr(text, ",le=\"1.0\"} 1\n"));
	ck_assert_str_eq(text + strlen(text) - 6, "# EOF\n");
	buf_done(&b);
}
END_TEST

START_TEST(values)
{
	struct buf b;
	struct mp_value v;
	const msgpack_object *samples = NULL, *buckets = NULL;
	int64_t n = 0;
	write_all(EXPO_VALUES, &b);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_uint_eq(v.root.via.array.size, 3);
	ck_assert(mp_str_eq(mp_get(&v.root.via.array.ptr[0], "name"), "t_things_total"));
	ck_assert_int_eq(mp_get_array(&v.root.via.array.ptr[2], "samples", &samples), 1);
	ck_assert_int_eq(mp_get_int(&samples->via.array.ptr[0], "count", 0, 100, &n), 1);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(mp_get_array(&samples->via.array.ptr[0], "buckets", &buckets), 1);
	ck_assert_uint_eq(buckets->via.array.size, HISTOGRAM_BUCKETS);
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

/* Without room the sticky error says so, and nothing worse happens. */
START_TEST(no_room)
{
	struct expo x;
	struct buf b;
	buf_init(&b, 40);
	expo_begin(&x, EXPO_VALUES, &b);
	expo_family(&x, "t_things", METRIC_COUNTER, NULL, "Things that do not fit into forty bytes.");
	expo_sample(&x, NULL, 0, 1);
	expo_end(&x);
	ck_assert_int_ne(b.failed, 0);
	buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("metrics");
	TCase *t = tcase_create("metrics");
	tcase_add_test(t, the_first_have_series);
	tcase_add_test(t, odd_names);
	tcase_add_test(t, many_threads);
	tcase_add_test(t, prometheus);
	tcase_add_test(t, openmetrics);
	tcase_add_test(t, values);
	tcase_add_test(t, no_room);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
