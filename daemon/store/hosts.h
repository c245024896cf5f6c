/* Connection strings that name several hosts. */
#pragma once
#include <libpq-fe.h>
#include <stdbool.h>

/* How many there are; 1 for a string that cannot be read, too. */
int hosts_count(const char *conninfo);
/* As PQconnectStartParams of `n` keys and then conninfo, with the hosts in another order: the one with the number
 * `turn` comes first, and those before it last. NULL: no memory. */
PGconn *hosts_start(const char *conninfo, int turn, const char *const *keys, const char *const *values, int n);
