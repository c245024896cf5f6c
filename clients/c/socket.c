/* Finding the daemon's socket, and connecting to it. Blocks at most for the time given. */
#include "clients/c/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SYSTEM_SOCKET "/run/taskerd/taskerd.sock"

uint64_t tasker_now_us_(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

int tasker_default_socket(char *dst, size_t size)
{
	const char *env = getenv("TASKERD_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;
	if (env && *env) {
		n = snprintf(dst, size, "%s", env);
		return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
	}
	if (run && *run) {
		n = snprintf(dst, size, "%s/taskerd/taskerd.sock", run);
		if (n >= 0 && (size_t)n < size && stat(dst, &st) == 0)
			return 0;
	}
	n = snprintf(dst, size, "%s", SYSTEM_SOCKET);
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static const char *user_name(uid_t uid, char *number, size_t size)
{
	const struct passwd *p = getpwuid(uid);
	snprintf(number, size, "%s", p ? p->pw_name : "");
	if (!p)
		snprintf(number, size, "%u", (unsigned)uid);
	return number;
}

static const char *group_name(gid_t gid, char *number, size_t size)
{
	const struct group *g = getgrgid(gid);
	snprintf(number, size, "%s", g ? g->gr_name : "");
	if (!g)
		snprintf(number, size, "%u", (unsigned)gid);
	return number;
}

/* Whose it is: the socket, or the nearest directory above it that may be looked at. */
static int forbidden(struct tasker_error *err, const char *path, int e)
{
	char at[256], owner[64], group[64], self[64];
	struct stat st;
	snprintf(at, sizeof at, "%s", path);
	while (stat(at, &st) < 0) {
		char *slash = strrchr(at, '/');
		if (!slash || slash == at)
			return tasker_fail_(err, -e, "unreachable", "permission denied: %s", path);
		*slash = '\0';
	}
	return tasker_fail_(err, -e, "unreachable",
	                    "permission denied: %s is for user %s and group %s, this process is user %s", at,
	                    user_name(st.st_uid, owner, sizeof owner),
	                    group_name(st.st_gid, group, sizeof group),
	                    user_name(geteuid(), self, sizeof self));
}

static int refused(struct tasker_error *err, const char *path, int e)
{
	switch (e) {
	case ENOENT:
		return tasker_fail_(err, -e, "unreachable",
		                    "no socket at %s: taskerd is not running, or listens elsewhere", path);
	case ECONNREFUSED:
		return tasker_fail_(err, -e, "unreachable",
		                    "nobody listens at %s any more: taskerd has stopped", path);
	case EACCES:
	case EPERM:
		return forbidden(err, path, e);
	case EAGAIN:
		return tasker_fail_(err, -ETIMEDOUT, "timeout",
		                    "taskerd did not accept a connection at %s in time", path);
	default:
		return tasker_fail_(err, -e, "unreachable", "cannot connect to %s: %s", path,
		                    strerrordesc_np(e));
	}
}

int socket_connect_(const char *path, int timeout_ms, struct tasker_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof sa.sun_path)
		return tasker_fail_(err, -ENAMETOOLONG, "unreachable",
		                    "socket path is longer than %zu bytes: %s", sizeof sa.sun_path - 1, path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return refused(err, path, errno);
	/* A full backlog makes connect() wait, for as long as the send timeout allows. */
	struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	int rc;
	do
		rc = connect(fd, (struct sockaddr *)&sa, sizeof sa);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		int e = errno;
		close(fd);
		return refused(err, path, e);
	}
	return fd;
}
