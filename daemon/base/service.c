#include "daemon/base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KEPT_MAX 16 /* of what no manager reads, the oldest is forgotten */
#define STATUS "STATUS="

static struct {
	char *kept[KEPT_MAX];
	unsigned n;
	int fd; /* 0: not opened yet */
} manager;

/* The socket, or negative. It is opened once: what is waiting in it goes on if the manager is started again, or is
 * refused and opened anew. */
static int open_socket(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	if (manager.fd > 0)
		return manager.fd;
	if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
		return -ENOTCONN;
	memcpy(a.sun_path, path, n);
	if (path[0] == '@')
		a.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	if (connect(fd, (const struct sockaddr *)&a, len) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	return manager.fd = fd;
}

static void close_socket(void)
{
	if (manager.fd > 0)
		close(manager.fd);
	manager.fd = 0;
}

/* One datagram, now or -EAGAIN. A manager that has been started again has another socket under the same name. */
static int send_now(const char *text, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof control.room;
		struct cmsghdr *c = &control.align;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	for (int tries = 0; tries < 2; tries++) {
		int s = open_socket();
		if (s < 0)
			return s;
		if (sendmsg(s, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
			return -EAGAIN;
		close_socket();
	}
	return -ENOTCONN;
}

static void drop(unsigned i)
{
	free(manager.kept[i]);
	memmove(manager.kept + i, manager.kept + i + 1, (--manager.n - i) * sizeof *manager.kept);
}

bool service_offer(void)
{
	while (manager.n > 0 && send_now(manager.kept[0], -1) != -EAGAIN)
		drop(0);
	return manager.n == 0;
}

static bool is_status(const char *text)
{
	return strncmp(text, STATUS, strlen(STATUS)) == 0;
}

static void keep(const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		return;
	if (manager.n > 0 && is_status(text) && is_status(manager.kept[manager.n - 1]))
		drop(manager.n - 1);
	if (manager.n == KEPT_MAX)
		drop(0);
	manager.kept[manager.n++] = copy;
}

void service_tell(const char *text)
{
	if (service_offer() && send_now(text, -1) != -EAGAIN)
		return;
	if (strcmp(text, "WATCHDOG=1") != 0)
		keep(text);
}

/* True: it may take more. */
static bool wait_for_room(usec_t until)
{
	usec_t now = now_mono();
	struct pollfd p = {.fd = manager.fd, .events = POLLOUT};
	return now < until && poll(&p, 1, (int)((until - now) / USEC_PER_MSEC) + 1) >= 0;
}

int service_give(const char *text, int fd, usec_t timeout)
{
	usec_t until = now_mono() + timeout;
	for (;;) {
		int r = service_offer() ? send_now(text, fd) : -EAGAIN;
		if (r != -EAGAIN)
			return r;
		if (!wait_for_room(until))
			return -ETIMEDOUT;
	}
}

/* The manager closes what it is given, once it has read what was sent before. */
int service_barrier(usec_t timeout)
{
	usec_t until = now_mono() + timeout;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	cleanup_(cleanup_close) int rd = ends[0];
	int r = service_give("BARRIER=1", ends[1], timeout);
	close(ends[1]);
	struct pollfd p = {.fd = rd};
	for (usec_t now = now_mono(); r == 0 && !(p.revents & (POLLHUP | POLLERR)); now = now_mono()) {
		if (now >= until)
			r = -ETIMEDOUT;
		else if (poll(&p, 1, (int)((until - now) / USEC_PER_MSEC) + 1) < 0 && errno != EINTR)
			r = -errno;
	}
	return r;
}
