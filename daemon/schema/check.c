/* Checking a value: the walk, what is noted of it, and the keywords that combine schemas. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/regex_impl.h"
#include "daemon/schema/schema_impl.h"

/* ---- violations ---- */

void violations_done(struct violations *v)
{
	for (size_t i = 0; i < v->n; i++) {
		free(v->items[i].instance);
		free(v->items[i].keyword);
		free(v->items[i].message);
	}
	*v = (struct violations){.n = 0};
}

/* A pointer of which nobody would read the end is cut. */
static char *pointer_text(const struct jdoc *d, uint32_t no)
{
	struct buf b;
	buf_init(&b, 2000);
	jdoc_pointer(d, no, &b);
	char *text = b.failed == -EMSGSIZE ? strdup("(too long)") : buf_take_text(&b);
	buf_done(&b);
	return text;
}

static void keep(struct run *r, uint32_t value, uint32_t keyword, char *message)
{
	struct violations *v = r->out;
	struct violation item = {pointer_text(&r->doc, value), pointer_text(&r->s->doc, keyword), message};
	if (item.instance && item.keyword && message) {
		v->items[v->n++] = item;
		return;
	}
	free(item.instance);
	free(item.keyword);
	free(message);
	r->failed = -ENOMEM;
}

bool violate(struct run *r, uint32_t value, uint32_t keyword, const char *fmt, ...)
{
	char *message = NULL;
	va_list ap;
	if (r->quiet || !r->out || r->gave_up)
		return false;
	r->out->total++;
	if (r->out->n == SCHEMA_MAX_VIOLATIONS)
		return false;
	va_start(ap, fmt);
	if (vasprintf(&message, fmt, ap) < 0)
		message = NULL;
	va_end(ap);
	keep(r, value, keyword, message);
	return false;
}

static bool give_up(struct run *r, uint32_t value, const char *why)
{
	unsigned quiet = r->quiet;
	if (r->gave_up)
		return false;
	r->quiet = 0;
	(void)violate(r, value, 0, "%s", why);
	r->quiet = quiet;
	r->gave_up = true;
	if (r->out)
		r->out->gave_up = true;
	return false;
}

bool run_spend(struct run *r, uint32_t value, uint64_t cost)
{
	r->work = r->work > cost ? r->work - cost : 0;
	return r->work > 0 || give_up(r, value, "checking this takes too much work");
}

int run_regex(struct run *r, const struct regex *re, uint32_t value, const char *text, size_t len)
{
	int rc = regex_search(re, text, len, &r->work);
	if (rc == -E2BIG)
		(void)give_up(r, value, "checking this against a pattern takes too much work");
	if (rc == -ENOMEM)
		r->failed = rc;
	return rc < 0 ? -1 : rc;
}

/* A character of the text in printable form; false if there is no more room. */
static bool show_one(struct shown *b, size_t *pos, const char *p, unsigned n)
{
	unsigned char c = (unsigned char)*p;
	bool control = (n == 1 && (c < 0x20 || c >= 0x7f)) || (n == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0);
	if (*pos + 8 > sizeof b->text - 6)
		return false;
	if (control)
		*pos += (size_t)snprintf(b->text + *pos, 7, "\\u%04x", n == 1 ? c : (unsigned)(unsigned char)p[1]);
	else if (c == '"' || c == '\\')
		*pos += (size_t)snprintf(b->text + *pos, 3, "\\%c", c);
	else
		memcpy(b->text + *pos, p, n), *pos += n;
	return true;
}

const char *show_text(struct shown *b, const char *text, size_t len)
{
	size_t pos = 0;
	b->text[pos++] = '"';
	for (size_t i = 0; i < len;) {
		unsigned n;
		(void)rx_decode(text + i, text + len, &n);
		if (!show_one(b, &pos, text + i, n)) {
			memcpy(b->text + pos, "...", 3);
			pos += 3;
			break;
		}
		i += n;
	}
	b->text[pos++] = '"';
	b->text[pos] = '\0';
	return b->text;
}

/* ---- marks ---- */

void mark(struct marks *m, uint32_t i)
{
	if (m && i < m->n)
		m->seen[i] = 1;
}

static void add_marks(struct marks *to, const struct marks *from)
{
	for (uint32_t i = 0; to && from && i < to->n && i < from->n; i++)
		to->seen[i] |= from->seen[i];
}

static bool is_container(const struct jnode *n)
{
	return n->type == J_ARRAY || n->type == J_OBJECT;
}

static bool new_marks(struct run *r, uint32_t value, struct marks *m)
{
	const struct jnode *n = jnode(&r->doc, value);
	m->n = is_container(n) ? n->n : 0;
	m->seen = calloc(m->n + (size_t)1, 1);
	if (!m->seen)
		r->failed = -ENOMEM;
	return m->seen != NULL;
}

/* ---- the walk ---- */

