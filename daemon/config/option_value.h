/* One value: text to field and back. */
#pragma once
#include "daemon/config/options.h"

/* The default directory of --embedded, as written for "true"; replaced when all sources are read. */
#define EMBEDDED_DEFAULT ""

/* Set the row's field from `text`. 0; -EINVAL with what was expected appended to `expected`; -ENOMEM. */
int option_set(struct options *o, const struct option_row *row, const char *text,
               struct buf *expected) must_check;
/* Copy one field. 0 or -ENOMEM. */
int option_copy(struct options *to, const struct options *from, const struct option_row *row) must_check;
bool option_equal(const struct options *a, const struct options *b, const struct option_row *row);
bool option_is_text(const struct option_row *row);
/* Its value may hold a password. */
bool option_is_secret(const struct option_row *row);
/* What was written for it is not to be repeated, right or wrong. */
bool option_hides(const struct option_row *row, const char *text);
/* Free a text field and set it to NULL. */
void option_clear(struct options *o, const struct option_row *row);
/* The text field of a row that has one. */
char **option_text_at(struct options *o, const struct option_row *row);
/* Note where its value came from; a default has no place. 0 or -ENOMEM. */
int option_set_source(struct options *o, const struct option_row *row, enum option_source from, const char *place,
                      size_t len) must_check;
