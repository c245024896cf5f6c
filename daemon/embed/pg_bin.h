/* Where PostgreSQL's programs are. */
#pragma once
#include "daemon/base/err.h"

#define PG_OLDEST 13

struct pg_bin {
	char *dir; /* holds postgres and initdb; malloc'd */
	int major;
};

/* Look in PATH, where pg_config points, and in /usr/lib/postgresql/N/bin from the newest down. `want` is the
 * major version that an existing cluster needs, or 0 for any from PG_OLDEST on. 0, or -ENOENT with what to
 * install. */
int pg_bin_find(int want, struct pg_bin *ret, struct err *e) must_check;
void pg_bin_done(struct pg_bin *b);

/* Major version in the output of `postgres --version`, or 0. */
int pg_bin_parse_version(const char *text);
