/* Between the reader of patterns (regex_parse.c), the maker of programs (regex.c) and the search. */
#pragma once
#include <stdbool.h>
#include "daemon/schema/regex.h"

#define REGEX_MAX_PATTERN 8192u
#define REGEX_MAX_NESTING 64u
#define REGEX_MAX_COUNT 10000u	 /* in {n,m} */
#define REGEX_MAX_PROGRAM 20000u /* instructions, repetitions written out */
#define REGEX_MAX_LOOKS 32u
#define REGEX_MAX_RANGES 100000u /* of all sets of characters */

struct range {
	uint32_t lo, hi;
};

/* Code points: ranges in order that do not touch, and a table for ASCII. */
struct charset {
	struct range *ranges;
	uint32_t n, cap;
	uint32_t ascii[4];
};

enum rx_kind { RX_SET, RX_CAT, RX_ALT, RX_REPEAT, RX_ASSERT, RX_LOOK };
enum rx_assert { RX_START, RX_END, RX_WORD, RX_NO_WORD };

struct rx_node {
	enum rx_kind kind;
	struct rx_node *first, *last; /* children */
	struct rx_node *next, *prev;
	uint32_t set;	      /* RX_SET */
	uint32_t min, max;    /* RX_REPEAT; max UINT32_MAX: no end */
	enum rx_assert what;  /* RX_ASSERT */
	bool behind, negated; /* RX_LOOK */
	struct rx_node *made; /* all nodes, to be freed */
};

struct rx_tree {
	struct rx_node *root, *made;
	struct charset *sets;
	uint32_t n_sets, cap_sets;
	uint32_t n_ranges;
};

/* 0, -EINVAL with `why`, -ENOMEM; *t begins as {0} and is to be freed in every case. */
int rx_parse(const char *pattern, size_t len, struct rx_tree *t, char *why) must_check;
void rx_tree_free(struct rx_tree *t);
void charset_free(struct charset *sets, uint32_t n);
bool charset_has(const struct charset *s, uint32_t c);

/* The code point at `p`; a byte that begins none stands for itself. */
uint32_t rx_decode(const char *p, const char *end, unsigned *ret_len);
