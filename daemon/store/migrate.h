/* The schema: numbered scripts, each applied once, in order, in a transaction of its own, under an advisory lock. */
#pragma once
#include "daemon/store/conn.h"

struct sql_script {
	int number; /* 0: not a migration, found by name */
	const char *name, *text;
};
extern const struct sql_script sql_scripts[]; /* ends with a NULL name */

#define SCHEMA_MIN_SERVER 130000

/* Apply what is missing. *ret_from and *ret_to are the versions before and after. */
int schema_migrate(PGconn *c, int *ret_from, int *ret_to, struct err *e) must_check;
/* The version this program brings and needs. */
int schema_newest(void);
/* 0 if the server and its schema fit this program; -ESTALE with an explanation (too old a server, no schema, older or
 * newer schema). *ret_why tells a lost connection. */
int schema_check(PGconn *c, enum db_failure *ret_why, struct err *e) must_check;
