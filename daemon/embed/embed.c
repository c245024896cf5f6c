/* The life of an embedded server: start or take over, watch, start again, stop.
 *
 * The server is a child in a session of its own and outlives a killed daemon on purpose: the next daemon
 * takes it over within milliseconds, and running transactions end in good order. A server that is found is
 * believed to be ours only if the process listening on our socket (as the kernel says) is the one that
 * postmaster.pid names, and it runs as our server's user. Readiness is read from postmaster.pid, where the
 * server itself writes it; no database client is needed here. Processes are held by pidfd, so a number that
 * was given to another process is never signalled. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/embed/cluster.h"
#include "daemon/embed/embed.h"
#include "daemon/embed/pg_bin.h"
#include "daemon/embed/place.h"
#include "daemon/embed/proc.h"

#define READY_LIMIT (600 * USEC_PER_SEC) /* crash recovery of max_wal_size takes minutes on a slow disk */
#define AGAIN_LIMIT (30 * USEC_PER_SEC)  /* for what a crashed server leaves to go away */
#define STOP_LIMIT_MS 60000
#define KILL_LIMIT_MS 10000
#define TICK_MS 10

struct embed {
	struct place place;
	struct pg_bin bin;
	pid_t pid; /* -1: no server */
	int pidfd;
	bool ours; /* our child, to be reaped */
};

/* postmaster.pid, as far as it matters. */
struct pidfile {
	pid_t pid;
	char status[12]; /* "starting", "ready", "stopping", or empty while the file is being written */
};

enum { PIDFILE_STATUS_LINE = 8 };

