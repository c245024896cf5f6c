/* A schema and a value, both from outside: what is before the first line feed, and what is behind. Whatever comes,
 * everything stays within its bounds; what is found wrong loudly is wrong quietly too; violations name places that are
 * there. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/schema/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_value(const struct schema *s, const char *value, size_t len)
{
	struct violations v = {.n = 0};
	int rc = schema_validate(s, value, len, &v);
	must(rc == 0 || rc == 1 || rc == -EINVAL);
	must((rc == 1) == (v.total > 0) && v.n <= v.total && v.n <= SCHEMA_MAX_VIOLATIONS);
	if (!v.gave_up)
		must(schema_validate(s, value, len, NULL) == rc);
	for (size_t i = 0; i < v.n; i++) {
		must(v.items[i].instance[0] == '\0' || v.items[i].instance[0] == '/' || v.items[i].instance[0] == '(');
		for (const char *p = v.items[i].message; *p; p++)
			must((unsigned char)*p >= 0x20 && *p != 0x7f);
	}
	violations_done(&v);
	json_t *same = json_loadb(value, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (rc == -EINVAL && same) /* too deep, or a NUL behind it, which jansson does not see */
		must(memchr(value, '[', len) || memchr(value, '{', len) || memchr(value, '\0', len));
	json_decref(same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *end = size > 0 ? memchr(text, '\n', size) : NULL;
	size_t n = end ? (size_t)(end - text) : size;
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	int rc = schema_compile(size > 0 ? text : "", n, &s, &p);
	must(rc == 0 || rc == -EINVAL);
	must((rc == 0) == (p.errors == 0) && (rc == 0) == (s != NULL));
	if (s)
		check_value(s, end ? end + 1 : "", end ? size - n - 1 : 0);
	schema_free(s);
	schema_problems_done(&p);
	return 0;
}
