#include "daemon/schema/charset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct range digits[] = {{'0', '9'}};
static const struct range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range spaces[] = {
    {'\t', '\r'},     {' ', ' '},	{0xa0, 0xa0},	  {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
    {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff},
};
static const struct range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

#define CLASS(letter, list) {letter, list, sizeof(list) / sizeof *(list)}
static const struct {
	char letter;
	const struct range *ranges;
	size_t n;
} classes[] = {CLASS('d', digits), CLASS('w', words), CLASS('s', spaces), CLASS('.', line_ends)};

int charset_add(struct charset *s, uint32_t lo, uint32_t hi)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 8;
		struct range *p = reallocarray(s->ranges, cap, sizeof *p);
		if (!p)
			return -ENOMEM;
		s->ranges = p;
		s->cap = cap;
	}
	s->ranges[s->n++] = (struct range){lo, hi};
	return 0;
}

static int add_others(struct charset *s, const struct range *ranges, size_t n)
{
	uint32_t from = 0;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; from = ranges[i++].hi + 1)
		if (ranges[i].lo > from)
			rc = charset_add(s, from, ranges[i].lo - 1);
	return rc == 0 && from <= CODE_POINT_MAX ? charset_add(s, from, CODE_POINT_MAX) : rc;
}

int charset_add_class(struct charset *s, char letter)
{
	for (size_t k = 0; k < sizeof classes / sizeof *classes; k++) {
		bool others = letter == '.' || (letter >= 'A' && letter == (char)(classes[k].letter - 32));
		int rc = 0;
		if (letter != classes[k].letter && !others)
			continue;
		if (letter == '.' && classes[k].letter != '.')
			continue;
		if (others)
			return add_others(s, classes[k].ranges, classes[k].n);
		for (size_t i = 0; rc == 0 && i < classes[k].n; i++)
			rc = charset_add(s, classes[k].ranges[i].lo, classes[k].ranges[i].hi);
		return rc;
	}
	return 1;
}

static int by_start(const void *va, const void *vb)
{
	const struct range *a = va, *b = vb;
	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

int charset_finish(struct charset *s, bool negated)
{
	uint32_t n = 0;
	if (s->n > 0)
		qsort(s->ranges, s->n, sizeof *s->ranges, by_start);
	for (uint32_t i = 0; i < s->n; i++) {
		if (n > 0 && s->ranges[i].lo <= s->ranges[n - 1].hi + 1) {
			if (s->ranges[i].hi > s->ranges[n - 1].hi)
				s->ranges[n - 1].hi = s->ranges[i].hi;
		} else {
			s->ranges[n++] = s->ranges[i];
		}
	}
	s->n = n;
	if (negated) {
		struct charset other = {0};
		int rc = add_others(&other, s->ranges, s->n);
		free(s->ranges);
		*s = other;
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; i < s->n; i++)
		for (uint32_t c = s->ranges[i].lo; c <= s->ranges[i].hi && c < 128; c++)
			s->ascii[c / 32] |= 1u << c % 32;
	return 0;
}

bool charset_has(const struct charset *s, uint32_t c)
{
	if (c < 128)
		return s->ascii[c / 32] >> c % 32 & 1;
	uint32_t lo = 0, hi = s->n;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (c < s->ranges[mid].lo)
			hi = mid;
		else if (c > s->ranges[mid].hi)
			lo = mid + 1;
		else
			return true;
	}
	return false;
}

void charset_free(struct charset *sets, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free(sets[i].ranges);
	free(sets);
}
