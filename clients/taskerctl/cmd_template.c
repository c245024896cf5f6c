/* template validate, apply, list, show, schema. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/cells.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/list.h"
#include "clients/taskerctl/text.h"
#include "daemon/template/template.h"

#define TEMPLATE_BYTES_MAX (16u << 20)

/* ---- validate ---- */

/* What one file is like, for both kinds of output. */
struct verdict {
	struct findings findings;
	char *title; /* "bench/linear@1.0.0: 4 steps", or NULL */
	bool ok;
};

static void judge(const struct ctl *c, const struct buf *source, struct verdict *v)
{
	const struct template_opts opts = {.environment = cli_get(c->cli, "environment"),
	                                   .strict = cli_has(c->cli, "strict")};
	cleanup_(cleanup_template) struct template *t = NULL;
	int rc = template_parse((const char *)source->data, source->len, &opts, &t, &v->findings);
	v->ok = rc == 0;
	if (rc == -ENOMEM)
		findings_add(&v->findings, FINDING_ERROR, 0, 0, NULL, "out of memory");
	if (t && asprintf(&v->title, "%s/%s@%s: %zu steps", template_namespace(t), template_name(t),
	                  template_version(t), template_step_count(t)) < 0)
		v->title = NULL;
}

static void print_verdict(const struct ctl *c, const char *path, const struct verdict *v)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	size_t warnings =
	    v->findings.n - (v->findings.errors < v->findings.n ? v->findings.errors : v->findings.n);
	buf_init(&b, 0);
	if (findings_to_text(&v->findings, input_name(path), &b) == 0 && b.len > 0)
		ctl_say("%s", buf_text(&b));
	if (c->cli->quiet)
		return;
	ctl_say("%s: %s%s%s", input_name(path), c->colour ? v->ok ? "\033[32m" : "\033[31m" : "",
	       v->ok ? "ok" : "invalid", c->colour ? "\033[0m" : "");
	if (v->title)
		ctl_say(", %s", v->title);
	if (v->findings.errors)
		ctl_say(", %zu error%s", v->findings.errors, v->findings.errors == 1 ? "" : "s");
	if (warnings)
		ctl_say(", %zu warning%s", warnings, warnings == 1 ? "" : "s");
	putchar('\n');
}

static void add_verdict(json_t *all, const char *path, const struct verdict *v)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	json_t *findings = NULL;
	if (findings_to_json(&v->findings, input_name(path), &b) == 0)
		findings = json_loadb((const char *)b.data, b.len, 0, NULL);
	json_array_append_new(
	    all, json_pack("{s:s,s:b,s:o*}", "file", input_name(path), "ok", v->ok, "findings", findings));
}

/* Why a file could not be read, and what to give instead. */
static const char *unread(int rc)
{
	switch (rc) {
	case -EMSGSIZE:
		return "cannot be read: too large for a template";
	case -ENOENT:
		return "cannot be read: there is no such file";
	case -EISDIR:
		return "is a directory: name the files in it, DIRECTORY/*.yaml";
	case -EACCES:
		return "cannot be read: permission denied";
	default:
		return "cannot be read";
	}
}

static int validate_one(const struct ctl *c, const char *path, json_t *all)
{
	cleanup_(cleanup_buf) struct buf source = {0};
	struct verdict v = {.ok = false};
	buf_init(&source, TEMPLATE_BYTES_MAX + 1);
	int rc = input_read(path, &source);
	if (rc == -EMSGSIZE)
		findings_add(&v.findings, FINDING_ERROR, 0, 0, NULL, "larger than %u bytes",
		             TEMPLATE_BYTES_MAX);
	else if (rc < 0)
		findings_add(&v.findings, FINDING_ERROR, 0, 0, NULL, "%s", unread(rc));
	else
		judge(c, &source, &v);
	if (c->cli->json)
		add_verdict(all, path, &v);
	else
		print_verdict(c, path, &v);
	findings_done(&v.findings);
	free(v.title);
	return v.ok ? EXIT_OK : EXIT_NO;
}

int run_template_validate(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *all = json_array();
	int worst = EXIT_OK;
	for (int i = 0; i < c->cli->nargs; i++)
		if (validate_one(c, c->cli->args[i], all) != EXIT_OK)
			worst = EXIT_NO;
	if (c->cli->json)
		ctl_print_json(c, all, false);
	return worst;
}

/* ---- apply ---- */

static void print_findings(const json_t *findings, const char *path)
{
	size_t i;
	json_t *x;
	json_array_foreach(findings, i, x)
	{
		char place[48] = "";
		const char *file = json_text(x, "file"), *key = json_text(x, "key");
		int64_t line = json_int(x, "line", 0);
		if (line > 0)
			snprintf(place, sizeof place, ":%lld:%lld", (long long)line,
			         (long long)json_int(x, "column", 1));
		ctl_warn("%s%s: %s: %s%s%s\n", *file ? file : path, place, json_text(x, "severity"), key,
		         *key ? ": " : "", json_text(x, "message"));
	}
}

static int refuse(const struct ctl *c, const char *path, const struct tasker_error *err, json_t *all)
{
	const char *text = err->rc == -EREMOTEIO ? tasker_error_details(c->conn) : NULL;
	cleanup_(cleanup_json) json_t *details = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	print_findings(json_object_get(details, "findings"), path);
	json_array_append_new(all, json_pack("{s:s,s:o}", "file", path, "error", ctl_error_json(c, err, details)));
	return ctl_complain(c, path, err);
}

/* A file that cannot be sent. */
static int refuse_file(const struct ctl *c, const char *path, const char *why, json_t *all)
{
	struct tasker_error err = {.rc = -EINVAL, .code = "failed"};
	snprintf(err.message, sizeof err.message, "%s", why);
	return refuse(c, path, &err, all);
}