static bool speaks_of(const struct kw *k, const struct jnode *n)
{
	return k->def->check && (k->def->types & J_BIT(n->type));
}

static bool check_keywords(struct run *r, const struct snode *s, uint32_t value, struct marks *m)
{
	bool ok = true;
	for (const struct kw *k = s->kws; k; k = k->next) {
		if (!speaks_of(k, jnode(&r->doc, value)))
			continue;
		ok = k->def->check(r, s, k, value, m) && ok;
		if (r->gave_up || r->failed || (!ok && (r->quiet || !r->out)))
			return false;
	}
	return ok;
}

bool check_schema(struct run *r, const struct snode *s, uint32_t value, struct marks *m)
{
	struct marks own = {0};
	if (s->always)
		return true;
	if (s->never)
		return violate(r, value, s->node, "is not allowed");
	if (!run_spend(r, value, 1))
		return false;
	if (r->depth >= SCHEMA_MAX_NESTED)
		return give_up(r, value, "schemas inside schemas go too deep here");
	if (!s->unevaluated)
		own.seen = NULL;
	else if (!new_marks(r, value, &own))
		return false;
	const struct scope here = {r->scope, s->resource}, *before = r->scope;
	r->depth++;
	if (!before || before->resource != s->resource)
		r->scope = &here;
	bool ok = check_keywords(r, s, value, own.seen ? &own : m);
	r->scope = before;
	r->depth--;
	if (own.seen)
		add_marks(m, &own);
	free(own.seen);
	return ok;
}

/* Does the value fit, whoever asks? What a schema that does not fit has marked does not count. */
static bool fits(struct run *r, const struct snode *s, uint32_t value, struct marks *m)
{
	struct marks own = {0};
	if (m && !new_marks(r, value, &own))
		return false;
	r->quiet++;
	bool ok = check_schema(r, s, value, m ? &own : NULL);
	r->quiet--;
	if (ok)
		add_marks(m, &own);
	free(own.seen);
	return ok;
}

/* ---- combining ---- */

bool check_ref(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s;
	return check_schema(r, k->subs[0], value, m);
}

/* The schema of that name in the outermost of the resources that led here. */
bool check_dynamic_ref(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	const struct snode *target = k->subs[0];
	(void)s;
	for (const struct scope *at = r->scope; at && k->n_subs > 1; at = at->up)
		for (uint32_t i = 1; i < k->n_subs; i++)
			if (k->order[i - 1] == at->resource)
				target = k->subs[i];
	return check_schema(r, target, value, m);
}

bool check_all(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool ok = true;
	(void)s;
	for (uint32_t i = 0; i < k->n_subs; i++) {
		ok = check_schema(r, k->subs[i], value, m) && ok;
		if (!ok && (r->quiet || !r->out))
			break;
	}
	return ok;
}

static uint32_t count_fits(struct run *r, const struct kw *k, uint32_t value, struct marks *m, uint32_t enough)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < k->n_subs && (n < enough || m) && !r->gave_up; i++)
		n += fits(r, k->subs[i], value, m);
	return n;
}

bool check_any(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s;
	if (k->n_subs == 1) /* its own words say more */
		return check_schema(r, k->subs[0], value, m);
	return count_fits(r, k, value, m, 1) > 0 ||
	       violate(r, value, k->node, "fits none of the %u alternatives", k->n_subs);
}

bool check_one(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s;
	if (k->n_subs == 1)
		return check_schema(r, k->subs[0], value, m);
	uint32_t n = count_fits(r, k, value, m, 2);
	if (n == 0)
		return violate(r, value, k->node, "fits none of the %u alternatives", k->n_subs);
	return n == 1 || violate(r, value, k->node, "fits more than one of the %u alternatives", k->n_subs);
}

bool check_not(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	bool ok = fits(r, k->subs[0], value, NULL);
	return !ok && !r->gave_up ? true : violate(r, value, k->node, "fits what it must not be");
}

bool check_if(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	bool yes = fits(r, k->subs[0], value, m);
	const struct kw *next = yes ? s->then_kw : s->else_kw;
	return !next || r->gave_up || check_schema(r, next->subs[0], value, m);
}

/* ---- all of it ---- */

int schema_validate(const struct schema *s, const char *json, size_t len, struct violations *v)
{
	struct run r = {.s = s, .out = v, .work = SCHEMA_WORK + SCHEMA_WORK_BYTE * (uint64_t)len};
	int rc = jdoc_parse(&r.doc, json, len);
	bool ok = false;
	if (rc == 0)
		ok = check_schema(&r, s->root, 0, NULL) && run_spend(&r, 0, 0);
	jdoc_done(&r.doc);
	if (rc < 0)
		return rc == -ENOMEM ? rc : -EINVAL;
	if (r.failed)
		return r.failed;
	return ok && !r.gave_up ? 0 : 1;
}
