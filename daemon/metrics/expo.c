#include "daemon/metrics/expo.h"

#include <stdio.h>
#include <string.h>
#include "protocol/mp.h"

const char *const expo_format_names[EXPO_COUNT] =
	{[EXPO_PROMETHEUS] = "prometheus", [EXPO_OPENMETRICS] = "openmetrics", [EXPO_VALUES] = "values"};
const char *const expo_content_types[EXPO_COUNT] =
	{[EXPO_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
         [EXPO_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8"};
static const char *const type_names[] =
	{[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

void expo_begin(struct expo *x, enum expo_format format, struct buf *out)
{
	*x = (struct expo){.out = out, .format = format};
	if (format == EXPO_VALUES)
		x->families = mp_array_open(out);
}

static void close_family(struct expo *x)
{
	if (x->open && x->format == EXPO_VALUES)
		mp_array_close(x->out, x->samples, x->n_samples);
	x->open = false;
}

void expo_end(struct expo *x)
{
	close_family(x);
	if (x->format == EXPO_VALUES)
		mp_array_close(x->out, x->families, x->n_families);
	else if (x->format == EXPO_OPENMETRICS)
		buf_append_str(x->out, "# EOF\n");
}

static void put_pair(struct buf *b, const char *key, const char *value)
{
	mp_str(b, key);
	mp_str(b, value);
}

/* Counters are called ..._total; OpenMetrics leaves that out where it names the family. */
static const char *suffix(const struct expo *x)
{
	return x->type == METRIC_COUNTER ? "_total" : "";
}

static void open_values(struct expo *x, const char *unit, const char *help)
{
	char name[128];
	snprintf(name, sizeof name, "%s%s", x->name, suffix(x));
	mp_map(x->out, unit ? 5 : 4);
	put_pair(x->out, "name", name);
	put_pair(x->out, "type", type_names[x->type]);
	put_pair(x->out, "help", help);
	if (unit)
		put_pair(x->out, "unit", unit);
	mp_str(x->out, "samples");
	x->samples = mp_array_open(x->out);
	x->n_samples = 0;
	x->n_families++;
}

void expo_family(struct expo *x, const char *name, enum metric_type type, const char *unit, const char *help)
{
	close_family(x);
	x->name = name;
	x->type = type;
	x->open = true;
	if (x->format == EXPO_VALUES) {
		open_values(x, unit, help);
		return;
	}
	const char *end = x->format == EXPO_PROMETHEUS ? suffix(x) : "";
	buf_printf(x->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, end, help, name, end, type_names[type]);
	if (unit && x->format == EXPO_OPENMETRICS)
		buf_printf(x->out, "# UNIT %s %s\n", name, unit);
}

static bool is_whole(double v)
{
	return v > -9007199254740992.0 && v < 9007199254740992.0 && (double)(int64_t)v == v;
}

static void put_number(struct buf *b, double v)
{
	if (is_whole(v))
		buf_printf(b, "%.0f", v);
	else
		buf_printf(b, "%.12g", v);
}

static void put_escaped(struct buf *b, const char *s)
{
	for (; *s; s++)
		if (*s == '\n')
			buf_append_str(b, "\\n");
		else if (*s == '"' || *s == '\\')
			buf_printf(b, "\\%c", *s);
		else
			buf_append_char(b, *s);
}

/* {a="b",...}, with `le` as the last one unless it is NULL. */
static void put_labels(struct buf *b, const struct label *labels, size_t n, const char *le)
{
	if (n == 0 && !le)
		return;
	buf_append_char(b, '{');
	for (size_t i = 0; i < n; i++) {
		buf_printf(b, "%s%s=\"", i ? "," : "", labels[i].name);
		put_escaped(b, labels[i].value);
		buf_append_char(b, '"');
	}
	if (le)
		buf_printf(b, "%sle=\"%s\"", n ? "," : "", le);
	buf_append_char(b, '}');
}

static void put_line(struct expo *x, const char *end, const struct label *labels, size_t n, const char *le, double v)
{
	buf_printf(x->out, "%s%s", x->name, end);
	put_labels(x->out, labels, n, le);
	buf_append_char(x->out, ' ');
	put_number(x->out, v);
	buf_append_char(x->out, '\n');
}

static void put_label_map(struct buf *b, const struct label *labels, size_t n)
{
	mp_str(b, "labels");
	mp_map(b, n);
	for (size_t i = 0; i < n; i++)
		put_pair(b, labels[i].name, labels[i].value);
}

/* Whole numbers as such, so that they are read without a fraction. */
static void put_value(struct buf *b, double v)
{
	if (is_whole(v))
		mp_int(b, (int64_t)v);
	else
		mp_double(b, v);
}

void expo_sample(struct expo *x, const struct label *labels, size_t n, double v)
{
	x->n_samples++;
	if (x->format != EXPO_VALUES) {
		put_line(x, suffix(x), labels, n, NULL, v);
		return;
	}
	mp_map(x->out, 2);
	put_label_map(x->out, labels, n);
	mp_str(x->out, "value");
	put_value(x->out, v);
}

/* As OpenMetrics wants it: a number with a point. */
static void format_bound(const struct expo *x, double v, char *out, size_t size)
{
	int n = snprintf(out, size, "%.12g", v);
	if (x->format == EXPO_OPENMETRICS && !strpbrk(out, ".e") && (size_t)n + 3 < size)
		memcpy(out + n, ".0", 3);
}

static void histogram_values(struct expo *x, const struct label *labels, size_t n, const struct histogram *h,
                             const struct histogram_kind *k)
{
	uint64_t count = 0;
	mp_map(x->out, 4);
	put_label_map(x->out, labels, n);
	mp_str(x->out, "buckets"); /* [largest value, how many so far] */
	mp_array(x->out, HISTOGRAM_BUCKETS);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		count += h->buckets[i];
		mp_array(x->out, 2);
		mp_double(x->out, (double)k->bounds[i] * k->scale);
		mp_uint(x->out, count);
	}
	mp_str(x->out, "count");
	mp_uint(x->out, count + h->buckets[HISTOGRAM_BUCKETS]);
	mp_str(x->out, "sum");
	mp_double(x->out, (double)h->sum * k->scale);
}

void expo_histogram(struct expo *x, const struct label *labels, size_t n, const struct histogram *h,
                    const struct histogram_kind *k)
{
	char le[40];
	uint64_t count = 0;
	x->n_samples++;
	if (x->format == EXPO_VALUES) {
		histogram_values(x, labels, n, h, k);
		return;
	}
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		count += h->buckets[i];
		format_bound(x, (double)k->bounds[i] * k->scale, le, sizeof le);
		put_line(x, "_bucket", labels, n, le, (double)count);
	}
	count += h->buckets[HISTOGRAM_BUCKETS];
	put_line(x, "_bucket", labels, n, "+Inf", (double)count);
	put_line(x, "_sum", labels, n, NULL, (double)h->sum * k->scale);
	put_line(x, "_count", labels, n, NULL, (double)count);
}
