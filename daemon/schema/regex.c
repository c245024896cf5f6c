/* Trees to programs, and the search: the set of all places in the program where a match may stand, moved on by one
 * character at a time. What a lookaround says at each position of a text is found beforehand, by a search of its own: a
 * lookahead's is made of its reversed program and runs from the end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/regex_impl.h"

enum op { OP_SET, OP_SPLIT, OP_JUMP, OP_ASSERT, OP_LOOK, OP_MATCH };

struct inst {
	enum op op;
	uint32_t a, b; /* SET: which; SPLIT, JUMP: where; ASSERT, LOOK: which */
};

struct program {
	struct inst *code;
	uint32_t n, cap;
	bool behind, negated; /* of a lookaround */
};

struct regex {
	struct program main;
	struct program looks[REGEX_MAX_LOOKS]; /* inner ones first */
	uint32_t n_looks;
	struct charset *sets;
	uint32_t n_sets;
};

/* ---- making the program ---- */

struct maker {
	struct regex *r;
	uint32_t steps;
	char *why;
};

static int emit(struct maker *m, struct program *p, const struct rx_node *n, bool reversed);

static int too_large(struct maker *m)
{
	snprintf(m->why, REGEX_WHY, "too large: its repetitions written out have more than %u parts",
	         REGEX_MAX_PROGRAM);
	return -EINVAL;
}

static int put(struct maker *m, struct program *p, enum op op, uint32_t a, uint32_t b)
{
	if (p->n >= REGEX_MAX_PROGRAM)
		return too_large(m);
	if (p->n == p->cap) {
		uint32_t cap = p->cap ? p->cap * 2 : 32;
		struct inst *code = reallocarray(p->code, cap, sizeof *code);
		if (!code)
			return -ENOMEM;
		p->code = code;
		p->cap = cap;
	}
	p->code[p->n++] = (struct inst){op, a, b};
	return 0;
}

static int emit_all(struct maker *m, struct program *p, const struct rx_node *list, bool reversed)
{
	int rc = 0;
	for (const struct rx_node *n = reversed ? list->last : list->first; rc == 0 && n;
	     n = reversed ? n->prev : n->next)
		rc = emit(m, p, n, reversed);
	return rc;
}

static int emit_alternatives(struct maker *m, struct program *p, const struct rx_node *list, bool reversed)
{
	uint32_t jumps = UINT32_MAX; /* chained by their targets until the end is known */
	int rc = 0;
	for (const struct rx_node *n = list->first; rc == 0 && n; n = n->next) {
		uint32_t split = p->n;
		if (n->next)
			rc = put(m, p, OP_SPLIT, p->n + 1, 0);
		if (rc == 0)
			rc = emit(m, p, n, reversed);
		if (rc == 0 && n->next) {
			uint32_t jump = p->n;
			rc = put(m, p, OP_JUMP, jumps, 0);
			jumps = jump;
			p->code[split].b = p->n;
		}
	}
	while (rc == 0 && jumps != UINT32_MAX) {
		uint32_t next = p->code[jumps].a;
		p->code[jumps].a = p->n;
		jumps = next;
	}
	return rc;
}

static int emit_loop(struct maker *m, struct program *p, const struct rx_node *body, bool reversed)
{
	uint32_t split = p->n;
	int rc = put(m, p, OP_SPLIT, p->n + 1, 0);
	if (rc == 0)
		rc = emit(m, p, body, reversed);
	if (rc == 0)
		rc = put(m, p, OP_JUMP, split, 0);
	if (rc == 0)
		p->code[split].b = p->n;
	return rc;
}

static int emit_repeat(struct maker *m, struct program *p, const struct rx_node *n, bool reversed)
{
	uint32_t splits = UINT32_MAX;
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < n->min; i++)
		rc = emit(m, p, n->first, reversed);
	if (rc == 0 && n->max == UINT32_MAX)
		return emit_loop(m, p, n->first, reversed);
	for (uint32_t i = n->min; rc == 0 && i < n->max; i++) {
		uint32_t split = p->n;
		rc = put(m, p, OP_SPLIT, p->n + 1, splits);
		splits = split;
		if (rc == 0)
			rc = emit(m, p, n->first, reversed);
	}
	while (rc == 0 && splits != UINT32_MAX) {
		uint32_t next = p->code[splits].b;
		p->code[splits].b = p->n;
		splits = next;
	}
	return rc;
}

