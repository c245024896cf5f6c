/* The arithmetic of waiting. Pure functions of their arguments: no clock, no random source, any thread.
 *
 * A delay is computed in 64 bits and cut at RAW_LIMIT on the way. That is far enough above any cap (2^32 - 1
 * ms) that the jitter cannot bring a cut delay below the cap again, and low enough that no product overflows.
 */
#include "daemon/core/retry.h"

#include <string.h>

#define RAW_LIMIT (1ULL << 33)
#define JITTER_PERCENT 15

const char *const backoff_names[BACKOFF_COUNT] = {
	[BACKOFF_NONE] = "none",
	[BACKOFF_LINEAR] = "linear",
	[BACKOFF_EXPONENTIAL] = "exponential",
	[BACKOFF_FIBONACCI] = "fibonacci",
};

int backoff_parse(const char *name)
{
	for (int i = 0; i < BACKOFF_COUNT; i++)
		if (strcmp(backoff_names[i], name) == 0)
			return i;
	return -1;
}

static uint64_t cut(uint64_t ms)
{
	return ms < RAW_LIMIT ? ms : RAW_LIMIT;
}

static uint64_t raw_none(uint64_t base, unsigned attempt)
{
	(void)base;
	(void)attempt;
	return 0;
}

static uint64_t raw_linear(uint64_t base, unsigned attempt)
{
	return cut(base * attempt); /* both below 2^32 */
}

static uint64_t raw_exponential(uint64_t base, unsigned attempt)
{
	uint64_t ms = base;
	for (unsigned n = 1; n < attempt && ms > 0 && ms < RAW_LIMIT; n++)
		ms *= 2;
	return cut(ms);
}

static uint64_t raw_fibonacci(uint64_t base, unsigned attempt)
{
	uint64_t before = 0, ms = base;
	for (unsigned n = 1; n < attempt && ms > 0 && ms < RAW_LIMIT; n++) {
		uint64_t next = before + ms;
		before = ms;
		ms = next;
	}
	return cut(ms);
}

static uint64_t (*const raw_delay[BACKOFF_COUNT])(uint64_t base, unsigned attempt) = {
	[BACKOFF_NONE] = raw_none,
	[BACKOFF_LINEAR] = raw_linear,
	[BACKOFF_EXPONENTIAL] = raw_exponential,
	[BACKOFF_FIBONACCI] = raw_fibonacci,
};

uint64_t retry_delay_ms(const struct retry_policy *p, unsigned attempt, uint32_t random)
{
	if ((unsigned)p->backoff >= BACKOFF_COUNT)
		return 0;
	uint64_t raw = raw_delay[p->backoff](p->base_ms, attempt > 0 ? attempt : 1);
	uint64_t swing = raw * JITTER_PERCENT / 100;
	uint64_t ms = raw - swing + 2 * swing * random / UINT32_MAX;
	return ms < p->max_ms ? ms : p->max_ms;
}

uint64_t retry_after_capped_ms(uint64_t asked_ms, uint64_t cap_ms)
{
	return asked_ms < cap_ms ? asked_ms : cap_ms;
}
