/* The store's answers. */
#pragma once
#include <event2/util.h>

struct server;

void on_answers(evutil_socket_t fd, short what, void *arg);
/* Begin what was submitted to the store. */
void server_kick(struct server *srv);
