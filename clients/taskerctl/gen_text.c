/* Pieces that the languages share. */
#include "clients/taskerctl/gen_text.h"

#include <stdlib.h>
#include <string.h>

const char *gen_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

enum gen_step gen_step_kind(const json_t *step)
{
	static const struct {
		const char *type;
		enum gen_step kind;
	} kinds[] = {{"decision", GEN_STEP_DECISION},
	             {"batchable", GEN_STEP_ANALYZER},
	             {"batch_worker", GEN_STEP_WORKER},
	             {"deferred_convergence", GEN_STEP_AGGREGATE}};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(gen_text(step, "type"), kinds[i].type) == 0)
			return kinds[i].kind;
	return GEN_STEP_PLAIN;
}

static const json_t *step_of_number(const struct gen_model *m, const json_t *no)
{
	const json_t *s;
	size_t i;
	json_array_foreach(json_object_get(m->template, "steps"), i, s)
		if (json_integer_value(json_object_get(s, "no")) == json_integer_value(no))
			return s;
	return NULL;
}

const char *gen_step_name(const struct gen_model *m, const json_t *no)
{
	return gen_text(step_of_number(m, no), "name");
}

bool gen_is_many(const struct gen_model *m, const json_t *no)
{
	return gen_step_kind(step_of_number(m, no)) == GEN_STEP_WORKER;
}

const char *gen_first_child(const struct gen_model *m, const json_t *step)
{
	return gen_step_name(m, json_array_get(json_object_get(step, "children"), 0));
}

const char *gen_batch_worker(const struct gen_model *m, const json_t *step)
{
	const char *named = gen_text(json_object_get(step, "batch_config"), "worker_template");
	return *named ? named : gen_first_child(m, step);
}

const char *gen_about_step(const struct gen_model *m, const json_t *step)
{
	const json_t *s;
	size_t i;
	json_array_foreach(json_object_get(json_object_get(m->template, "definition"), "steps"), i, s)
		if (strcmp(gen_text(s, "name"), gen_text(step, "name")) == 0 && *gen_text(s, "description"))
			return gen_text(s, "description");
	return gen_text(step, "name");
}

void gen_put_title(const struct gen_model *m, struct buf *b)
{
	/* A name may hold whatever fits on one line: what would end a comment too. */
	gen_about(b, gen_text(m->template, "namespace"));
	buf_append_char(b, '/');
	gen_about(b, gen_text(m->template, "name"));
	buf_append_char(b, ' ');
	gen_about(b, gen_text(m->template, "version"));
}

void gen_put_named(const struct gen_model *m, struct buf *b, const char *text)
{
	char *snake = gen_snake(gen_text(m->template, "name")), *pascal = gen_pascal(gen_text(m->template, "name"));
	for (; *text; text++) {
		if (strncmp(text, "{name}", 6) == 0 || strncmp(text, "{Name}", 6) == 0) {
			buf_append_str(b, text[1] == 'n' ? snake : pascal);
			text += 5;
		} else {
			buf_append_char(b, *text);
		}
	}
	free(snake);
	free(pascal);
}

void gen_put_json(struct buf *b, const json_t *v)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
	if (text)
		buf_append_str(b, text);
	free(text);
}

static void put_object(struct buf *b, const json_t *v, const struct gen_literals *l)
{
	const char *key, *before = l->open;
	json_t *x;
	json_object_foreach((json_t *)(uintptr_t)v, key, x)
	{
		buf_append_str(b, before);
		l->quote(b, key);
		buf_append_str(b, l->arrow);
		gen_put_literal(b, x, l);
		before = ", ";
	}
	buf_append_str(b, json_object_size(v) ? l->close : "{}");
}

void gen_put_literal(struct buf *b, const json_t *v, const struct gen_literals *l)
{
	const json_t *x;
	size_t i;
	if (json_is_object(v)) {
		put_object(b, v, l);
	} else if (json_is_array(v)) {
		buf_append_char(b, '[');
		json_array_foreach(v, i, x)
		{
			buf_append_str(b, i ? ", " : "");
			gen_put_literal(b, x, l);
		}
		buf_append_char(b, ']');
	} else if (json_is_string(v)) {
		l->quote(b, json_string_value(v));
	} else if (json_is_boolean(v) || json_is_null(v)) {
		buf_append_str(b, l->words[json_is_true(v) ? 2 : json_is_false(v)]);
	} else {
		gen_put_json(b, v);
	}
}

void gen_put_answer(const struct gen_model *m, const json_t *step, struct buf *b, const struct gen_answers *a)
{
	enum gen_step kind = gen_step_kind(step);
	if (kind == GEN_STEP_DECISION) {
		buf_append_str(b, a->route);
		a->literals->quote(b, gen_first_child(m, step));
		buf_append_str(b, a->route_end);
	} else if (kind == GEN_STEP_ANALYZER || kind == GEN_STEP_WORKER) {
		buf_append_str(b, kind == GEN_STEP_WORKER ? a->counted : a->config);
	} else {
		cleanup_json_ json_t *example = gen_example(json_object_get(step, "result_schema"));
		buf_append_str(b, a->value);
		gen_put_literal(b, example, a->literals);
		buf_append_str(b, a->value_end);
	}
}

bool gen_first_with_callable(const struct gen_model *m, const json_t *step)
{
	const json_t *s;
	size_t i;
	json_array_foreach(json_object_get(m->template, "steps"), i, s)
		if (strcmp(gen_text(s, "callable"), gen_text(step, "callable")) == 0)
			return s == step;
	return false;
}

