/* The embedded PostgreSQL while the daemon runs. */
#pragma once
#include "daemon/store/request.h"

struct server;

void embedded_watch(struct server *srv);
void embedded_unwatch(struct server *srv);
void embedded_revived(struct server *srv, struct done *d);
