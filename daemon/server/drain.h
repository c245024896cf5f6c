/* Stopping. */
#pragma once
#include <event2/util.h>

struct server;

void on_stop_signal(evutil_socket_t fd, short what, void *arg);
void on_restart_signal(evutil_socket_t fd, short what, void *arg);
void on_drain_check(evutil_socket_t fd, short what, void *arg);
/* Steps that nobody answered in time go back without using an attempt. */
void drain_release(struct server *srv);
