/* Tasks that begin later. */
#pragma once
#include <stdint.h>
#include "daemon/store/request.h"

struct server;

/* One may be due; the next one is due then. */
void starts_hint(struct server *srv);
void starts_due(struct server *srv, int64_t in_ms);
/* Ask for what is due, if anything may be. */
void starts_run(struct server *srv);
void starts_answered(struct server *srv, struct req *r);
void starts_free(struct server *srv);
