/* UTF-8 checks for text from outside. Stateless, any thread, no allocation. ASCII, which is nearly all that
 * is ever sent, goes eight bytes at a time. */
#include "protocol/utf8.h"

#include <stdint.h>
#include <string.h>

static size_t ascii_span(const unsigned char *p, size_t n)
{
	size_t i = 0;
	for (uint64_t w; n - i >= sizeof w; i += sizeof w) {
		memcpy(&w, p + i, sizeof w);
		if (w & 0x8080808080808080ULL)
			break;
	}
	while (i < n && p[i] < 0x80)
		i++;
	return i;
}

/* Lead byte -> how many continuation bytes follow, and the range of the first of them (which is where
 * overlong forms, surrogates and values above U+10FFFF show). */
struct lead {
	unsigned char first, last, more, lo, hi;
};
static const struct lead leads[] = {
    {0xC2, 0xDF, 1, 0x80, 0xBF}, {0xE0, 0xE0, 2, 0xA0, 0xBF}, {0xE1, 0xEC, 2, 0x80, 0xBF},
    {0xED, 0xED, 2, 0x80, 0x9F}, {0xEE, 0xEF, 2, 0x80, 0xBF}, {0xF0, 0xF0, 3, 0x90, 0xBF},
    {0xF1, 0xF3, 3, 0x80, 0xBF}, {0xF4, 0xF4, 3, 0x80, 0x8F},
};

/* Length of the multibyte character at `p`, or 0 if there is none. */
static size_t multibyte(const unsigned char *p, size_t n)
{
	const struct lead *l = leads, *end = leads + sizeof leads / sizeof *leads;
	while (l < end && p[0] > l->last)
		l++;
	if (l == end || p[0] < l->first || n < 1u + l->more)
		return 0;
	if (p[1] < l->lo || p[1] > l->hi)
		return 0;
	for (size_t i = 2; i <= l->more; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	return 1u + l->more;
}

size_t utf8_span(const void *data, size_t n)
{
	const unsigned char *p = data;
	size_t i = 0;
	while (i < n) {
		size_t m = ascii_span(p + i, n - i);
		if (m == 0)
			m = multibyte(p + i, n - i);
		if (m == 0)
			return i;
		i += m;
	}
	return n;
}

size_t utf8_prefix(const void *data, size_t n, size_t max)
{
	const unsigned char *p = data;
	if (n <= max)
		return n;
	while (max > 0 && (p[max] & 0xC0) == 0x80)
		max--;
	return max;
}

size_t utf8_copy(char *to, size_t size, const void *p, size_t n)
{
	n = utf8_prefix(p, n, size - 1);
	if (n > 0)
		memcpy(to, p, n);
	to[n] = '\0';
	return n;
}

void utf8_scrub(char *s)
{
	size_t n = strlen(s), kept = 0;
	for (size_t at = 0; at < n; at++) {
		size_t good = utf8_span(s + at, n - at);
		if (good > 0)
			memmove(s + kept, s + at, good);
		kept += good;
		at += good; /* and past the byte that is not good */
	}
	s[kept] = '\0';
}
