/* Reads a schema and a value on lines of their own, again and again; answers each pair with a line: valid, invalid, or
 * refused and why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema.h"

static void judge(const char *schema, size_t n, const char *value, size_t m)
{
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	int rc = schema_compile(schema, n, &s, &p);
	int fits = rc == 0 ? schema_validate(s, value, m, NULL) : 0;
	if (rc < 0)
		printf("refused %s %s\n", p.n ? p.items[0].pointer : "", p.n ? p.items[0].message : "");
	else
		puts(fits == 0 ? "valid" : fits == 1 ? "invalid" : "broken");
	schema_free(s);
	schema_problems_done(&p);
}

int main(void)
{
	char *schema = NULL, *value = NULL;
	size_t a = 0, b = 0;
	ssize_t n, m;
	while ((n = getline(&schema, &a, stdin)) > 0 && (m = getline(&value, &b, stdin)) > 0)
		judge(schema, (size_t)n, value, (size_t)m);
	free(schema);
	free(value);
	return 0;
}