static int apply_one(struct ctl *c, const char *path, json_t *all)
{
	cleanup_(cleanup_buf) struct buf source = {0};
	cleanup_(cleanup_json) json_t *answer = NULL;
	struct tasker_error err = {0};
	buf_init(&source, TEMPLATE_BYTES_MAX + 1);
	int rc = input_read(path, &source);
	if (rc < 0)
		return refuse_file(c, input_name(path), unread(rc), all);
	json_t *text = json_stringn(source.data ? (const char *)source.data : "", source.len);
	if (!text)
		return refuse_file(c, input_name(path), "is not UTF-8 text", all);
	json_t *params = json_pack("{s:o,s:s,s:b}", "source", text, "filename", input_name(path), "strict",
	                           cli_has(c->cli, "strict"));
	if (cli_has(c->cli, "replace-unused"))
		json_object_set_new(params, "replace_unused", json_true());
	if (ctl_try(c, "template.apply", params, &answer, &err) < 0)
		return refuse(c, input_name(path), &err, all);
	json_array_append(all, answer);
	if (c->cli->json)
		return EXIT_OK;
	print_findings(json_object_get(answer, "findings"), input_name(path));
	ctl_say("%s/%s@%s %s\n", json_text(answer, "namespace"), json_text(answer, "name"),
	       json_text(answer, "version"), json_flag(answer, "created") ? "registered" : "unchanged");
	return EXIT_OK;
}

int run_template_apply(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *all = json_array();
	int first = ctl_connect(c);
	if (first)
		return first;
	for (int i = 0; i < c->cli->nargs; i++) {
		int code = apply_one(c, c->cli->args[i], all);
		if (first == EXIT_OK)
			first = code;
		if (code == EXIT_UNREACHABLE)
			break;
	}
	if (c->cli->json)
		ctl_print_json(c, all, false);
	return first;
}

/* ---- list ---- */

static void cell_digest(struct table *t, const json_t *template, const char *key)
{
	table_cellf(t, NULL, "%.12s", json_text(template, key));
}

static const struct column columns[] = {
    {"NAMESPACE", COL_SHRINK, cell_value, "namespace"},
    {"NAME", COL_SHRINK, cell_value, "name"},
    {"VERSION", COL_SHRINK, cell_value, "version"},
    {"STEPS", COL_RIGHT, cell_value, "steps"},
    {"DIGEST", 0, cell_digest, "digest"},
    {"REGISTERED", 0, cell_second, "created_at"},
    {"AGE", COL_RIGHT | COL_WIDE, cell_age, "created_at"},
    {"WHOLE DIGEST", COL_WIDE, cell_value, "digest"},
    NO_COLUMN,
};
const struct listing list_templates = {.columns = columns,
                                       .empty = "no templates; register one with: taskerctl template apply FILE"};

/* ---- show ---- */

static const struct column step_columns[] = {
    {"STEP", COL_SHRINK, cell_value, "name"},
    {"HANDLER", COL_SHRINK, cell_value, "handler.callable"},
    {"TRIES", COL_RIGHT, cell_value, "max_attempts"},
    {"BACKOFF", 0, cell_value, "backoff"},
    {"TIMEOUT", COL_RIGHT, cell_ms, "timeout_ms"},
    {"AFTER", COL_SHRINK, cell_value, "depends_on"},
    {"TYPE", COL_WIDE, cell_value, "type"},
    {"RETRYABLE", COL_WIDE, cell_value, "retryable"},
    {"FIRST WAIT", COL_RIGHT | COL_WIDE, cell_ms, "backoff_base_ms"},
    {"LONGEST WAIT", COL_RIGHT | COL_WIDE, cell_ms, "max_backoff_ms"},
    NO_COLUMN,
};
const struct listing list_template_steps = {.columns = step_columns};

static void print_template(const struct ctl *c, const json_t *answer)
{
	const json_t *steps = json_object_get(answer, "steps");
	char description[400];
	ctl_say("%s/%s@%s  %zu steps, registered %.19s, digest %.12s\n", json_text(answer, "namespace"),
	       json_text(answer, "name"), json_text(answer, "version"), json_array_size(steps),
	       json_text(answer, "created_at"), json_text(answer, "digest"));
	text_copy(description, sizeof description,
	          json_text(json_object_get(answer, "definition"), "description"));
	if (*description)
		ctl_say("%s\n", description);
	putchar('\n');
	list_print(c, step_columns, steps);
}

int run_template_show(struct ctl *c)
{
	struct template_ref ref;
	cleanup_(cleanup_json) json_t *answer = NULL;
	int code = ctl_template_ref(c, c->cli->args[0], &ref);
	if (code)
		return code;
	json_t *params = json_pack("{s:s,s:s,s:s*}", "namespace", ref.space, "name", ref.name, "version",
	                           *ref.version ? ref.version : NULL);
	if (!cli_has(c->cli, "definition"))
		return ctl_show(c, "template.get", params, print_template);
	code = ctl_call(c, "template.get", params, &answer);
	if (code == EXIT_OK)
		ctl_print_json(c, json_object_get(answer, "definition"), false);
	return code;
}

/* ---- schema ---- */

int run_template_schema(struct ctl *c)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	buf_init(&b, 0);
	cleanup_(cleanup_json) json_t *schema =
	    template_schema(&b) == 0 ? json_loadb((const char *)b.data, b.len, 0, NULL) : NULL;
	if (!schema)
		return ctl_fail(c, EXIT_NO, "out of memory");
	json_dumpf(schema, stdout, JSON_INDENT(2));
	putchar('\n');
	return EXIT_OK;
}
