/* The JSON Schema Test Suite, as Debian ships it: every group of draft 2020-12 either behaves as the suite says or is
 * in the list of what this validator does not support, with the reason; both directions are held. Prints the counts and
 * that list.
 *
 *   suite DIRECTORY      the directory that holds draft2020-12
 */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema.h"

/* Groups whose schema is refused, or single tests with another answer; `group` NULL: the whole file. */
static const struct {
	const char *file, *group, *why;
} known[] = {
#include "tests/unit/schema/unsupported.inc"
};
#define N_KNOWN (sizeof known / sizeof *known)

static unsigned met[N_KNOWN];
static unsigned n_groups, n_tests, n_passed, n_skipped, n_wrong;

/* The row that excuses the group, or -1. */
static int excuse(const char *file, const char *group)
{
	for (size_t i = 0; i < N_KNOWN; i++)
		if (strcmp(known[i].file, file) == 0 && (!known[i].group || strcmp(known[i].group, group) == 0))
			return (int)i;
	return -1;
}

/* With as few digits as give the same numbers again. */
static char *text_of(json_t *v)
{
	for (size_t digits = 15; digits <= 17; digits++) {
		char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
		json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
		bool same = again && json_equal(v, again);
		json_decref(again);
		if (same || digits == 17)
			return text;
		free(text);
	}
	abort();
}

static bool valid(const struct schema *s, json_t *data)
{
	char *text = text_of(data);
	struct violations v = {.n = 0};
	int quiet = schema_validate(s, text, strlen(text), NULL);
	int r = schema_validate(s, text, strlen(text), &v);
	if (r < 0 || (r == 1) != (v.n > 0) || quiet != r)
		printf("# %s: %d with %zu violations, %d quietly\n", text, r, v.n, quiet), n_wrong++;
	violations_done(&v);
	free(text);
	return r == 0;
}

static unsigned run_tests(const struct schema *s, json_t *tests, const char *file, const char *group, bool quiet)
{
	unsigned wrong = 0;
	size_t i;
	json_t *t;
	json_array_foreach(tests, i, t)
	{
		bool want = json_is_true(json_object_get(t, "valid"));
		if (valid(s, json_object_get(t, "data")) == want)
			continue;
		wrong++;
		if (!quiet)
			printf("# %s: %s: %s: expected %s\n", file, group,
			       json_string_value(json_object_get(t, "description")), want ? "valid" : "invalid");
	}
	return wrong;
}

static void run_group(json_t *g, const char *file)
{
	const char *group = json_string_value(json_object_get(g, "description"));
	json_t *tests = json_object_get(g, "tests");
	char *text = text_of(json_object_get(g, "schema"));
	int row = excuse(file, group);
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	int rc = schema_compile(text, strlen(text), &s, &p);
	unsigned n = (unsigned)json_array_size(tests), wrong = n;
	if (rc == 0)
		wrong = run_tests(s, tests, file, group, row >= 0);
	else if (row < 0)
		printf("# %s: %s: refused: %s: %s\n", file, group, p.n ? p.items[0].pointer : "",
		       p.n ? p.items[0].message : "");
	n_groups++;
	n_tests += n;
	n_passed += n - wrong;
	if (row >= 0)
		n_skipped += wrong, met[row] += wrong;
	else
		n_wrong += wrong;
	schema_free(s);
	schema_problems_done(&p);
	free(text);
}

static void run_file(const char *dir, const char *name)
{
	char path[4096];
	size_t i;
	json_t *g;
	json_error_t e;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	json_t *groups = json_load_file(path, JSON_ALLOW_NUL, &e);
	if (!groups) /* with integers that jansson cannot hold */
		groups = json_load_file(path, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
	if (!groups) {
		printf("# %s: %s\n", path, e.text);
		n_wrong++;
		return;
	}
	json_array_foreach(groups, i, g) run_group(g, name);
	json_decref(groups);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_json(const struct dirent *d)
{
	size_t n = strlen(d->d_name);
	return n > 5 && strcmp(d->d_name + n - 5, ".json") == 0;
}

static void run_directory(const char *dir)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, is_json, by_name);
	for (int i = 0; i < n; i++) {
		run_file(dir, list[i]->d_name);
		free(list[i]);
	}
	free(list);
}

int main(int argc, char **argv)
{
	char dir[2048];
	if (argc != 2)
		return 2;
	snprintf(dir, sizeof dir, "%s/draft2020-12", argv[1]);
	printf("1..1\n");
	run_directory(dir);
	snprintf(dir, sizeof dir, "%s/draft2020-12/optional", argv[1]);
	run_directory(dir);
	if (n_groups == 0) {
		printf("ok 1 - suite # SKIP the package libtest-json-schema-acceptance-perl is not installed\n");
		return 0;
	}
	printf("# %u groups, %u tests: %u pass, %u are of what is not supported, %u are wrong\n", n_groups, n_tests,
	       n_passed, n_skipped, n_wrong);
	for (size_t i = 0; i < N_KNOWN; i++) {
		printf("# not supported (%u): %s%s%s: %s\n", met[i], known[i].file, known[i].group ? ": " : "",
		       known[i].group ? known[i].group : "", known[i].why);
		n_wrong += met[i] == 0; /* it works after all: take it off the list */
	}
	printf("%s 1 - suite\n", n_wrong ? "not ok" : "ok");
	return n_wrong > 0;
}