static int emit_look(struct maker *m, struct program *p, const struct rx_node *n)
{
	struct regex *r = m->r;
	struct program inner = {.behind = n->behind, .negated = n->negated};
	int rc = emit(m, &inner, n->first, !n->behind);
	if (rc == 0)
		rc = put(m, &inner, OP_MATCH, 0, 0);
	if (rc == 0 && r->n_looks == REGEX_MAX_LOOKS) {
		snprintf(m->why, REGEX_WHY, "more than %u lookarounds, repetitions written out", REGEX_MAX_LOOKS);
		rc = -EINVAL;
	}
	if (rc < 0) {
		free(inner.code);
		return rc;
	}
	r->looks[r->n_looks] = inner;
	return put(m, p, OP_LOOK, r->n_looks++, 0);
}

static int emit(struct maker *m, struct program *p, const struct rx_node *n, bool reversed)
{
	if (++m->steps > 4 * REGEX_MAX_PROGRAM) /* repetitions of nothing make no code */
		return too_large(m);
	switch (n->kind) {
	case RX_SET:
		return put(m, p, OP_SET, n->set, 0);
	case RX_CAT:
		return emit_all(m, p, n, reversed);
	case RX_ALT:
		return emit_alternatives(m, p, n, reversed);
	case RX_REPEAT:
		return emit_repeat(m, p, n, reversed);
	case RX_ASSERT:
		return put(m, p, OP_ASSERT, n->what, 0);
	case RX_LOOK:
		return emit_look(m, p, n);
	}
	return 0;
}

struct regex *regex_free(struct regex *r)
{
	if (!r)
		return NULL;
	free(r->main.code);
	for (uint32_t i = 0; i < r->n_looks; i++)
		free(r->looks[i].code);
	charset_free(r->sets, r->n_sets);
	free(r);
	return NULL;
}

size_t regex_parts(const struct regex *r)
{
	size_t n = r->main.n;
	for (uint32_t i = 0; i < r->n_looks; i++)
		n += r->looks[i].n;
	for (uint32_t i = 0; i < r->n_sets; i++)
		n += r->sets[i].n;
	return n;
}

