/* DIR of an embedded server: its paths, its owner, its lock. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/err.h"
#include "daemon/embed/proc.h"

#define PLACE_PORT "5432" /* only a part of the socket's file name */

struct place {
	char *dir;      /* absolute, links resolved */
	char *data;     /* DIR/data, the cluster; belongs to the server's user */
	char *data_tmp; /* DIR/data.tmp, a cluster being made */
	char *conf;     /* DIR/conf; belongs to this process, so that the server cannot rewrite its own access
	                   rules */
	char *config_file; /* DIR/conf/postgresql.conf */
	char *run;         /* directory of the socket: DIR/run, or elsewhere if that path cannot hold one */
	char *socket;      /* the socket itself */
	char *log;         /* DIR/postgres.log */
	struct proc_user user; /* who the server runs as */
	int dir_fd;
	int lock_fd;
	char notice[512]; /* for people, or empty */
};

/* Make DIR and what is in it but the cluster, check that the server's user can reach it, take the lock. 0, or
 * negative with *e
 * (-EBUSY: another daemon has it) and nothing to close. */
int place_open(const char *dir, struct place *p, struct err *e) must_check;
/* Give up the lock and free. Accepts a zeroed struct. */
void place_close(struct place *p);

/* Write DIR/conf/NAME if it does not hold exactly `text`. 1 if it was written, 0 if it was so already, or
 * negative with *e. */
int place_write_conf(struct place *p, const char *name, const char *text, struct err *e) must_check;
/* Make DIR/conf/NAME with `text` in it if it does not exist; leave it alone if it does. 0, or negative with
 * *e. */
int place_keep_conf(struct place *p, const char *name, const char *text, struct err *e) must_check;
/* The server's log, for appending; one that has grown large is put aside first if `rotate`. An fd, or
 * negative with *e. */
int place_open_log(const struct place *p, bool rotate, struct err *e) must_check;
/* Remove DIR/NAME and all below it without following links. 0 (also if it is not there) or -errno. */
int place_remove_tree(const struct place *p, const char *name) must_check;
/* True if a Unix socket can be called RUN/.s.PGSQL.PORT and both libpq and the server can be told RUN as it
 * is. */
bool place_socket_fits(const char *run);
