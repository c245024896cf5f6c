/* Matching of names with `*`: pure, any thread. */
#include "daemon/core/pattern.h"

bool pattern_valid(const char *pattern, size_t n)
{
	if (n == 0 || n > PATTERN_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)pattern[i] < 0x20 || pattern[i] == 0x7f)
			return false;
	return true;
}

/* Each star first takes nothing; when what follows does not fit, the last one takes a byte more. Earlier stars need not be tried again: what they could take, the last one can. */
bool pattern_fits(const char *pattern, size_t pattern_len, const char *name, size_t name_len)
{
	size_t p = 0, n = 0, star = pattern_len, taken = 0;
	while (n < name_len) {
		if (p < pattern_len && pattern[p] == '*') {
			star = p++;
			taken = n;
		} else if (p < pattern_len && pattern[p] == name[n]) {
			p++;
			n++;
		} else if (star < pattern_len) {
			p = star + 1;
			n = ++taken;
		} else {
			return false;
		}
	}
	while (p < pattern_len && pattern[p] == '*')
		p++;
	return p == pattern_len;
}
