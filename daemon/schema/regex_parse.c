/* Patterns to trees. The recursion is as deep as the groups of the pattern, which are bounded. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/charset.h"

struct pattern {
	struct rx_tree *t;
	const char *p, *end;
	unsigned depth;
	char *why;
};

static int parse_alternatives(struct pattern *s, struct rx_node **ret);

static int bad(struct pattern *s, const char *what)
{
	snprintf(s->why, REGEX_WHY, "%s", what);
	return -EINVAL;
}

uint32_t rx_decode(const char *p, const char *end, unsigned *ret_len)
{
	unsigned char c = (unsigned char)*p;
	unsigned n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	uint32_t v = c;
	*ret_len = 1;
	if (n == 1 || (size_t)(end - p) < n)
		return v;
	v = c & (0xffu >> (n + 1));
	for (unsigned i = 1; i < n; i++) {
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return c;
		v = v << 6 | ((unsigned char)p[i] & 0x3f);
	}
	*ret_len = n;
	return v;
}

/* ---- the tree ---- */

static struct rx_node *new_node(struct pattern *s, enum rx_kind kind)
{
	struct rx_node *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->kind = kind;
	n->made = s->t->made;
	s->t->made = n;
	return n;
}

static void append(struct rx_node *list, struct rx_node *child)
{
	child->prev = list->last;
	if (list->last)
		list->last->next = child;
	else
		list->first = child;
	list->last = child;
}

void rx_tree_free(struct rx_tree *t)
{
	while (t->made) {
		struct rx_node *n = t->made;
		t->made = n->made;
		free(n);
	}
	charset_free(t->sets, t->n_sets);
	*t = (struct rx_tree){0};
}

/* A node for a new set; the set is the tree's last. */
static int new_set(struct pattern *s, struct rx_node **ret)
{
	struct rx_tree *t = s->t;
	t->n_ranges += t->n_sets ? t->sets[t->n_sets - 1].n : 0; /* the one before is whole */
	if (t->n_ranges > REGEX_MAX_RANGES)
		return bad(s, "too large: its sets of characters have more than 100000 ranges");
	if (t->n_sets == t->cap_sets) {
		uint32_t cap = t->cap_sets ? t->cap_sets * 2 : 16;
		struct charset *p = reallocarray(t->sets, cap, sizeof *p);
		if (!p)
			return -ENOMEM;
		t->sets = p;
		t->cap_sets = cap;
	}
	*ret = new_node(s, RX_SET);
	if (!*ret)
		return -ENOMEM;
	(*ret)->set = t->n_sets;
	t->sets[t->n_sets++] = (struct charset){0};
	return 0;
}

static struct charset *last_set(struct pattern *s)
{
	return &s->t->sets[s->t->n_sets - 1];
}

static int one_character(struct pattern *s, uint32_t c, struct rx_node **ret)
{
	int rc = new_set(s, ret);
	if (rc == 0)
		rc = charset_add(last_set(s), c, c);
	return rc == 0 ? charset_finish(last_set(s), false) : rc;
}

/* ---- escapes ---- */

static bool at(const struct pattern *s, const char *text)
{
	size_t n = strlen(text);
	return (size_t)(s->end - s->p) >= n && memcmp(s->p, text, n) == 0;
}

/* Exactly `n` hexadecimal digits; -1 if they are not there. */
static int64_t hex(const char *p, const char *end, unsigned n)
{
	int64_t v = 0;
	if (end - p < n)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		static const char all[] = "0123456789abcdefABCDEF";
		const char *d = p[i] ? strchr(all, p[i]) : NULL;
		if (!d)
			return -1;
		int64_t digit = d - all;
		v = v * 16 + (digit > 15 ? digit - 6 : digit);
	}
	return v;
}

