/* The listening socket. */
#pragma once
#include <event2/util.h>
#include "daemon/base/err.h"

struct server;

void on_open(evutil_socket_t fd, short what, void *arg);
void on_accept(evutil_socket_t fd, short what, void *arg);
void on_accept_again(evutil_socket_t fd, short what, void *arg);
int doors_listen(struct server *srv, struct err *e) must_check;
/* Take connections from now on; no more. */
void doors_open(struct server *srv);
void doors_close(struct server *srv);
