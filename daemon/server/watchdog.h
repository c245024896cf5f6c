/* The service manager's watchdog. */
#pragma once
#include "daemon/base/err.h"

struct server;

/* Feed it, if the manager wants that. 0 or negative errno. */
int server_watchdog(struct server *srv) must_check;
