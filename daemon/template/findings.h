/* What is wrong with a file, found in one go: a growing list that tools print as text or as JSON. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "protocol/buf.h"
#include "daemon/base/cleanup.h"

enum severity { FINDING_ERROR, FINDING_WARNING };

struct finding {
	enum severity severity;
	unsigned line, column; /* 1-based; 0 if the whole file is meant */
	char *key;             /* like "steps[2].retry.max_attempts"; "" for the whole file */
	char *message;         /* what is wrong and what was expected */
};

#define FINDINGS_MAX 1000

/* Begin with {0}. */
struct findings {
	struct finding *items;
	size_t n, cap;
	size_t errors;  /* how many are errors, dropped ones included */
	size_t dropped; /* found, but not kept because there are FINDINGS_MAX already */
	bool strict;    /* findings_add records warnings as errors */
	bool failed;    /* out of memory: at least one finding is missing */
};

void findings_done(struct findings *f);
/* Record one finding; `key` may be NULL. Out of memory sets f->failed (an error is counted all the same). */
void findings_add(struct findings *f, enum severity severity, unsigned line, unsigned column, const char *key,
                  const char *fmt, ...) printf_like(6, 7);
/* Put the findings from index `from` on into the order of the file, and add a last one that counts the
 * dropped ones. */
void findings_finish(struct findings *f, size_t from);

/* {"severity","file","line","column","key","message"} objects as a JSON array. 0, or the buffer's -ENOMEM or
 * -EMSGSIZE. */
int findings_to_json(const struct findings *f, const char *filename, struct buf *out);
/* "FILE:LINE:COLUMN: error: KEY: MESSAGE" lines ("FILE: error: MESSAGE" for the whole file). 0, or the
 * buffer's error. */
int findings_to_text(const struct findings *f, const char *filename, struct buf *out);

/* Lengthen a key path: ".name" (or ["odd name"]), "[3]". */
void path_put_key(struct buf *path, const char *key);
void path_put_index(struct buf *path, size_t index);

/* Text from outside made fit for a message: in quotes, control characters escaped, cut after some 60 bytes.
 */
struct quoted {
	char text[96];
};
const char *quote_text(struct quoted *q, const char *text, size_t len);
#define QUOTE(s) quote_text(&(struct quoted){.text = ""}, (s), strlen(s))
/* A name as it is if it is made of letters, digits, '_', '-' and '.' and short, else quoted. */
const char *show_name(struct quoted *q, const char *name);
