/* Delays against a model that computes each one the long way, in numbers wide enough for everything. */
#include <check.h>
#include <string.h>
#include "daemon/core/retry.h"
#include "tests/unit/core/rng.h"

__extension__ typedef unsigned __int128 wide;

#define WIDE_LIMIT ((wide)1 << 90) /* the model stops growing here: beyond any cap, far from overflow */

static wide naive_raw(enum backoff_kind kind, wide base, unsigned attempt)
{
	wide a = base, b = base; /* fib(1), fib(2) */
	if (base == 0)
		return 0;
	switch (kind) {
	case BACKOFF_LINEAR:
		return base * attempt;
	case BACKOFF_EXPONENTIAL:
		for (unsigned n = 1; n < attempt && a < WIDE_LIMIT; n++)
			a *= 2;
		return a;
	case BACKOFF_FIBONACCI:
		for (unsigned n = 1; n < attempt && a < WIDE_LIMIT; n++) {
			wide next = a + b;
			a = b;
			b = next;
		}
		return a;
	case BACKOFF_NONE:
	case BACKOFF_COUNT:
		break;
	}
	return 0;
}

/* raw * (0.85 .. 1.15) by `random`, in 1/100 * 1/UINT32_MAX units, and the cap. */
static wide naive_delay(const struct retry_policy *p, unsigned attempt, uint32_t random)
{
	wide raw = naive_raw(p->backoff, p->base_ms, attempt ? attempt : 1);
	if (raw > WIDE_LIMIT / 256)
		return p->max_ms;
	wide jittered = raw * 85 / 100 + raw * 30 * random / 100 / UINT32_MAX;
	return jittered < p->max_ms ? jittered : p->max_ms;
}

/* Rounding may differ by a millisecond or two between the ways of computing, never more. */
static void check_delay(const struct retry_policy *p, unsigned attempt, uint32_t random)
{
	uint64_t got = retry_delay_ms(p, attempt, random), want = (uint64_t)naive_delay(p, attempt, random);
	uint64_t apart = got > want ? got - want : want - got;
	if (apart > 2 || got > p->max_ms)
		ck_abort_msg("%s base %u max %u attempt %u random %u: %llu, not %llu",
			     backoff_names[p->backoff], p->base_ms, p->max_ms, attempt, random,
			     (unsigned long long)got, (unsigned long long)want);
}

static const uint32_t edges[] = {0,         1,     2,       3,        99,       100,      999,
				 1000,      30000, 3600000, 1u << 16, 1u << 30, 1u << 31, UINT32_MAX - 1,
				 UINT32_MAX};
#define N_EDGES (sizeof edges / sizeof *edges)
static const unsigned attempts[] = {0,         1,  2,   3,   4,   5,    10,       20,       31,
				    32,        33, 34,  35,  46,  47,   48,       49,       63,
				    64,        65, 100, 127, 128, 1000, 1u << 16, 1u << 31, UINT32_MAX - 1,
				    UINT32_MAX};
#define N_ATTEMPTS (sizeof attempts / sizeof *attempts)

START_TEST(edges_of_everything)
{
	static const uint32_t randoms[] = {0, 1, 1u << 31, UINT32_MAX};
	for (unsigned b = 0; b < N_EDGES; b++)
		for (unsigned m = 0; m < N_EDGES; m++)
			for (unsigned a = 0; a < N_ATTEMPTS; a++)
				for (unsigned r = 0; r < 4; r++) {
					struct retry_policy p = {(enum backoff_kind)_i, edges[b], edges[m]};
					check_delay(&p, attempts[a], randoms[r]);
				}
}
END_TEST

START_TEST(random_policies)
{
	uint64_t seed = 23 + (uint64_t)_i;
	for (int i = 0; i < 50000; i++) {
		struct retry_policy p = {(enum backoff_kind)_i,
					 (uint32_t)(rng_next(&seed) >> rng_below(&seed, 33)) >>
						 rng_below(&seed, 32),
					 (uint32_t)rng_next(&seed) >> rng_below(&seed, 32)};
		check_delay(&p, rng_below(&seed, 120), (uint32_t)rng_next(&seed));
	}
}
END_TEST

/* Without jitter in the way (the middle of the range) the sequences are the documented ones. */
static const struct {
	enum backoff_kind kind;
	uint64_t want[7];
} sequences[] = {
	{BACKOFF_NONE, {0, 0, 0, 0, 0, 0, 0}},
	{BACKOFF_LINEAR, {1000, 2000, 3000, 4000, 5000, 6000, 7000}},
	{BACKOFF_EXPONENTIAL, {1000, 2000, 4000, 8000, 16000, 32000, 60000}},
	{BACKOFF_FIBONACCI, {1000, 1000, 2000, 3000, 5000, 8000, 13000}},
};