int regex_compile(const char *pattern, size_t len, struct regex **ret, char *why)
{
	cleanup_(cleanup_regex) struct regex *r = calloc(1, sizeof *r);
	struct rx_tree t = {0};
	struct maker m = {.r = r, .why = why};
	if (!r)
		return -ENOMEM;
	int rc = rx_parse(pattern, len, &t, why);
	if (rc == 0)
		rc = emit(&m, &r->main, t.root, false);
	if (rc == 0)
		rc = put(&m, &r->main, OP_MATCH, 0, 0);
	r->sets = t.sets;
	r->n_sets = t.n_sets;
	t.sets = NULL;
	t.n_sets = 0;
	rx_tree_free(&t);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

/* ---- searching ---- */

struct places { /* in the program, each once, in order of arrival */
	uint32_t n;
	uint32_t *list, *where;
};

struct search {
	const struct regex *r;
	const char *text, *end;
	unsigned char *bits[REGEX_MAX_LOOKS]; /* for each byte position: the lookaround holds there */
	struct places now, then;
	uint32_t *stack;
	uint32_t *memory;
	uint64_t *work;
};

static bool has(const struct places *s, uint32_t pc)
{
	return s->where[pc] < s->n && s->list[s->where[pc]] == pc;
}

static void insert(struct places *s, uint32_t pc)
{
	s->where[pc] = s->n;
	s->list[s->n++] = pc;
}

static bool is_word(const struct search *s, const char *p)
{
	return p >= s->text && p < s->end &&
	       ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_');
}

static bool holds(const struct search *s, uint32_t what, const char *p)
{
	switch ((enum rx_assert)what) {
	case RX_START:
		return p == s->text;
	case RX_END:
		return p == s->end;
	case RX_WORD:
		return is_word(s, p - 1) != is_word(s, p);
	case RX_NO_WORD:
		return is_word(s, p - 1) == is_word(s, p);
	}
	return false;
}

static bool look_holds(const struct search *s, uint32_t which, const char *p)
{
	size_t i = (size_t)(p - s->text);
	bool there = s->bits[which][i / 8] >> i % 8 & 1;
	return there != s->r->looks[which].negated;
}

/* Add a place and all that is reached from it without a character. */
static void add(struct search *s, const struct program *prog, struct places *set, uint32_t pc, const char *p)
{
	uint32_t n = 0;
#define PUSH(to)                                                                                                       \
	do {                                                                                                           \
		uint32_t to_ = (to);                                                                                   \
		if (!has(set, to_)) {                                                                                  \
			insert(set, to_);                                                                              \
			s->stack[n++] = to_;                                                                           \
		}                                                                                                      \
	} while (0)
	PUSH(pc);
	while (n > 0) {
		pc = s->stack[--n];
		const struct inst *i = &prog->code[pc];
		switch (i->op) {
		case OP_SPLIT:
			PUSH(i->b);
			PUSH(i->a);
			break;
		case OP_JUMP:
			PUSH(i->a);
			break;
		case OP_ASSERT:
			if (holds(s, i->a, p))
				PUSH(pc + 1);
			break;
		case OP_LOOK:
			if (look_holds(s, i->a, p))
				PUSH(pc + 1);
			break;
		case OP_SET:
		case OP_MATCH:
			break;
		}
	}
#undef PUSH
}

static void step(struct search *s, const struct program *prog, uint32_t c, const char *to)
{
	s->then.n = 0;
	for (uint32_t k = 0; k < s->now.n; k++) {
		uint32_t pc = s->now.list[k];
		const struct inst *i = &prog->code[pc];
		if (i->op == OP_SET && charset_has(&s->r->sets[i->a], c))
			add(s, prog, &s->then, pc + 1, to);
	}
	struct places t = s->now;
	s->now = s->then;
	s->then = t;
}

static bool spend(struct search *s, uint64_t cost)
{
	*s->work = *s->work > cost ? *s->work - cost : 0;
	return *s->work > 0;
}

/* The character from `p` on, or before it. */
static uint32_t next_character(const struct search *s, const char *p, bool backwards, const char **to)
{
	unsigned n;
	if (!backwards) {
		uint32_t c = rx_decode(p, s->end, &n);
		*to = p + n;
		return c;
	}
	const char *q = p - 1;
	while (q > s->text && p - q < 4 && ((unsigned char)*q & 0xc0) == 0x80)
		q--;
	uint32_t c = rx_decode(q, p, &n);
	*to = q + n == p ? q : p - 1;
	return q + n == p ? c : (unsigned char)p[-1];
}

/* Whether each position is one where the program, begun at any, ends. With `bits` NULL: whether there is one. */
static int run(struct search *s, const struct program *prog, bool backwards, unsigned char *bits)
{
	const char *p = backwards ? s->end : s->text, *last = backwards ? s->text : s->end;
	bool anchored = !backwards && prog->code[0].op == OP_ASSERT && prog->code[0].a == RX_START;
	s->now.n = s->then.n = 0;
	for (;;) {
		if (!anchored || p == s->text)
			add(s, prog, &s->now, 0, p);
		if (has(&s->now, prog->n - 1)) {
			if (!bits)
				return 1;
			size_t i = (size_t)(p - s->text);
			bits[i / 8] = (unsigned char)(bits[i / 8] | 1u << i % 8);
		}
		if (p == last || s->now.n == 0)
			return 0;
		if (!spend(s, s->now.n))
			return -E2BIG;
		uint32_t c = next_character(s, p, backwards, &p);
		step(s, prog, c, p);
	}
}

static int prepare(struct search *s)
{
	uint32_t most = s->r->main.n;
	for (uint32_t i = 0; i < s->r->n_looks; i++)
		most = s->r->looks[i].n > most ? s->r->looks[i].n : most;
	size_t room = (size_t)most + 1;
	s->memory = calloc(5 * room, sizeof *s->memory);
	if (!s->memory)
		return -ENOMEM;
	s->now = (struct places){.list = s->memory, .where = s->memory + room};
	s->then = (struct places){.list = s->memory + 2 * room, .where = s->memory + 3 * room};
	s->stack = s->memory + 4 * room;
	return 0;
}

int regex_search(const struct regex *r, const char *text, size_t len, uint64_t *work)
{
	struct search s = {.r = r, .text = text, .end = text + len, .work = work};
	int rc = prepare(&s);
	for (uint32_t i = 0; rc == 0 && i < r->n_looks; i++) {
		s.bits[i] = calloc(1, len / 8 + 1);
		rc = s.bits[i] ? run(&s, &r->looks[i], !r->looks[i].behind, s.bits[i]) : -ENOMEM;
	}
	if (rc == 0)
		rc = run(&s, &r->main, false, NULL);
	for (uint32_t i = 0; i < r->n_looks; i++)
		free(s.bits[i]);
	free(s.memory);
	return rc;
}
