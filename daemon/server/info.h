/* What is answered from memory. */
#pragma once
#include "daemon/server/message.h"

struct server;

/* Of the database, as server.info names it. */
const char *database_state(const struct server *srv);
msg_fn on_ping, on_server_info;
