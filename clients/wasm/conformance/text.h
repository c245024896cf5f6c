/* A step's input as a module in C reads it. JSON is handled as text, without blanks as the worker writes it: the value
 * of a key, raw, and numbers and strings out of that. */
#ifndef TASKERD_WASM_TEXT_H
#define TASKERD_WASM_TEXT_H
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part of the input. */
struct text {
	const char *p;
	size_t n;
};
static const struct text missing = {"null", 4};

#define RAW(t) (int)(t).n, (t).p

static inline const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

/* The end of the value at `p`. */
static inline const char *skip_value(const char *p)
{
	int depth = 0;
	do {
		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
		p++;
	} while (*p && (depth > 0 || !strchr(",}]", *p)));
	return p;
}

/* The next entry of the map whose inside begins at *p; false at its end. */
static inline bool next_entry(const char **p, struct text *key, struct text *value)
{
	if (**p == ',')
		++*p;
	if (**p != '"')
		return false;
	const char *end = skip_string(*p);
	*key = (struct text){*p + 1, (size_t)(end - *p) - 2};
	value->p = end + 1; /* behind the colon */
	*p = skip_value(value->p);
	value->n = (size_t)(*p - value->p);
	return true;
}

static inline struct text get(struct text map, const char *name)
{
	const char *p = map.p + 1;
	struct text key, value;
	while (map.n > 1 && *map.p == '{' && next_entry(&p, &key, &value))
		if (key.n == strlen(name) && memcmp(key.p, name, key.n) == 0)
			return value;
	return missing;
}

/* An entry of a list. */
static inline struct text item(struct text list, long long i)
{
	const char *p = list.p + 1;
	if (*list.p != '[' || *p == ']' || i < 0)
		return missing;
	for (; i > 0 && *(p = skip_value(p)) == ','; i--)
		p++;
	return i == 0 ? (struct text){p, (size_t)(skip_value(p) - p)} : missing;
}

static inline long long count(struct text list)
{
	long long n = 0;
	while (item(list, n).p != missing.p)
		n++;
	return n;
}

static inline long long number(struct text v, long long otherwise)
{
	return v.n > 0 && strchr("-0123456789", *v.p) ? strtoll(v.p, NULL, 10) : otherwise;
}

static inline bool is(struct text v, const char *what)
{
	return v.n == strlen(what) && memcmp(v.p, what, v.n) == 0;
}

/* All of stdin. */
static inline struct text read_input(void)
{
	size_t size = 1 << 16, n = 0, got;
	char *input = malloc(size);
	while (input && (got = fread(input + n, 1, size - n - 1, stdin)) > 0) {
		n += got;
		if (n == size - 1)
			input = realloc(input, size *= 2);
	}
	if (!input)
		abort();
	input[n] = '\0';
	return (struct text){input, n};
}
#endif
