/* generate types, handler, scaffold. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/gen_text.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/text.h"
#include "daemon/template/template.h"

#define TEMPLATE_BYTES_MAX (4u << 20)

struct job {
	struct ctl *c;
	const struct gen_language *language;
	const struct gen_style *style;
	json_t *template;
	struct gen_model model;
};

/* ---- what is asked for ---- */

static int pick_language(struct job *j)
{
	const char *name = cli_get(j->c->cli, "language"), *style = cli_get(j->c->cli, "style");
	cleanup_(cleanup_buf) struct buf names = {0};
	buf_init(&names, 0);
	for (const struct gen_language *const *l = gen_languages; *l; l++)
		buf_printf(&names, "%s%s", l == gen_languages ? "" : ", ", (*l)->name);
	j->language = name ? gen_language_named(name) : NULL;
	if (!j->language)
		return ctl_fail(j->c, EXIT_USAGE, "%s%s: --language is one of %s",
		                name ? "no such language: " : "which language?", name ? name : "", buf_text(&names));
	j->style = j->language->styles;
	while (style && j->style->name && strcmp(j->style->name, style) != 0)
		j->style++;
	if (j->style->name)
		return EXIT_OK;
	buf_reset(&names);
	for (const struct gen_style *s = j->language->styles; s->name; s++)
		buf_printf(&names, "%s%s", s == j->language->styles ? "" : ", ", s->name);
	return ctl_fail(j->c, EXIT_USAGE, "no style %s for %s: there are %s", style, j->language->name,
	                buf_text(&names));
}

/* ---- the template ---- */

static int parse(struct job *j, const char *what, const struct buf *source)
{
	cleanup_(cleanup_template) struct template *t = NULL;
	cleanup_(cleanup_buf) struct buf text = {0};
	struct findings f = {0};
	buf_init(&text, 0);
	int rc = template_parse((const char *)source->data, source->len, NULL, &t, &f);
	if (rc < 0) {
		findings_to_text(&f, what, &text);
		ctl_warn("%s", buf_text(&text));
		findings_done(&f);
		return ctl_fail(j->c, EXIT_NO,
		                "%s is no valid template\nsee what is wrong with: taskerctl template validate FILE",
		                what);
	}
	findings_done(&f);
	rc = template_to_json(t, &text);
	j->template = rc == 0 ? json_loadb((const char *)text.data, text.len, 0, NULL) : NULL;
	return j->template ? EXIT_OK : ctl_fail(j->c, EXIT_NO, "out of memory");
}

static int from_file(struct job *j, const char *path)
{
	cleanup_(cleanup_buf) struct buf source = {0};
	buf_init(&source, TEMPLATE_BYTES_MAX + 1);
	int rc = input_read(path, &source);
	if (rc < 0)
		return ctl_fail(j->c, EXIT_NO, "%s: cannot be read: %s", input_name(path),
		                rc == -EMSGSIZE ? "too large for a template" : strerrordesc_np(-rc));
	return parse(j, input_name(path), &source);
}

static int from_daemon(struct job *j, const char *what)
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	struct template_ref ref;
	int code = ctl_template_ref(j->c, what, &ref);
	if (code)
		return code;
	json_t *params = json_pack("{s:s,s:s,s:s*}", "namespace", ref.space, "name", ref.name, "version",
	                           *ref.version ? ref.version : NULL);
	code = ctl_call(j->c, "template.get", params, &answer);
	if (code)
		return code;
	cleanup_(cleanup_buf) struct buf source = {0};
	buf_init(&source, 0);
	gen_put_json(&source, json_object_get(answer, "definition"));
	return parse(j, what, &source);
}

/* What is a file, or looks like one, is read as one. */
static bool is_file(const char *what)
{
	const char *dot = strrchr(what, '.');
	return strcmp(what, "-") == 0 || access(what, F_OK) == 0 ||
	       (dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0));
}

static int prepare(struct ctl *c, struct job *j)
{
	const char *what = c->cli->args[0];
	*j = (struct job){.c = c};
	int code = pick_language(j);
	if (code == EXIT_OK)
		code = is_file(what) ? from_file(j, what) : from_daemon(j, what);
	if (code == EXIT_OK &&
	    (gen_model_build(&j->model, j->template) < 0 || gen_name_fields(&j->model, j->language) < 0))
		code = ctl_fail(c, EXIT_NO, "out of memory");
	return code;
}

static void job_done(struct job *j)
{
	gen_model_done(&j->model);
	json_decref(j->template);
}

/* ---- files ---- */

