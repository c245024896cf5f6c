/* The cluster in DIR/data: making it, and its settings. */
#pragma once
#include "daemon/embed/pg_bin.h"
#include "daemon/embed/place.h"

#define CLUSTER_USER "taskerd" /* superuser, and name of the database */

/* Major version of the cluster in DIR/data; 0 if there is none yet; negative with *e if DIR/data is something
 * else. */
int cluster_version(const struct place *p, struct err *e) must_check;
/* Make the cluster and its database in DIR/data.tmp, force it to disk, rename it to DIR/data. What an earlier
 * try left is removed. */
int cluster_make(struct place *p, const struct pg_bin *bin, struct err *e) must_check;
/* Write the settings and access rules into DIR/conf. 1 if any differed from what was there, 0 if not, or
 * negative with *e. */
int cluster_configure(struct place *p, struct err *e) must_check;
/* How to reach it: a libpq keyword/value string (malloc'd), or NULL. */
char *cluster_conninfo(const struct place *p);
/* Append what the server or a helper last had to say in the log since `from` to the text of *e. */
void cluster_explain(const struct place *p, off_t from, struct err *e);
/* Size of the log now. */
off_t cluster_log_size(const struct place *p);
