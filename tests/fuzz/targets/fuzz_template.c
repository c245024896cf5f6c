/* A template from outside. Whatever comes, findings are one line each; what is accepted gives valid JSON, can
 * be drawn, and its definition is itself a template with the same digest; what is JSON is never refused as
 * YAML. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool is_json(const char *source, size_t len)
{
	json_t *root = json_loadb(source, len, JSON_REJECT_DUPLICATES, NULL);
	json_decref(root);
	return root != NULL;
}

static void check_findings(const struct findings *f, const char *source, size_t len)
{
	struct buf out;
	buf_init(&out, 0);
	must(findings_to_text(f, "f", &out) == 0);
	size_t lines = 0;
	for (size_t i = 0; i < out.len; i++) {
		lines += out.data[i] == '\n';
		must(out.data[i] == '\n' || (out.data[i] >= 0x20 && out.data[i] != 0x7f));
	}
	must(lines == f->n && f->n <= FINDINGS_MAX + 1);
	buf_reset(&out);
	must(findings_to_json(f, "f", &out) == 0);
	json_t *root = json_loadb((char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	must(root && json_array_size(root) == f->n);
	json_decref(root);
	buf_done(&out);
	for (size_t i = 0; i < f->n; i++)
		if (strstr(f->items[i].message, "not YAML") == f->items[i].message)
			must(!is_json(source, len));
}

static json_t *as_json(const struct template *t)
{
	struct buf out;
	buf_init(&out, 0);
	must(template_to_json(t, &out) == 0);
	json_t *root = json_loadb((char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	must(root != NULL);
	buf_done(&out);
	return root;
}

static void draw(const struct template *t)
{
	static const enum graph_format formats[] = {GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT};
	struct buf out;
	buf_init(&out, 0);
	for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
		must(template_graph(t, formats[i], NULL, true, &out) == 0);
	buf_done(&out);
}

static void check_template(const struct template *t)
{
	struct template_opts draft = {.draft = true};
	struct findings f = {0};
	struct template *again = NULL;
	json_t *root = as_json(t);
	must(json_array_size(json_object_get(root, "steps")) == template_step_count(t));
	char *definition = json_dumps(json_object_get(root, "definition"), JSON_REAL_PRECISION(17));
	must(definition && template_parse(definition, strlen(definition), &draft, &again, &f) == 0);
	json_t *other = as_json(again);
	must(json_equal(json_object_get(root, "digest"), json_object_get(other, "digest")));
	must(json_equal(json_object_get(root, "steps"), json_object_get(other, "steps")));
	json_decref(other);
	json_decref(root);
	free(definition);
	template_free(again);
	findings_done(&f);
	draw(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct template_opts opts = {.draft = true, .environment = "test"};
	struct template *t = NULL;
	struct findings f = {0};
	int r = template_parse((const char *)data, size, &opts, &t, &f);
	must(r == 0 || r == -EINVAL);
	must((r == 0) == (t != NULL) && (r == 0) == (f.errors == 0));
	check_findings(&f, (const char *)data, size);
	if (t)
		check_template(t);
	template_free(t);
	findings_done(&f);
	return 0;
}
