/* Writing metrics: family by family, sample by sample, in one of three formats. Text is appended to a growing buffer
 * whose sticky error the caller looks at once. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/metrics/histogram.h"
#include "protocol/buf.h"

enum expo_format {
	EXPO_PROMETHEUS,  /* text exposition format 0.0.4 */
	EXPO_OPENMETRICS, /* 1.0.0 */
	EXPO_VALUES,	  /* MessagePack: an array of {name, type, help, unit, samples} */
	EXPO_COUNT
};
extern const char *const expo_format_names[EXPO_COUNT];
/* Of HTTP; NULL: none. */
extern const char *const expo_content_types[EXPO_COUNT];

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct label {
	const char *name, *value;
};

struct expo {
	struct buf *out;
	enum expo_format format;
	const char *name; /* of the family; of a counter without _total */
	enum metric_type type;
	bool open;
	size_t families, n_families, samples, n_samples; /* EXPO_VALUES: where the counts go, and they */
};

void expo_begin(struct expo *x, enum expo_format format, struct buf *out);
void expo_end(struct expo *x);
/* The samples that follow are of this family. `name` without _total; `unit` (seconds, bytes: the end of the name) or
 * NULL. All must be static texts. */
void expo_family(struct expo *x, const char *name, enum metric_type type, const char *unit, const char *help);
void expo_sample(struct expo *x, const struct label *labels, size_t n, double v);
void expo_histogram(struct expo *x, const struct label *labels, size_t n, const struct histogram *h,
                    const struct histogram_kind *kind);
