/* Addresses to listen on: as options give them, and as sockets. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/un.h>
#include "daemon/base/err.h"

#define LISTEN_MAX 8 /* addresses of one option */
#define LISTEN_TEXT 128

struct listen_address {
	char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* of a Unix socket, absolute; or empty */
	struct sockaddr_in6 ip;				       /* or a sockaddr_in, by its family */
};

/* A list, separated by commas or blanks, of absolute paths, PORT (of 127.0.0.1), ADDRESS:PORT and [ADDRESS]:PORT; "off"
 * is none. Returns how many, or -EINVAL. */
int listen_parse(const char *text, struct listen_address ret[static LISTEN_MAX]) must_check;
bool listen_is_loopback(const struct listen_address *a);
/* As it would be written. */
void listen_format(const struct listen_address *a, char text[static LISTEN_TEXT]);

/* A listening, non-blocking socket. A Unix socket that nobody answers any more is replaced; `gid` -1: the group of the
 * process. `option` is named in errors. 0, or negative with *e: -EADDRINUSE if another process serves it. */
int listen_unix(const char *path, int mode, long gid, const char *option, int *ret, struct err *e) must_check;
int listen_tcp(const struct listen_address *a, const char *option, int *ret, struct err *e) must_check;