static int read_pidfile(const struct place *p, struct pidfile *ret)
{
	*ret = (struct pidfile){.pid = -1};
	cleanup_(cleanup_close) int dir =
	    openat(p->dir_fd, "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_(cleanup_close) int fd =
	    dir < 0 ? -1 : openat(dir, "postmaster.pid", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[8192];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n < 0)
		return -ENOENT;
	text[n] = '\0';
	char *rest = text, *line;
	for (int i = 1; (line = strsep(&rest, "\n")) && i <= PIDFILE_STATUS_LINE; i++) {
		long v = 0;
		for (const char *c = line; i == 1 && *c >= '0' && *c <= '9' && v < 100000000; c++)
			v = v * 10 + (*c - '0');
		if (i == 1)
			ret->pid = v > 1 ? (pid_t)v : -1;
		if (i == PIDFILE_STATUS_LINE)
			snprintf(ret->status, sizeof ret->status, "%.*s", (int)strcspn(line, " "), line);
	}
	return ret->pid > 1 ? 0 : -ENOENT;
}

/* Pid of the process that listens on our socket, if it runs as the server's user; else -1. */
static pid_t listener(const struct place *p)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct ucred cred;
	socklen_t n = sizeof cred;
	cleanup_(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", p->socket);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EAGAIN) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return -1;
	return cred.uid == p->user.uid ? cred.pid : -1;
}

/* False only if /proc says for certain that `pid` is no server of this cluster: it is gone, a zombie, or
 * another program. */
static bool may_be_server(const struct place *p, pid_t pid)
{
	char path[64], text[8192];
	snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
	cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT || kill(pid, 0) == 0;
	ssize_t n = read(fd, text, sizeof text);
	if (n <= 0)
		return false;
	size_t want = strlen(p->data) + 1;
	return memmem(text, (size_t)n, p->data, want) !=
	       NULL; /* with its NUL: a whole argument, or the end of one */
}

static void forget(struct embed *em)
{
	if (em->ours && em->pid > 0)
		waitpid(em->pid, NULL, WNOHANG);
	cleanup_close(&em->pidfd);
	em->pid = em->pidfd = -1;
	em->ours = false;
}

/* Wait until the server says it is ready. 0; -ECHILD if it ended first; -ETIMEDOUT. */
static int wait_ready(struct embed *em)
{
	usec_t until = now_mono() + READY_LIMIT;
	while (now_mono() < until) {
		int ended = proc_ended(em->pidfd, TICK_MS);
		if (ended)
			return ended < 0 ? ended : -ECHILD;
		struct pidfile f;
		if (read_pidfile(&em->place, &f) == 0 && f.pid == em->pid && strcmp(f.status, "ready") == 0)
			return 0;
	}
	return -ETIMEDOUT;
}

/* Signal the server and wait; true if it has ended. */
static bool end_with(struct embed *em, int sig, int timeout_ms)
{
	usec_t wait_ms = timeout_ms > 0 ? (usec_t)timeout_ms : 0;
	usec_t until = now_mono() + wait_ms * USEC_PER_MSEC;
	proc_signal(em->pidfd, sig);
	for (;;) {
		usec_t now = now_mono();
		int left = now < until ? (int)((until - now) / USEC_PER_MSEC) + 1 : 0;
		int ended = proc_ended(em->pidfd, left);
		if (ended == 1 || left == 0)
			return ended == 1;
	}
}

/* Fast shutdown, then immediate, then by force: only the first leaves no recovery to do. */
static void end_server(struct embed *em, int timeout_ms)
{
	if (em->pidfd >= 0 && !end_with(em, SIGINT, timeout_ms) && !end_with(em, SIGQUIT, KILL_LIMIT_MS))
		end_with(em, SIGKILL, KILL_LIMIT_MS);
	forget(em);
}

static int spawn_server(struct embed *em, struct err *e)
{
	struct place *p = &em->place;
	cleanup_(cleanup_close) int log = place_open_log(p, true, e);
	cleanup_(cleanup_free) char *postgres = NULL, *config = NULL;
	if (log < 0)
		return log;
	if (asprintf(&postgres, "%s/postgres", em->bin.dir) < 0 ||
	    asprintf(&config, "config_file=%s", p->config_file) < 0)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	const char *const argv[] = {postgres, "-c", config, "-D", p->data, NULL};
	pid_t pid;
	int rc = proc_start(&(struct proc_spec){.argv = argv, .user = &p->user, .in_fd = -1, .out_fd = log},
	                    &pid, e);
	if (rc < 0)
		return rc;
	em->pid = pid;
	em->ours = true;
	em->pidfd = proc_pidfd(pid);
	if (em->pidfd >= 0)
		return 0;
	rc = em->pidfd;
	kill(pid, SIGQUIT);
	waitpid(pid, NULL, 0);
	forget(em);
	return err_set(e, rc, "internal", "pidfd_open: %s (a Linux kernel of 5.3 or newer is needed)",
	               strerror(-rc));
}

/* Start the server and wait until it is ready. What a crashed one leaves behind (its processes, its shared
 * memory, a zombie under its number) makes the next refuse to start, and goes away by itself: `patience` is
 * how long to try again. */
static int start_server(struct embed *em, usec_t patience, struct err *e)
{
	usec_t until = now_mono() + patience;
	for (;;) {
		off_t from = cluster_log_size(&em->place);
		int rc = spawn_server(em, e);
		if (rc < 0)
			return rc;
		rc = wait_ready(em);
		if (rc == 0)
			return 0;
		if (rc != -ECHILD)
			end_server(em, 0);
		forget(em);
		if (rc == -ECHILD && now_mono() < until) {
			usleep(100 * USEC_PER_MSEC);
			continue;
		}
		err_set(e, rc, "internal",
		        rc == -ECHILD ? "PostgreSQL did not start" : "PostgreSQL is not ready in time");
		cluster_explain(&em->place, from, e);
		return rc;
	}
}

/* The server of an earlier daemon, if it runs: hold it by pidfd and return 1. 0 if there is none; *ret_stale
 * is then true if one crashed. Negative with *e if a process is in the way. */
static int find_server(struct embed *em, bool *ret_stale, struct err *e)
{
	struct place *p = &em->place;
	struct pidfile f;
	*ret_stale = read_pidfile(p, &f) == 0;
	if (!*ret_stale)
		return 0;
	for (usec_t until = now_mono() + 10 * USEC_PER_SEC; may_be_server(p, f.pid);) {
		em->pidfd = proc_pidfd(f.pid);
		em->pid = f.pid;
		if (em->pidfd >= 0 && listener(p) == f.pid)
			return 1;
		forget(em);
		if (now_mono() > until)
			return err_set(
			    e, -EBUSY, "internal",
			    "process %ld holds %s but does not listen on %s: stop it (kill -INT %ld)",
			    (long)f.pid, p->data, p->socket, (long)f.pid);
		usleep(TICK_MS * USEC_PER_MSEC); /* it may be starting, or ending */
		if (read_pidfile(p, &f) < 0)
			return 0;
	}
	/* The number was given to another program of the same user, which would make the server refuse.
	 * Shared memory still guards against a second server: its key comes from the data directory. */
	if (kill(f.pid, 0) == 0) {
		cleanup_(cleanup_close) int dir =
		    openat(p->dir_fd, "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		unlinkat(dir, "postmaster.pid", 0);
	}
	return 0;
}

static void add_notice(struct place *p, const char *text)
{
	size_t n = strlen(p->notice);
	snprintf(p->notice + n, sizeof p->notice - n, "%s%s", n ? "; " : "", text);
}

/* With the cluster in place: take over what runs, or start. */
static int take_over_or_start(struct embed *em, struct err *e)
{
	bool stale;
	int changed = cluster_configure(&em->place, e);
	if (changed < 0)
		return changed;
	int found = find_server(em, &stale, e);
	if (found < 0)
		return found;
	if (!found)
		return start_server(em, stale ? AGAIN_LIMIT : 0, e);
	struct pidfile f;
	bool stopping = read_pidfile(&em->place, &f) < 0 || strcmp(f.status, "stopping") == 0;
	if (!changed && !stopping && wait_ready(em) == 0) {
		add_notice(&em->place, "took over the PostgreSQL that an earlier taskerd left running");
		return 0;
	}
	end_server(em, STOP_LIMIT_MS);
	add_notice(&em->place,
	           "stopped the PostgreSQL that an earlier taskerd left running, and started it anew");
	return start_server(em, AGAIN_LIMIT, e);
}

static int prepare(struct embed *em, struct err *e)
{
	int version = cluster_version(&em->place, e);
	if (version < 0)
		return version;
	int rc = pg_bin_find(version, &em->bin, e);
	if (rc == 0 && version == 0)
		rc = cluster_make(&em->place, &em->bin, e);
	if (rc == 0 && version > 0)
		rc = place_remove_tree(&em->place, "data.tmp");
	return rc;
}

static struct embed *embed_free(struct embed *em)
{
	forget(em);
	pg_bin_done(&em->bin);
	place_close(&em->place);
	free(em);
	return NULL;
}

int embed_start(const char *dir, struct embed **ret, char **ret_conninfo, struct err *e)
{
	struct embed *em = calloc(1, sizeof *em);
	if (!em)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	em->pid = em->pidfd = -1;
	int rc = place_open(dir, &em->place, e);
	if (rc == 0)
		rc = prepare(em, e);
	if (rc == 0)
		rc = take_over_or_start(em, e);
	char *conninfo = rc == 0 ? cluster_conninfo(&em->place) : NULL;
	if (rc == 0 && !conninfo) {
		end_server(em, STOP_LIMIT_MS);
		rc = err_set(e, -ENOMEM, "internal", "out of memory");
	}
	if (rc < 0) {
		embed_free(em);
		return rc;
	}
	*ret = em;
	*ret_conninfo = conninfo;
	return 0;
}

int embed_pid(const struct embed *em)
{
	return em->pid;
}

const char *embed_notice(const struct embed *em)
{
	return em->place.notice[0] ? em->place.notice : NULL;
}

int embed_restart(struct embed *em, struct err *e)
{
	if (em->pidfd >= 0 && proc_ended(em->pidfd, 0) == 0) {
		struct pidfile f;
		if (read_pidfile(&em->place, &f) == 0 && strcmp(f.status, "stopping") != 0 &&
		    wait_ready(em) == 0)
			return 0;
		end_server(em, STOP_LIMIT_MS);
	}
	forget(em);
	return start_server(em, AGAIN_LIMIT, e);
}

struct embed *embed_stop(struct embed *em, int timeout_ms)
{
	if (!em)
		return NULL;
	end_server(em, timeout_ms);
	return embed_free(em);
}