/* After "\u": four digits, a pair of surrogates, or {digits}. */
static int unicode_escape(struct pattern *s, uint32_t *ret)
{
	static const char message[] = "\\u needs four hexadecimal digits, or {digits}";
	if (at(s, "{")) {
		const char *close = memchr(s->p, '}', (size_t)(s->end - s->p));
		int64_t v = close && close - s->p > 1 && close - s->p < 8
		                    ? hex(s->p + 1, close, (unsigned)(close - s->p - 1))
		                    : -1;
		if (v < 0 || v > CODE_POINT_MAX)
			return bad(s, message);
		*ret = (uint32_t)v;
		s->p = close + 1;
		return 0;
	}
	int64_t hi = hex(s->p, s->end, 4);
	if (hi < 0)
		return bad(s, message);
	s->p += 4;
	*ret = (uint32_t)hi;
	int64_t lo = hi >= 0xd800 && hi < 0xdc00 && at(s, "\\u") ? hex(s->p + 2, s->end, 4) : -1;
	if (lo >= 0xdc00 && lo < 0xe000) {
		*ret = 0x10000u + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00);
		s->p += 6;
	}
	return 0;
}

static int lettered_escape(struct pattern *s, char c, uint32_t *ret)
{
	static const char letters[] = "tnvfr", meant[] = "\t\n\v\f\r";
	const char *l = strchr(letters, c);
	int64_t v;
	if (l) {
		*ret = (unsigned char)meant[l - letters];
		return 0;
	}
	switch (c) {
	case 'x':
		v = hex(s->p, s->end, 2);
		if (v < 0)
			return bad(s, "\\x needs two hexadecimal digits");
		s->p += 2;
		*ret = (uint32_t)v;
		return 0;
	case 'u':
		return unicode_escape(s, ret);
	case 'c':
		if (s->p == s->end || !((*s->p >= 'a' && *s->p <= 'z') || (*s->p >= 'A' && *s->p <= 'Z')))
			return bad(s, "\\c needs a letter");
		*ret = (unsigned char)*s->p++ & 31u;
		return 0;
	case 'k':
		return bad(s, "back references (\\k) are not supported");
	default:
		return bad(s, "unknown escape: a backslash before a letter that means nothing");
	}
}

/* After the backslash, where one character is meant. */
static int escaped_character(struct pattern *s, uint32_t *ret)
{
	unsigned n;
	if (s->p == s->end)
		return bad(s, "ends with a backslash");
	char c = *s->p;
	if (c >= '1' && c <= '9')
		return bad(s, "back references (\\1) are not supported");
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
		s->p++;
		return lettered_escape(s, c, ret);
	}
	*ret = c == '0' ? 0 : rx_decode(s->p, s->end, &n);
	s->p += c == '0' ? 1 : n;
	return 0;
}

/* What stands for many, after the backslash: 0 and added to the last set, 1 if it is nothing of the kind. */
static int class_escape(struct pattern *s)
{
	if (s->p == s->end || *s->p == '.')
		return 1;
	if (*s->p == 'p' || *s->p == 'P') {
		const char *close = memchr(s->p, '}', (size_t)(s->end - s->p));
		int rc = close && close - s->p > 2 && s->p[1] == '{'
		                 ? charset_add_property(last_set(s), s->p + 2, (size_t)(close - s->p - 2), *s->p == 'P')
		                 : 1;
		if (rc == 1)
			return bad(
				s,
				"unknown Unicode property: general categories are known, like \\p{Lu} or \\p{Letter}");
		s->p = close + 1;
		return rc;
	}
	int rc = charset_add_class(last_set(s), *s->p);
	s->p += rc == 0;
	return rc;
}

/* ---- classes in brackets ---- */

/* One member: a class letter (returns 1), or a character. */
static int class_member(struct pattern *s, uint32_t *ret)
{
	unsigned n;
	if (*s->p != '\\') {
		*ret = rx_decode(s->p, s->end, &n);
		s->p += n;
		return 0;
	}
	s->p++;
	if (at(s, "b")) {
		s->p++;
		*ret = '\b';
		return 0;
	}
	int rc = class_escape(s);
	return rc == 1 ? escaped_character(s, ret) : rc < 0 ? rc : 1;
}