START_TEST(documented_sequences)
{
	struct retry_policy p = {sequences[_i].kind, 1000, 60000};
	for (unsigned n = 1; n <= 7; n++) {
		uint64_t ms = retry_delay_ms(&p, n, UINT32_MAX / 2 + 1);
		ck_assert_uint_eq(ms, sequences[_i].want[n - 1]);
	}
}
END_TEST

START_TEST(jitter_is_fifteen_percent_each_way)
{
	struct retry_policy p = {BACKOFF_LINEAR, 10000, UINT32_MAX};
	uint64_t seed = 5, low = UINT64_MAX, high = 0;
	ck_assert_uint_eq(retry_delay_ms(&p, 1, 0), 8500);
	ck_assert_uint_eq(retry_delay_ms(&p, 1, UINT32_MAX), 11500);
	for (int i = 0; i < 100000; i++) {
		uint64_t ms = retry_delay_ms(&p, 1, (uint32_t)rng_next(&seed));
		low = ms < low ? ms : low;
		high = ms > high ? ms : high;
	}
	ck_assert_uint_ge(low, 8500);
	ck_assert_uint_lt(low, 8510);
	ck_assert_uint_le(high, 11500);
	ck_assert_uint_gt(high, 11490);
}
END_TEST

START_TEST(longer_luck_never_waits_less)
{
	for (int k = 0; k < BACKOFF_COUNT; k++) {
		struct retry_policy p = {(enum backoff_kind)k, 777, 5000000};
		for (unsigned n = 1; n < 200; n++) {
			uint64_t before = 0;
			for (uint64_t r = 0; r <= UINT32_MAX; r += UINT32_MAX / 64) {
				uint64_t ms = retry_delay_ms(&p, n, (uint32_t)r);
				if (ms < before)
					ck_abort_msg("attempt %u: less at random %llu", n,
						     (unsigned long long)r);
				before = ms;
			}
		}
	}
}
END_TEST

START_TEST(the_cap_comes_after_the_jitter)
{
	struct retry_policy p = {BACKOFF_EXPONENTIAL, 1000, 8000};
	ck_assert_uint_eq(retry_delay_ms(&p, 4, UINT32_MAX), 8000);
	ck_assert_uint_eq(retry_delay_ms(&p, 4, 0), 6800);
	for (unsigned n = 5; n < 300; n++)
		ck_assert_uint_eq(retry_delay_ms(&p, n, 0), 8000);
	p.max_ms = UINT32_MAX;
	ck_assert_uint_eq(retry_delay_ms(&p, UINT32_MAX, 0), UINT32_MAX);
}
END_TEST

START_TEST(an_unknown_kind_does_not_wait)
{
	struct retry_policy p = {BACKOFF_COUNT, 1000, 8000};
	ck_assert_uint_eq(retry_delay_ms(&p, 3, 7), 0);
}
END_TEST

START_TEST(asked_delays_are_capped)
{
	ck_assert_uint_eq(retry_after_capped_ms(0, 100), 0);
	ck_assert_uint_eq(retry_after_capped_ms(99, 100), 99);
	ck_assert_uint_eq(retry_after_capped_ms(100, 100), 100);
	ck_assert_uint_eq(retry_after_capped_ms(101, 100), 100);
	ck_assert_uint_eq(retry_after_capped_ms(UINT64_MAX, 100), 100);
	ck_assert_uint_eq(retry_after_capped_ms(UINT64_MAX, UINT64_MAX), UINT64_MAX);
	ck_assert_uint_eq(retry_after_capped_ms(5, 0), 0);
}
END_TEST

START_TEST(names)
{
	for (int k = 0; k < BACKOFF_COUNT; k++)
		ck_assert_int_eq(backoff_parse(backoff_names[k]), k);
	ck_assert_str_eq(backoff_names[BACKOFF_EXPONENTIAL], "exponential");
	ck_assert_int_eq(backoff_parse(""), -1);
	ck_assert_int_eq(backoff_parse("Linear"), -1);
	ck_assert_int_eq(backoff_parse("linear "), -1);
	ck_assert_int_eq(backoff_parse("line"), -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("retry");
	TCase *tc = tcase_create("retry");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, edges_of_everything, 0, BACKOFF_COUNT);
	tcase_add_loop_test(tc, random_policies, 0, BACKOFF_COUNT);
	tcase_add_loop_test(tc, documented_sequences, 0, sizeof sequences / sizeof *sequences);
	tcase_add_test(tc, jitter_is_fifteen_percent_each_way);
	tcase_add_test(tc, longer_luck_never_waits_less);
	tcase_add_test(tc, the_cap_comes_after_the_jitter);
	tcase_add_test(tc, an_unknown_kind_does_not_wait);
	tcase_add_test(tc, asked_delays_are_capped);
	tcase_add_test(tc, names);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