bool gen_has_parents(const struct gen_model *m, const json_t *step)
{
	const json_t *p;
	size_t i;
	if (gen_step_kind(step) != GEN_STEP_WORKER)
		json_array_foreach(json_object_get(step, "parents"), i, p) if (!gen_is_many(m, p)) return true;
	return false;
}

void gen_put_parents(const struct gen_model *m, const json_t *step, const struct gen_language *l, struct buf *b,
                     const char *behind, gen_quote_fn *quote)
{
	const json_t *p;
	size_t i;
	const char *before = "";
	json_array_foreach(json_object_get(step, "parents"), i, p)
	{
		if (gen_is_many(m, p))
			continue;
		const char *parent = gen_step_name(m, p);
		char *name = gen_ident(l, parent);
		buf_printf(b, "%s%s%s", before, name ? name : "", behind);
		if (quote)
			quote(b, parent);
		before = ", ";
		free(name);
	}
}

void gen_put_batches(const struct gen_model *m, const json_t *step, const struct gen_language *l, struct buf *b,
                     const char *const around[3], gen_quote_fn *quote)
{
	const json_t *p;
	size_t i;
	json_array_foreach(json_object_get(step, "parents"), i, p)
	{
		if (!gen_is_many(m, p))
			continue;
		const char *worker = gen_step_name(m, p);
		char *name = gen_ident(l, worker);
		buf_printf(b, "%s%s%s", around[0], name ? name : "", around[1]);
		quote(b, worker);
		buf_append_str(b, around[2]);
		free(name);
	}
}

/* A word of a shell's command line. */
static void put_shell_word(struct buf *b, const char *text)
{
	buf_append_char(b, '\'');
	for (; *text; text++)
		if (*text == '\'')
			buf_append_str(b, "'\\''");
		else
			buf_append_char(b, *text);
	buf_append_char(b, '\'');
}

void gen_put_shell_test(const struct gen_model *m, struct buf *b, const char *command, const char *program)
{
	cleanup_json_ json_t *example = gen_example(json_object_get(m->template, "input_schema"));
	buf_printf(b, "#!/bin/sh\n# The whole workflow against a taskerd of the test's own: %s.", command);
	gen_put_named(
		m, b,
		" The programs are $TASKERD_PROGRAM and $TASKERCTL, or those on the PATH.\nset -eu\ncd \"$(dirname \"$0\")\"\n"
		"dir=$(mktemp -d)\nchmod 711 \"$dir\"\nexport TASKERD_SOCKET=\"$dir/taskerd.sock\"\nctl=${TASKERCTL:-taskerctl}\n"
		"\"${TASKERD_PROGRAM:-taskerd}\" --embedded=\"$dir/database\" --socket=\"$TASKERD_SOCKET\" >\"$dir/log\" 2>&1 &\ndaemon=$!\n"
		"trap 'kill $daemon 2>/dev/null || :; wait $daemon 2>/dev/null || :; rm -rf \"$dir\"' EXIT\n"
		"until \"$ctl\" template apply templates/{name}.json 2>/dev/null; do kill -0 $daemon || { cat \"$dir/log\"; exit 1; }; sleep 0.1; done\n");
	gen_put_named(m, b, program);
	buf_append_str(b, " --quiet &\nworker=$!\n\"$ctl\" task create --wait --timeout 60 --context ");
	cleanup_(buf_done) struct buf json = {0}, which = {0};
	buf_init(&json, 0);
	buf_init(&which, 0);
	gen_put_json(&json, example);
	buf_printf(&which, "%s/%s@%s", gen_text(m->template, "namespace"), gen_text(m->template, "name"),
	           gen_text(m->template, "version"));
	const char *context = buf_text(&json), *template = buf_text(&which);
	put_shell_word(b, context ? context : "");
	buf_append_char(b, ' ');
	put_shell_word(b, template ? template : "");
	buf_append_str(b, "\nkill $worker\nwait $worker\n");
}

static void put_publisher(struct buf *b, const char *name, gen_publisher_fn *put)
{
	static const char suffix[] = "Publisher";
	char *pascal = gen_pascal(name), text[600];
	size_t n = pascal ? strlen(pascal) : 0, k = sizeof suffix - 1;
	bool has = n >= k && strcmp(pascal + n - k, suffix) == 0;
	snprintf(text, sizeof text, "%s%s", pascal ? pascal : "", has ? "" : suffix);
	put(b, name, text);
	free(pascal);
}

void gen_each_publisher(const struct gen_model *m, struct buf *b, gen_publisher_fn *put)
{
	const json_t *step, *event;
	size_t i, k;
	cleanup_json_ json_t *seen = json_object();
	json_array_foreach(json_object_get(m->template, "steps"), i, step)
		json_array_foreach(json_object_get(step, "publishes_events"), k, event)
		{
			const char *name = gen_text(event, "publisher");
			if (!name[0] || json_object_get(seen, name))
				continue;
			put_publisher(b, name, put);
			json_object_set_new(seen, name, json_true());
		}
}

static void mark(struct buf *b, const char *name, const char *class_name)
{
	(void)name, (void)class_name;
	buf_append_char(b, '.');
}

bool gen_has_publishers(const struct gen_model *m)
{
	cleanup_(buf_done) struct buf marks = {0};
	buf_init(&marks, 0);
	gen_each_publisher(m, &marks, mark);
	return marks.len > 0;
}