static int class_range(struct pattern *s)
{
	uint32_t lo = 0, hi;
	int rc = class_member(s, &lo);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	hi = lo;
	if (at(s, "-") && s->end - s->p > 1 && s->p[1] != ']') {
		s->p++;
		rc = class_member(s, &hi);
		if (rc == 1)
			rc = bad(s, "a class like \\d cannot be the end of a range");
		if (rc == 0 && hi < lo)
			rc = bad(s, "a range in brackets is the wrong way round");
	}
	return rc < 0 ? rc : charset_add(last_set(s), lo, hi);
}

static int parse_class(struct pattern *s, struct rx_node **ret)
{
	int rc = new_set(s, ret);
	bool negated = at(s, "^");
	s->p += negated;
	while (rc == 0 && s->p < s->end && *s->p != ']')
		rc = last_set(s)->n > REGEX_MAX_RANGES
		             ? bad(s, "too large: a set of characters with more than 100000 ranges")
		             : class_range(s);
	if (rc == 0 && s->p == s->end)
		rc = bad(s, "a [ without its ]");
	if (rc < 0)
		return rc;
	s->p++;
	return charset_finish(last_set(s), negated);
}

/* ---- groups ---- */

static const struct {
	const char *text;
	bool look, behind, negated;
} openings[] = {
    {"?:", false, false, false}, {"?=", true, false, false}, {"?!", true, false, true},
    {"?<=", true, true, false},	 {"?<!", true, true, true},
};

static int skip_group_name(struct pattern *s)
{
	const char *close = memchr(s->p, '>', (size_t)(s->end - s->p));
	if (!at(s, "?<") || !close)
		return bad(s, "unknown kind of group after (?");
	s->p = close + 1;
	return 0;
}

/* After the bracket. */
static int parse_group(struct pattern *s, struct rx_node **ret)
{
	struct rx_node *inner = NULL, *look = NULL;
	size_t k = 0, n = sizeof openings / sizeof *openings;
	while (k < n && !at(s, openings[k].text))
		k++;
	if (k < n)
		s->p += strlen(openings[k].text);
	else if (at(s, "?") && skip_group_name(s) < 0)
		return -EINVAL;
	if (++s->depth > REGEX_MAX_NESTING)
		return bad(s, "groups are nested too deeply");
	int rc = parse_alternatives(s, &inner);
	s->depth--;
	if (rc == 0 && !at(s, ")"))
		rc = bad(s, "a ( without its )");
	if (rc < 0)
		return rc;
	s->p++;
	*ret = inner;
	if (k == n || !openings[k].look)
		return 0;
	*ret = look = new_node(s, RX_LOOK);
	if (!look)
		return -ENOMEM;
	look->behind = openings[k].behind;
	look->negated = openings[k].negated;
	append(look, inner);
	return 0;
}

/* ---- atoms and repetitions ---- */

static int assertion(struct pattern *s, enum rx_assert what, unsigned skip, struct rx_node **ret)
{
	*ret = new_node(s, RX_ASSERT);
	if (!*ret)
		return -ENOMEM;
	(*ret)->what = what;
	s->p += skip;
	return 0;
}

static int parse_escape(struct pattern *s, struct rx_node **ret)
{
	uint32_t c = 0;
	if (at(s, "\\b") || at(s, "\\B"))
		return assertion(s, s->p[1] == 'b' ? RX_WORD : RX_NO_WORD, 2, ret);
	s->p++;
	int rc = new_set(s, ret);
	if (rc == 0)
		rc = class_escape(s);
	if (rc <= 0)
		return rc < 0 ? rc : charset_finish(last_set(s), false);
	rc = escaped_character(s, &c);
	return rc < 0 ? rc : one_character(s, c, ret);
}

static int parse_atom(struct pattern *s, struct rx_node **ret)
{
	unsigned n;
	int rc;
	switch (*s->p) {
	case '^':
		return assertion(s, RX_START, 1, ret);
	case '$':
		return assertion(s, RX_END, 1, ret);
	case '(':
		s->p++;
		return parse_group(s, ret);
	case '[':
		s->p++;
		return parse_class(s, ret);
	case '\\':
		return parse_escape(s, ret);
	case '.':
		s->p++;
		rc = new_set(s, ret);
		if (rc == 0)
			rc = charset_add_class(last_set(s), '.');
		return rc < 0 ? rc : charset_finish(last_set(s), false);
	case '*':
	case '+':
	case '?':
		return bad(s, "a repetition (*, + or ?) of nothing");
	default: {
		uint32_t c = rx_decode(s->p, s->end, &n);
		s->p += n;
		return one_character(s, c, ret);
	}
	}
}

