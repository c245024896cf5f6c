/* Matching of names with `*`: pure, any thread. */
#include "daemon/core/pattern.h"

#include <string.h>

bool pattern_valid(const char *pattern, size_t n)
{
	if (n == 0 || n > PATTERN_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)pattern[i] < 0x20 || pattern[i] == 0x7f)
			return false;
	return true;
}

/* Texts between stars, each at its first place after the one before: what a star could take more, the next one can. */
static bool middle_fits(const char *p, const char *last_star, const char *at, const char *end)
{
	while (p < last_star) {
		const char *star = memchr(p, '*', (size_t)(last_star - p + 1));
		size_t n = (size_t)(star - p);
		const char *hit = n > 0 ? memmem(at, (size_t)(end - at), p, n) : at;
		if (!hit)
			return false;
		at = hit + n;
		p = star + 1;
	}
	return true;
}

bool pattern_fits(const char *pattern, size_t pattern_len, const char *name, size_t name_len)
{
	const char *first = memchr(pattern, '*', pattern_len), *last = memrchr(pattern, '*', pattern_len);
	if (!first)
		return pattern_len == name_len && memcmp(pattern, name, name_len) == 0;
	size_t head = (size_t)(first - pattern), tail = pattern_len - (size_t)(last - pattern) - 1;
	if (head + tail > name_len || memcmp(pattern, name, head) != 0 ||
	    memcmp(last + 1, name + name_len - tail, tail) != 0)
		return false;
	return middle_fits(first + 1, last, name + head, name + name_len - tail);
}
