/* Histograms with a fixed number of buckets. Plain numbers of one thread: an observation is a short walk and three
 * additions. */
#pragma once
#include <stdint.h>

#define HISTOGRAM_BUCKETS 13

/* What falls into them, and in which unit it is written. */
struct histogram_kind {
	uint64_t bounds[HISTOGRAM_BUCKETS]; /* the largest value of each, rising */
	/* of one of their units in the unit that is shown: 1e-6 for microseconds as seconds */
	double scale;
};

struct histogram {
	uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last: larger than all bounds */
	uint64_t sum;
};

static inline void histogram_add(struct histogram *h, const struct histogram_kind *k, uint64_t v)
{
	unsigned i = 0;
	while (i < HISTOGRAM_BUCKETS && v > k->bounds[i])
		i++;
	h->buckets[i]++;
	h->sum += v;
}