static const char *read_count(const char *p, const char *end, uint32_t *ret)
{
	const char *start = p;
	uint32_t v = 0;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		v = v > REGEX_MAX_COUNT ? v : v * 10 + (uint32_t)(*p - '0');
	*ret = v;
	return p == start ? NULL : p;
}

/* {n}, {n,} or {n,m}; 0 if it is not that (the bracket then stands for itself). */
static int read_braces(struct pattern *s, uint32_t *min, uint32_t *max)
{
	const char *p = read_count(s->p + 1, s->end, min);
	*max = *min;
	if (p && p < s->end && *p == ',') {
		const char *q = read_count(p + 1, s->end, max);
		if (!q)
			*max = UINT32_MAX;
		p = q ? q : p + 1;
	}
	if (!p || p == s->end || *p != '}')
		return 0;
	if (*max < *min || *min > REGEX_MAX_COUNT || (*max > REGEX_MAX_COUNT && *max != UINT32_MAX))
		return bad(s,
		           *max < *min ? "{n,m} is the wrong way round" : "a repetition in braces of more than 10000");
	s->p = p + 1;
	return 1;
}

/* 1 if there is a repetition. */
static int read_repetition(struct pattern *s, uint32_t *min, uint32_t *max)
{
	static const struct {
		char c;
		uint32_t min, max;
	} simple[] = {{'*', 0, UINT32_MAX}, {'+', 1, UINT32_MAX}, {'?', 0, 1}};
	for (size_t i = 0; s->p < s->end && i < sizeof simple / sizeof *simple; i++)
		if (*s->p == simple[i].c) {
			*min = simple[i].min;
			*max = simple[i].max;
			s->p++;
			return 1;
		}
	return at(s, "{") ? read_braces(s, min, max) : 0;
}

static int parse_term(struct pattern *s, struct rx_node **ret)
{
	uint32_t min = 0, max = 0;
	int rc = parse_atom(s, ret);
	int repeated = rc == 0 ? read_repetition(s, &min, &max) : rc;
	if (repeated <= 0)
		return repeated;
	if (at(s, "?")) /* whether it takes few or many makes no difference to whether it is found */
		s->p++;
	struct rx_node *r = new_node(s, RX_REPEAT);
	if (!r)
		return -ENOMEM;
	r->min = min;
	r->max = max;
	append(r, *ret);
	*ret = r;
	return 0;
}

static int parse_sequence(struct pattern *s, struct rx_node **ret)
{
	struct rx_node *list = *ret = new_node(s, RX_CAT), *term = NULL;
	if (!list)
		return -ENOMEM;
	while (s->p < s->end && *s->p != '|' && *s->p != ')') {
		int rc = parse_term(s, &term);
		if (rc < 0)
			return rc;
		append(list, term);
	}
	return 0;
}

static int parse_alternatives(struct pattern *s, struct rx_node **ret)
{
	struct rx_node *list = *ret = new_node(s, RX_ALT), *one = NULL;
	if (!list)
		return -ENOMEM;
	for (;;) {
		int rc = parse_sequence(s, &one);
		if (rc < 0)
			return rc;
		append(list, one);
		if (!at(s, "|"))
			return 0;
		s->p++;
	}
}

int rx_parse(const char *pattern, size_t len, struct rx_tree *t, char *why)
{
	struct pattern s = {.t = t, .p = pattern, .end = pattern + len, .why = why};
	if (len > REGEX_MAX_PATTERN)
		return bad(&s, "longer than 8192 bytes");
	int rc = parse_alternatives(&s, &t->root);
	if (rc == 0 && s.p < s.end)
		rc = bad(&s, "a ) without its (");
	return rc;
}
