#include "daemon/base/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG 512

/* ---- addresses ---- */

static int parse_port(const char *text, in_port_t *ret)
{
	char *end = NULL;
	unsigned long v = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || v > 65535)
		return -EINVAL;
	*ret = htons((in_port_t)v);
	return 0;
}

static int parse_ip(char *host, const char *port, struct listen_address *a)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->ip;
	size_t n = strlen(host);
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		a->ip.sin6_family = AF_INET6;
		return inet_pton(AF_INET6, host + 1, &a->ip.sin6_addr) == 1 ? parse_port(port, &a->ip.sin6_port)
		                                                            : -EINVAL;
	}
	v4->sin_family = AF_INET;
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4->sin_addr) != 1)
		return -EINVAL;
	return parse_port(port, &v4->sin_port);
}

static int parse_one(const char *text, size_t n, struct listen_address *a)
{
	char word[LISTEN_TEXT];
	memset(a, 0, sizeof *a);
	if (text[0] == '/' && n < sizeof a->path) {
		memcpy(a->path, text, n);
		return 0;
	}
	if (n >= sizeof word)
		return -EINVAL;
	memcpy(word, text, n);
	word[n] = '\0';
	char *colon = strrchr(word, ':'), local[] = "127.0.0.1";
	if (!colon)
		return parse_ip(local, word, a);
	*colon = '\0';
	return parse_ip(word, colon + 1, a);
}

int listen_parse(const char *text, struct listen_address ret[static LISTEN_MAX])
{
	static const char gaps[] = ", ";
	int n = 0;
	if (strcmp(text, "off") == 0)
		return 0;
	for (text += strspn(text, gaps); *text; text += strspn(text, gaps)) {
		size_t len = strcspn(text, gaps);
		if (n == LISTEN_MAX || parse_one(text, len, &ret[n++]) < 0)
			return -EINVAL;
		text += len;
	}
	return n > 0 ? n : -EINVAL;
}

bool listen_is_loopback(const struct listen_address *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->ip;
	if (a->path[0])
		return true;
	if (a->ip.sin6_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&a->ip.sin6_addr);
}

void listen_format(const struct listen_address *a, char text[static LISTEN_TEXT])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->ip;
	char host[INET6_ADDRSTRLEN] = "";
	if (a->path[0]) {
		snprintf(text, LISTEN_TEXT, "%s", a->path);
	} else if (a->ip.sin6_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
		snprintf(text, LISTEN_TEXT, "%s:%u", host, (unsigned)ntohs(v4->sin_port));
	} else {
		inet_ntop(AF_INET6, &a->ip.sin6_addr, host, sizeof host);
		snprintf(text, LISTEN_TEXT, "[%s]:%u", host, (unsigned)ntohs(a->ip.sin6_port));
	}
}

/* ---- sockets ---- */

static int bind_unix(int fd, const struct sockaddr_un *a, int mode, long gid)
{
	mode_t old = umask((mode_t)(0777 & ~mode));
	int r = bind(fd, (const struct sockaddr *)a, sizeof *a) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && gid >= 0 && lchown(a->sun_path, (uid_t)-1, (gid_t)gid) < 0)
		r = -errno;
	if (r == 0 && listen(fd, BACKLOG) < 0) /* from here on one can connect */
		r = -errno;
	return r;
}

int listen_unix(const char *path, int mode, long gid, const char *option, int *ret, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path)
		return err_set(e, -ENAMETOOLONG, "internal", "the socket path %s is longer than %zu bytes: set %s",
		               path, sizeof a.sun_path - 1, option);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	cleanup_(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "internal", "socket: %s", strerror(errno));
	/* A socket that answers belongs to another daemon; one that does not is left over from a crash. */
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return err_set(e, -EADDRINUSE, "conflict", "another process serves %s: stop it, or set %s", path,
		               option);
	struct stat st;
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "conflict", "%s exists and is not a socket: remove it, or set %s", path,
		               option);
	unlink(path);
	int r = bind_unix(fd, &a, mode, gid);
	if (r < 0)
		return err_set(e, r, "internal", "cannot listen on %s: %s", path, strerror(-r));
	*ret = TAKE_FD(fd);
	return 0;
}

int listen_tcp(const struct listen_address *a, const char *option, int *ret, struct err *e)
{
	const int on = 1;
	char text[LISTEN_TEXT];
	socklen_t len = a->ip.sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	listen_format(a, text);
	cleanup_(cleanup_close) int fd = socket(a->ip.sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "internal", "cannot listen on %s: %s", text, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (a->ip.sin6_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (const struct sockaddr *)&a->ip, len) < 0 || listen(fd, BACKLOG) < 0) {
		int r = -errno;
		if (r == -EADDRINUSE)
			return err_set(e, r, "conflict", "another process listens on %s: stop it, or set %s", text,
			               option);
		return err_set(e, r, "internal", "cannot listen on %s: %s", text, strerror(-r));
	}
	*ret = TAKE_FD(fd);
	return 0;
}