static int make_parents(const char *path)
{
	char at[4096];
	if ((size_t)snprintf(at, sizeof at, "%s", path) >= sizeof at)
		return -ENAMETOOLONG;
	for (char *p = at + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(at, 0777) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

/* A file that is there is not touched, unless --force. */
static int write_file(const struct ctl *c, const char *path, const struct buf *b)
{
	int rc = make_parents(path);
	FILE *f = rc < 0 ? NULL : fopen(path, cli_has(c->cli, "force") ? "we" : "wxe");
	if (!f)
		return ctl_fail(c, EXIT_NO, "%s: %s%s", path, strerrordesc_np(rc < 0 ? -rc : errno),
		                rc == 0 && errno == EEXIST ? "; --force overwrites it" : "");
	bool ok = fwrite(b->data, 1, b->len, f) == b->len;
	ok &= fclose(f) == 0;
	return ok ? EXIT_OK : ctl_fail(c, EXIT_NO, "%s: %s", path, strerrordesc_np(errno));
}

/* To --output, or to stdout. */
static int give(const struct ctl *c, const struct buf *b)
{
	const char *path = cli_get(c->cli, "output");
	if (b->failed)
		return ctl_fail(c, EXIT_NO, "out of memory");
	if (path)
		return write_file(c, path, b);
	ctl_write(b);
	return EXIT_OK;
}

/* ---- types and handlers ---- */

int run_generate_types(struct ctl *c)
{
	struct job j;
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	int code = prepare(c, &j);
	if (code == EXIT_OK) {
		if (!j.model.first)
			ctl_note(c, "the template has no schemas with properties: there are no types");
		j.style->types(&j.model, &b);
		code = give(c, &b);
	}
	job_done(&j);
	return code;
}

/* Of all steps, or the one named; a handler that serves several is written once. */
static size_t put_handlers(const struct job *j, const char *only, struct buf *b)
{
	const json_t *step;
	size_t i, n = 0;
	j->language->handler_head(&j->model, b);
	json_array_foreach(json_object_get(j->template, "steps"), i, step)
	{
		if (only ? strcmp(gen_text(step, "name"), only) != 0 : !gen_first_with_callable(&j->model, step))
			continue;
		j->language->handler(&j->model, step, b);
		n++;
	}
	if (!only && j->language->handler_foot)
		j->language->handler_foot(&j->model, b);
	return n;
}

int run_generate_handler(struct ctl *c)
{
	struct job j;
	const char *only = cli_get(c->cli, "step");
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	int code = prepare(c, &j);
	if (code == EXIT_OK)
		code = put_handlers(&j, only, &b) ? give(c, &b)
		                                  : ctl_fail(c, EXIT_NO, "the template has no step %s", only);
	job_done(&j);
	return code;
}

/* ---- scaffold ---- */

static int put_at(const struct job *j, const char *dir, const char *name, const struct buf *b)
{
	cleanup_(cleanup_buf) struct buf path = {0};
	buf_init(&path, 0);
	buf_printf(&path, "%s/", dir);
	gen_put_named(&j->model, &path, name);
	if (b->failed || path.failed)
		return ctl_fail(j->c, EXIT_NO, "out of memory");
	int code = write_file(j->c, buf_text(&path), b);
	if (code == EXIT_OK)
		ctl_note(j->c, "%s", buf_text(&path));
	return code;
}

static int put_template(const struct job *j, const char *dir)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	char *text = json_dumps(json_object_get(j->template, "definition"), JSON_INDENT(2) | JSON_ENSURE_ASCII);
	if (text)
		buf_printf(&b, "%s\n", text);
	free(text);
	return put_at(j, dir, "templates/{name}.json", &b);
}

static int put_files(const struct job *j, const char *dir)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	j->style->types(&j->model, &b);
	int code = put_at(j, dir, j->language->types_file, &b);
	buf_reset(&b);
	put_handlers(j, NULL, &b);
	if (code == EXIT_OK)
		code = put_at(j, dir, j->language->handlers_file, &b);
	for (const struct gen_file *f = j->language->files; code == EXIT_OK && f->path; f++) {
		buf_reset(&b);
		f->write(&j->model, &b);
		code = put_at(j, dir, f->path, &b);
	}
	return code;
}

int run_generate_scaffold(struct ctl *c)
{
	struct job j;
	const char *dir = cli_get(c->cli, "output");
	int code = prepare(c, &j);
	if (code == EXIT_OK && j.style != j.language->styles)
		code = ctl_fail(
			c, EXIT_USAGE,
			"a scaffold has the style %s; \nmake the types in another with: taskerctl generate types --style",
			j.language->styles->name);
	if (code == EXIT_OK) {
		char *name = gen_snake(gen_text(j.template, "name"));
		code = put_template(&j, dir ? dir : name);
		if (code == EXIT_OK)
			code = put_files(&j, dir ? dir : name);
		free(name);
	}
	job_done(&j);
	return code;
}
