/* JSON schemas inside templates: compiled to see whether they can be used, and what is wrong with them told with its
 * place in the file. */
#include "daemon/template/schema_field.h"

#include <errno.h>
#include <string.h>

#include "daemon/schema/schema.h"
#include "daemon/template/normal.h"
#include "daemon/template/suggest.h"

/* What the reader has refused has its finding; the rest of such a schema makes no sense. */
static bool is_whole(const struct ynode *n)
{
	bool whole = n->kind != YNODE_INVALID;
	for (size_t i = 0; whole && n->kind == YNODE_SEQ && i < n->n; i++)
		whole = is_whole(n->u.items[i]);
	for (size_t i = 0; whole && n->kind == YNODE_MAP && i < n->n; i++)
		whole = is_whole(n->u.pairs[i].value);
	return whole;
}

/* The first part of a JSON pointer, "~0" and "~1" undone, into `token`; returns the rest. */
static const char *next_token(const char *pointer, char *token, size_t size)
{
	size_t n = 0;
	const char *p = pointer + 1;
	for (; *p && *p != '/'; p++) {
		bool escape = *p == '~' && (p[1] == '0' || p[1] == '1');
		char c = !escape ? *p : *++p == '0' ? '~' : '/';
		if (n + 1 < size)
			token[n++] = c;
	}
	token[n] = '\0';
	return p;
}

#define KEYWORDS_MAX 100

static const char *nearest_keyword(struct check *c, const char *key)
{
	const char *names[KEYWORDS_MAX];
	size_t n = 0;
	while (n < KEYWORDS_MAX && (names[n] = schema_keyword(n)))
		n++;
	return suggest_nearest(key, names, n, &c->suggest_budget);
}

static void report_here(struct check *c, const struct path *p, unsigned line, unsigned column,
                        const struct schema_problem *problem)
{
	const char *near = problem->unknown && p && p->key ? nearest_keyword(c, p->key) : NULL;
	check_report(c, problem->warning || c->draft ? FINDING_WARNING : FINDING_ERROR, p, line, column, "%s%s%s%s",
	             problem->message, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

struct place {
	unsigned line, column;
};

/* Goes down to where the pointer leads, so that the path is on the stack when it is reported. */
static void report(struct check *c, const struct path *p, struct place at, const struct ynode *n, const char *pointer,
                   const struct schema_problem *problem)
{
	char token[300];
	const struct ypair *pair = NULL;
	size_t i = 0;
	const char *rest = *pointer ? next_token(pointer, token, sizeof token) : pointer;
	if (*pointer && n->kind == YNODE_MAP)
		pair = ynode_pair(n, token);
	if (*pointer && n->kind == YNODE_SEQ)
		i = strtoul(token, NULL, 10);
	if (pair)
		report(c, PATH_KEY(p, pair->key), (struct place){pair->line, pair->column}, pair->value, rest, problem);
	else if (*pointer && n->kind == YNODE_SEQ && i < n->n)
		report(c, PATH_INDEX(p, i), (struct place){n->u.items[i]->line, n->u.items[i]->column}, n->u.items[i],
		       rest, problem);
	else
		report_here(c, p, at.line, at.column, problem);
}

void check_schema_field(struct check *c, const struct path *p, const struct ynode *n)
{
	struct schema_problems problems = {.parts = c->pattern_parts};
	struct schema *s = NULL;
	struct buf text;
	if (!is_whole(n))
		return;
	buf_init(&text, 0);
	normal_put_value(&text, n);
	int rc = text.failed ? text.failed : schema_compile((const char *)text.data, text.len, &s, &problems);
	if (rc == -ENOMEM)
		c->f->failed = true;
	for (size_t i = 0; i < problems.n; i++)
		report(c, p, (struct place){n->line, n->column}, n, problems.items[i].pointer, &problems.items[i]);
	c->pattern_parts = problems.parts;
	schema_problems_done(&problems);
	schema_free(s);
	buf_done(&text);
}
