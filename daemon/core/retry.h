/* When to try again. Pure: the random number comes from the caller. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum backoff_kind { BACKOFF_NONE, BACKOFF_LINEAR, BACKOFF_EXPONENTIAL, BACKOFF_FIBONACCI, BACKOFF_COUNT };
extern const char *const backoff_names[BACKOFF_COUNT];
int backoff_parse(const char *name); /* the kind, or -1 */

struct retry_policy {
	enum backoff_kind backoff;
	uint32_t base_ms, max_ms;
};

/* Milliseconds to wait after failed attempt `attempt` (1 = the first): none 0; linear base*n; exponential
 * base*2^(n-1); fibonacci base*fib(n) with fib 1,1,2,3,5...; then +-15 % jitter by `random` (uniform over
 * 0..UINT32_MAX), then the cap: never above max_ms. No overflow for any attempt. */
uint64_t retry_delay_ms(const struct retry_policy *p, unsigned attempt, uint32_t random);
/* The delay a handler asked for, capped by configuration. */
uint64_t retry_after_capped_ms(uint64_t asked_ms, uint64_t cap_ms);
