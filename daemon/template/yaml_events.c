/* The YAML front end: libyaml's events drive the builder. libyaml gets slow on deep nesting long before its
 * own limit, so events are taken one by one and reading stops at the builder's depth. Text that begins like
 * JSON is first tried as JSON (yaml_json.c): libyaml refuses some of it (surrogate pairs in escapes, long
 * keys). */
#include "daemon/template/yaml_build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define DONE 1

struct reader {
	struct builder *b;
	const char *source;
	size_t len;
};

static struct mark mark_of(const yaml_event_t *ev)
{
	return (struct mark){(unsigned)ev->start_mark.line + 1, (unsigned)ev->start_mark.column + 1};
}

static void refuse_properties(struct builder *b, struct mark at, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
	if (anchor)
		builder_report(b, FINDING_ERROR, at,
		               "anchors (&%.40s) are not supported: write the value out",
		               (const char *)anchor);
	if (tag)
		builder_report(b, FINDING_ERROR, at, "found the tag %s: tags are not supported",
		               QUOTE((const char *)tag));
}

static int on_document_start(struct builder *b, const yaml_event_t *ev)
{
	if (b->tree->root) {
		builder_report(b, FINDING_ERROR, mark_of(ev),
		               "a second document begins here, expected one a file");
		return DONE;
	}
	const yaml_version_directive_t *v = ev->data.document_start.version_directive;
	if (v && v->minor != 2)
		builder_report(b, FINDING_WARNING, mark_of(ev),
		               "found %%YAML %d.%d: the file is read as YAML 1.2", v->major, v->minor);
	return 0;
}

static int on_alias(struct builder *b, const yaml_event_t *ev)
{
	int r = builder_invalid(b, mark_of(ev));
	if (r == 0)
		builder_report(b, FINDING_ERROR, mark_of(ev),
		               "aliases (*%.40s) are not supported: write the value out",
		               (const char *)ev->data.alias.anchor);
	return r;
}

static int on_scalar(struct builder *b, const yaml_event_t *ev)
{
	bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !ev->data.scalar.tag;
	int r = builder_scalar(b, (const char *)ev->data.scalar.value, ev->data.scalar.length, plain,
	                       mark_of(ev));
	if (r == 0)
		refuse_properties(b, mark_of(ev), ev->data.scalar.anchor, ev->data.scalar.tag);
	return r;
}

static int on_sequence_start(struct builder *b, const yaml_event_t *ev)
{
	int r = builder_open(b, YNODE_SEQ, mark_of(ev));
	if (r == 0)
		refuse_properties(b, mark_of(ev), ev->data.sequence_start.anchor,
		                  ev->data.sequence_start.tag);
	return r;
}

static int on_mapping_start(struct builder *b, const yaml_event_t *ev)
{
	int r = builder_open(b, YNODE_MAP, mark_of(ev));
	if (r == 0)
		refuse_properties(b, mark_of(ev), ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
	return r;
}

static int on_end(struct builder *b, const yaml_event_t *ev)
{
	(void)ev;
	return builder_close(b);
}

static int on_stream_end(struct builder *b, const yaml_event_t *ev)
{
	(void)b, (void)ev;
	return DONE;
}

static int (*const handlers[])(struct builder *b, const yaml_event_t *ev) = {
    [YAML_STREAM_END_EVENT] = on_stream_end,
    [YAML_DOCUMENT_START_EVENT] = on_document_start,
    [YAML_ALIAS_EVENT] = on_alias,
    [YAML_SCALAR_EVENT] = on_scalar,
    [YAML_SEQUENCE_START_EVENT] = on_sequence_start,
    [YAML_SEQUENCE_END_EVENT] = on_end,
    [YAML_MAPPING_START_EVENT] = on_mapping_start,
    [YAML_MAPPING_END_EVENT] = on_end,
};

/* Does a line up to `line` (0-based) begin with blanks among which there is a tab? */
static bool tab_indents(const struct reader *rd, size_t line)
{
	const char *p = rd->source, *end = p + rd->len;
	for (size_t i = 0; i < line && p; i++) {
		p = memchr(p, '\n', (size_t)(end - p));
		p = p ? p + 1 : NULL;
	}
	while (p && p < end && *p == ' ')
		p++;
	return p && p < end && *p == '\t';
}

static int syntax_error(const struct reader *rd, const yaml_parser_t *p)
{
	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	struct mark at = {(unsigned)p->problem_mark.line + 1, (unsigned)p->problem_mark.column + 1};
	char context[160] = "";
	if (p->context)
		snprintf(context, sizeof context, " (%s that begins at line %zu)", p->context,
		         p->context_mark.line + 1);
	findings_add(rd->b->f, FINDING_ERROR, at.line, at.column, NULL, "not YAML: %s%s%s",
	             p->problem ? p->problem : "unreadable", context,
	             tab_indents(rd, p->problem_mark.line) ? "; indent with spaces, not with tabs" : "");
	return -EINVAL;
}

static int read_events(const struct reader *rd, yaml_parser_t *p)
{
	for (;;) {
		yaml_event_t ev;
		if (!yaml_parser_parse(p, &ev))
			return syntax_error(rd, p);
		int r = 0;
		size_t type = (size_t)ev.type;
		if (type < sizeof handlers / sizeof handlers[0] && handlers[type])
			r = handlers[type](rd->b, &ev);
		yaml_event_delete(&ev);
		if (r != 0)
			return r == DONE ? 0 : r;
	}
}

static int read_yaml(struct builder *b, const char *source, size_t len)
{
	yaml_parser_t p;
	if (!yaml_parser_initialize(&p))
		return -ENOMEM;
	struct reader rd = {.b = b, .source = source, .len = len};
	yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p, (const unsigned char *)source, len);
	int r = read_events(&rd, &p);
	yaml_parser_delete(&p);
	if (r == 0 && !b->tree->root) {
		findings_add(b->f, FINDING_ERROR, 0, 0, NULL, "the file is empty");
		r = -EINVAL;
	}
	return r;
}

static int read_any(struct builder *b, const struct yaml_limits *limits, struct findings *f,
                    const char *source, size_t len)
{
	int r = builder_init(b, limits, f);
	if (r < 0)
		return r;
	r = yaml_read_json(b, source, len);
	return r > 0 ? read_yaml(b, source, len) : r;
}

int yaml_tree_parse(const char *source, size_t len, const struct yaml_limits *limits, struct yaml_tree **ret,
                    struct findings *f)
{
	struct yaml_limits lim = limits ? *limits : YAML_LIMITS_DEFAULT;
	*ret = NULL;
	if (len > lim.max_bytes) {
		findings_add(f, FINDING_ERROR, 0, 0, NULL, "the file has %zu bytes, expected at most %zu",
		             len, lim.max_bytes);
		return -EINVAL;
	}
	if (len >= 3 && memcmp(source, "\xEF\xBB\xBF", 3) == 0) { /* a byte order mark */
		source += 3;
		len -= 3;
	}
	int r = yaml_check_bytes(source, len, f);
	if (r < 0)
		return r;
	struct builder b = {0};
	r = read_any(&b, &lim, f, source, len);
	if (r == 0 && f->failed)
		r = -ENOMEM;
	if (r == 0)
		*ret = TAKE_PTR(b.tree);
	builder_done(&b);
	return r;
}
