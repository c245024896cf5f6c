/* Seeded random numbers for tests (SplitMix64), the same everywhere. TASKERD_SEED replays one case. */
#pragma once
#include <stdint.h>
#include <stdlib.h>

static inline uint64_t rng_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* Below `n`, which is not 0. */
static inline unsigned rng_below(uint64_t *state, unsigned n)
{
	return (unsigned)(rng_next(state) % n);
}

/* The seed asked for by the environment, or 0. */
static inline uint64_t rng_asked_seed(void)
{
	const char *text = getenv("TASKERD_SEED");
	return text ? strtoull(text, NULL, 0) : 0;
}
