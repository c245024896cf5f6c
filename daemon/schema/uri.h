/* References between schemas, RFC 3986 section 5.2. */
#pragma once
#include <stddef.h>

/* What `ref` means at `base` (which may be ""), without the fragment; the caller frees it; NULL: no memory.
 * *ret_fragment points into `ref`, behind the '#', or is NULL. */
char *uri_resolve(const char *base, const char *ref, size_t len, const char **ret_fragment);
/* Undo %XX in place; returns the new length. */
size_t uri_unescape(char *text);
