/* The configuration file. */
#pragma once
#include "daemon/config/options.h"

#define OPTION_FILE_MAX (1 << 20)

/* Set what `text`, the content of `filename`, says. Problems are appended to `messages` as "FILE:LINE:COLUMN:
 * error: KEY: ...". The number of errors, or -ENOMEM. Fields of bad keys keep their value. */
int option_file_apply(struct options *o, const char *text, size_t len, const char *filename,
                      struct buf *messages) must_check;
/* The row whose name is most like `name` (length `n`), or NULL if none is near. */
const struct option_row *option_like(const char *name, size_t n);
/* The row called `name`, dashes and underscores being the same, or NULL. */
const struct option_row *option_find(const char *name, size_t n);
