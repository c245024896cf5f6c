/* Finding PostgreSQL's programs. A directory counts if it holds both postgres and initdb; links are followed
 * first, because the programs find their share files relative to where they really are. The first candidate
 * that fits wins, so PATH lets an operator choose. */
#include "daemon/embed/pg_bin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/embed/proc.h"

#define DEBIAN_ROOT "/usr/lib/postgresql"
#define NEWEST_TRIED 99

int pg_bin_parse_version(const char *text)
{
	const char *p = strstr(text, "PostgreSQL) ");
	if (!p)
		return 0;
	int v = 0;
	for (p += strlen("PostgreSQL) "); *p >= '0' && *p <= '9' && v < 1000; p++)
		v = v * 10 + (*p - '0');
	return v;
}

static char *join(const char *dir, const char *name)
{
	char *r = NULL;
	return asprintf(&r, "%s/%s", dir, name) < 0 ? NULL : r;
}

/* The real directory of DIR/postgres if DIR has both programs, else NULL. */
static char *real_bin_dir(const char *dir)
{
	cleanup_(cleanup_free) char *initdb = join(dir, "initdb");
	cleanup_(cleanup_free) char *postgres = join(dir, "postgres");
	if (!initdb || !postgres || access(initdb, X_OK) < 0 || access(postgres, X_OK) < 0)
		return NULL;
	char *real = realpath(postgres, NULL);
	char *slash = real ? strrchr(real, '/') : NULL;
	if (slash)
		*slash = '\0';
	return real;
}

/* 1 and *ret filled if `dir` has the programs in a fitting version. */
static int fits(const char *dir, int want, struct pg_bin *ret)
{
	cleanup_(cleanup_free) char *real = real_bin_dir(dir);
	cleanup_(cleanup_free) char *prog = real ? join(real, "postgres") : NULL;
	char out[128];
	if (!prog || proc_capture((const char *const[]){prog, "--version", NULL}, out, sizeof out) < 0)
		return 0;
	int major = pg_bin_parse_version(out);
	if (want ? major != want : major < PG_OLDEST)
		return 0;
	*ret = (struct pg_bin){TAKE_PTR(real), major};
	return 1;
}

/* Call `fits` for each directory of $PATH that has a program called `name`; with `config` run it as pg_config
 * first. */
static int try_path(int want, int config, struct pg_bin *ret)
{
	const char *path = getenv("PATH");
	cleanup_(cleanup_free) char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy;
	for (const char *dir; (dir = rest ? strsep(&rest, ":") : NULL);) {
		if (dir[0] != '/')
			continue;
		if (!config) {
			if (fits(dir, want, ret))
				return 1;
			continue;
		}
		cleanup_(cleanup_free) char *prog = join(dir, "pg_config");
		char out[4096];
		if (!prog || access(prog, X_OK) < 0 ||
		    proc_capture((const char *const[]){prog, "--bindir", NULL}, out, sizeof out) < 0)
			continue;
		out[strcspn(out, "\n")] = '\0';
		if (fits(out, want, ret))
			return 1;
	}
	return 0;
}

static int try_debian(int want, struct pg_bin *ret)
{
	char dir[sizeof DEBIAN_ROOT + 32];
	for (int v = want ? want : NEWEST_TRIED; v >= (want ? want : PG_OLDEST); v--) {
		snprintf(dir, sizeof dir, DEBIAN_ROOT "/%d/bin", v);
		if (access(dir, X_OK) == 0 && fits(dir, want, ret))
			return 1;
	}
	return 0;
}

int pg_bin_find(int want, struct pg_bin *ret, struct err *e)
{
	if (try_path(want, 0, ret) || try_path(want, 1, ret) || try_debian(want, ret))
		return 0;
	if (want)
		return err_set(e, -ENOENT, "internal",
		               "this cluster was made by PostgreSQL %d and its programs are not here: "
		               "install the package postgresql-%d",
		               want, want);
	return err_set(
	    e, -ENOENT, "internal",
	    "PostgreSQL's server programs (postgres, initdb; version %d or newer) are not here: install them "
	    "(Debian: apt-get install postgresql), or use a server elsewhere with --database",
	    PG_OLDEST);
}

void pg_bin_done(struct pg_bin *b)
{
	free(b->dir);
	*b = (struct pg_bin){0};
}
