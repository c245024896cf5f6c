/* The daemon proper: the loop thread with its sessions, dispatcher and timers. */
#pragma once
#include "daemon/base/err.h"
#include "daemon/config/options.h"

struct embed;
struct server;
struct front;

/* Listen, connect to `conninfo`, serve until SIGTERM or SIGINT has been answered by a drain, or a fatal error. `em` is
 * the embedded server to watch, or NULL (borrowed), `front` another front end to start, or NULL. Returns 0 after a
 * clean stop, negative with *e otherwise. */
int server_run(struct options *opt, const char *conninfo, struct embed *em, const struct front *front,
               struct err *e) must_check;
