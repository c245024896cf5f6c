/* Edit distance (insert, delete, replace, swap two neighbours), bounded. */
#include "daemon/template/suggest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#define LONGEST 64

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;
	return m < c ? m : c;
}

static int lower(char c)
{
	return tolower((unsigned char)c);
}

static unsigned distance(const char *a, size_t la, const char *b, size_t lb)
{
	unsigned rows[3][LONGEST + 1];
	for (unsigned j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned replace = lower(a[i - 1]) != lower(b[j - 1]);
			row[j] = least(above[j] + 1, row[j - 1] + 1, above[j - 1] + replace);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]) && above2[j - 2] + 1 < row[j])
				row[j] = above2[j - 2] + 1;
		}
	}
	return rows[la % 3][lb];
}

const char *suggest_nearest(const char *word, const char *const *names, size_t n, size_t *budget)
{
	size_t len = strlen(word);
	unsigned limit = len < 3 ? 1 : (unsigned)(len + 2) / 3;
	const char *best = NULL;
	if (len == 0 || len > LONGEST)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t other = strlen(names[i]), gap = other > len ? other - len : len - other;
		size_t cost = 1 + len * other / 64;
		if (cost > *budget)
			return NULL;
		*budget -= gap > limit ? 1 : cost;
		if (gap > limit || other > LONGEST || other == 0)
			continue;
		unsigned d = distance(word, len, names[i], other);
		if (d <= limit && d < len && (!best || d < limit)) {
			best = names[i];
			if (d == 0)
				return best;
			limit = d;
		}
	}
	return best;
}
