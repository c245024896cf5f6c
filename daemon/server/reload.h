/* Reading the configuration again, and telling it. */
#pragma once
#include "daemon/server/message.h"

struct server;

msg_fn on_server_config;
void server_reload(struct server *srv);
/* A warning for each line of what was found in a file. */
void log_notes(const char *about, const char *text);
