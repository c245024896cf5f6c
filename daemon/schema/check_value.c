/* The keywords that look at one value by itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/schema_impl.h"

static const struct jnode *value_at(const struct run *r, uint32_t value)
{
	return jnode(&r->doc, value);
}

static const char *type_name(const struct jnode *n)
{
	static const char *const names[] = {[J_NULL] = "null",	   [J_BOOL] = "a boolean", [J_NUMBER] = "a number",
					    [J_STRING] = "a string", [J_ARRAY] = "an array", [J_OBJECT] = "an object"};
	return n->type == J_NUMBER && number_is_integer(&n->u.number) ? "an integer" : names[n->type];
}

static void list_types(uint64_t bits, char *text, size_t size)
{
	static const char *const names[] = {"null",   "boolean", "number", "string", "array",
	                                    "object", "",        "",       "integer"};
	size_t n = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names && n < size; i++)
		if (bits >> i & 1)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n ? " or " : "", names[i]);
}

bool check_type(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	const struct jnode *n = value_at(r, value);
	char wanted[100] = "";
	(void)s, (void)m;
	bool integer = n->type == J_NUMBER && (k->limit >> 8 & 1) && number_is_integer(&n->u.number);
	if (integer || (k->limit >> n->type & 1))
		return true;
	list_types(k->limit, wanted, sizeof wanted);
	return violate(r, value, k->node, "is %s, expected %s", type_name(n), wanted);
}

bool check_enum(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	uint32_t lo = 0, hi = jnode(&r->s->doc, k->node)->n;
	(void)s, (void)m;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = jdoc_compare(&r->doc, value, &r->s->doc, k->order[mid], &r->work);
		if (c == 0)
			return true;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return violate(r, value, k->node, "is none of the values allowed here");
}

bool check_const(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return jdoc_compare(&r->doc, value, &r->s->doc, k->node, &r->work) == 0 ||
	       violate(r, value, k->node, "is not the one value allowed here");
}

/* ---- numbers ---- */

static const struct number *limit_of(const struct run *r, const struct kw *k)
{
	return &jnode(&r->s->doc, k->node)->u.number;
}

static int against_limit(const struct run *r, const struct kw *k, uint32_t value)
{
	return number_compare(&value_at(r, value)->u.number, limit_of(r, k));
}

struct digits {
	char text[64];
};

/* As a person would write it, if it is neither very large nor very small. */
static const char *number_text(struct digits *d, const struct number *n)
{
	char all[24];
	int len = snprintf(all, sizeof all, "%llu", (unsigned long long)n->digits), after = -n->exponent;
	const char *sign = n->negative ? "-" : "";
	if (n->exponent > 19 || after > 19)
		snprintf(d->text, sizeof d->text, "%s%se%d", sign, all, n->exponent);
	else if (after <= 0)
		snprintf(d->text, sizeof d->text, "%s%s%.*s", sign, all, n->exponent, "0000000000000000000");
	else if (after < len)
		snprintf(d->text, sizeof d->text, "%s%.*s.%s", sign, len - after, all, all + len - after);
	else
		snprintf(d->text, sizeof d->text, "%s0.%.*s%s", sign, after - len, "0000000000000000000", all);
	return d->text;
}
#define LIMIT_TEXT(r, k) number_text(&(struct digits){.text = ""}, limit_of(r, k))

bool check_multiple(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return number_is_multiple(&value_at(r, value)->u.number, limit_of(r, k)) ||
	       violate(r, value, k->node, "is not a multiple of %s", LIMIT_TEXT(r, k));
}

bool check_maximum(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return against_limit(r, k, value) <= 0 || violate(r, value, k->node, "is greater than %s", LIMIT_TEXT(r, k));
}

bool check_exclusive_maximum(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return against_limit(r, k, value) < 0 || violate(r, value, k->node, "is not less than %s", LIMIT_TEXT(r, k));
}

bool check_minimum(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return against_limit(r, k, value) >= 0 || violate(r, value, k->node, "is less than %s", LIMIT_TEXT(r, k));
}

bool check_exclusive_minimum(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	(void)s, (void)m;
	return against_limit(r, k, value) > 0 || violate(r, value, k->node, "is not greater than %s", LIMIT_TEXT(r, k));
}

/* ---- texts ---- */

static uint64_t characters(const struct jnode *n)
{
	uint64_t count = 0;
	for (uint32_t i = 0; i < n->n; i++)
		count += ((unsigned char)n->u.text[i] & 0xc0) != 0x80;
	return count;
}

bool check_max_length(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	uint64_t n = characters(value_at(r, value));
	(void)s, (void)m;
	return n <= k->limit || violate(r, value, k->node, "has %llu characters, at most %llu are allowed",
	                                (unsigned long long)n, (unsigned long long)k->limit);
}

bool check_min_length(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	uint64_t n = characters(value_at(r, value));
	(void)s, (void)m;
	return n >= k->limit || violate(r, value, k->node, "has %llu characters, at least %llu are needed",
	                                (unsigned long long)n, (unsigned long long)k->limit);
}

bool check_pattern(struct run *r, const struct snode *s, const struct kw *k, uint32_t value, struct marks *m)
{
	const struct jnode *n = value_at(r, value), *pattern = jnode(&r->s->doc, k->node);
	(void)s, (void)m;
	int rc = run_regex(r, k->regexes[0], value, n->u.text, n->n);
	return rc > 0 || violate(r, value, k->node, "does not match the pattern %s", SHOW(pattern->u.text, pattern->n));
}
