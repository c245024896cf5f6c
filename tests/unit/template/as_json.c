/* as_json SCHEMA FILE: print the template in FILE as JSON, not normalised; the exit status is 0 if it fits the JSON
 * Schema in SCHEMA, 1 if not. */
#include <stdio.h>
#include <stdlib.h>
#include "daemon/schema/schema.h"
#include "daemon/template/normal.h"

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "r");
	struct buf b;
	char part[4096];
	if (!f)
		exit(2);
	buf_init(&b, 0);
	for (size_t n = 0; (n = fread(part, 1, sizeof part, f)) > 0;)
		buf_append(&b, part, n);
	fclose(f);
	*ret_len = b.len;
	return buf_take_text(&b);
}

int main(int argc, char **argv)
{
	struct yaml_tree *tree = NULL;
	struct findings f = {0};
	struct schema *s = NULL;
	struct schema_problems p = {.n = 0};
	struct violations v = {.n = 0};
	struct buf out;
	size_t len = 0, schema_len = 0;
	if (argc != 3)
		return 2;
	char *schema = read_file(argv[1], &schema_len), *source = read_file(argv[2], &len);
	if (yaml_tree_parse(source, len, NULL, &tree, &f) < 0 || f.errors > 0)
		return 3;
	buf_init(&out, 0);
	normal_put_value(&out, yaml_tree_root(tree));
	if (!buf_text(&out) || schema_compile(schema, schema_len, &s, &p) < 0 || p.n > 0)
		return 4;
	int rc = schema_validate(s, buf_text(&out), out.len, &v);
	puts(buf_text(&out));
	for (size_t i = 0; i < v.n; i++)
		fprintf(stderr, "%s %s %s\n", v.items[i].instance, v.items[i].keyword, v.items[i].message);
	violations_done(&v);
	schema_free(s);
	yaml_tree_free(tree);
	findings_done(&f);
	buf_done(&out);
	free(schema);
	free(source);
	return rc;
}
