/* A regular expression and a text, both from outside: before the first line feed, and behind it. Whatever the pattern,
 * the work of a search is bounded by what was granted, more than what is granted is never needed twice, and the same
 * search finds the same. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORK (1u << 22)

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = size > 0 ? memchr(text, '\n', size) : NULL;
	size_t n = end ? (size_t)(end - text) : size, m = end ? size - n - 1 : 0;
	char why[REGEX_WHY] = "";
	struct regex *r = NULL;
	if (size > 8192)
		return 0;
	int rc = regex_compile(size ? text : "", n, &r, why);
	must(rc == 0 || (rc == -EINVAL && why[0] && memchr(why, '\0', sizeof why)));
	must((rc == 0) == (r != NULL));
	if (!r)
		return 0;
	uint64_t work = WORK, again = WORK;
	int found = regex_search(r, end ? end + 1 : "", m, &work);
	must(found == 0 || found == 1 || found == -E2BIG);
	must(regex_search(r, end ? end + 1 : "", m, &again) == found && again == work && work <= WORK);
	/* In time that grows with the text and the size of the expression. */
	if (found != -E2BIG)
		must(WORK - work <= 64 * (uint64_t)(m + 1) * (regex_parts(r) + 1));
	regex_free(r);
	return 0;
}
