/* Starting and watching children.
 *
 * Owns nothing. The child's half of proc_start runs after fork in a process that may have had other threads,
 * so it uses system calls only: no allocation, no stdio, no locks. In particular it does not use glibc's
 * setuid family, which talks to all threads of a process, but the system calls underneath. A failure before
 * exec travels back through a close-on-exec pipe as (step, errno). */
#include "daemon/embed/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef SYS_setresuid32 /* 32-bit machines: the plain calls take 16-bit ids there */
#define NR_SETRESUID SYS_setresuid32
#define NR_SETRESGID SYS_setresgid32
#define NR_SETGROUPS SYS_setgroups32
#else
#define NR_SETRESUID SYS_setresuid
#define NR_SETRESGID SYS_setresgid
#define NR_SETGROUPS SYS_setgroups
#endif

enum step { STEP_IDENTITY, STEP_FILES, STEP_EXEC };
static const char *const step_names[] = {
    [STEP_IDENTITY] = "change the user", [STEP_FILES] = "set up its files", [STEP_EXEC] = "execute it"};

struct failure {
	int step, error;
};

/* What a PostgreSQL program needs and nothing of the caller's: PG* variables would change what it does. */
static const char *const child_env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                        "LC_ALL=C", "TZ=UTC", NULL};

static int become(const struct proc_user *u)
{
	if (!u || !u->drop)
		return 0;
	if (syscall(NR_SETGROUPS, 0, NULL) < 0 || syscall(NR_SETRESGID, u->gid, u->gid, u->gid) < 0 ||
	    syscall(NR_SETRESUID, u->uid, u->uid, u->uid) < 0)
		return -errno;
	return 0;
}

/* The caller blocks and ignores signals for its own reasons; exec would hand both on. */
static void reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Put the three standard descriptors in place; leaves `report` open under its number. */
static int place_fds(const struct proc_spec *s)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	int in = s->in_fd >= 0 ? s->in_fd : null_fd, out = s->out_fd >= 0 ? s->out_fd : null_fd;
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		return -errno;
	if (chdir("/") < 0)
		return -errno;
	return 0;
}

static void report_and_exit(int report, enum step step, int error) __attribute__((noreturn));
static void report_and_exit(int report, enum step step, int error)
{
	struct failure f = {(int)step, error};
	ssize_t ignored = write(report, &f, sizeof f);
	(void)ignored;
	_exit(127);
}

static void child(const struct proc_spec *s, int report) __attribute__((noreturn));
static void child(const struct proc_spec *s, int report)
{
	setsid(); /* a ^C at the daemon's terminal is the daemon's to handle */
	reset_signals();
	int rc = become(s->user);
	if (rc < 0)
		report_and_exit(report, STEP_IDENTITY, -rc);
	if (s->die_with_parent)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the change of user, which clears it */
	rc = place_fds(s);
	if (rc < 0)
		report_and_exit(report, STEP_FILES, -rc);
	/* Descriptors without close-on-exec (opened by some library) must not live on in the server. */
	syscall(SYS_close_range, 3U, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
	execve(s->argv[0], (char *const *)(unsigned long)s->argv, (char *const *)(unsigned long)child_env);
	report_and_exit(report, STEP_EXEC, errno);
}

int proc_start(const struct proc_spec *s, pid_t *ret_pid, struct err *e)
{
	int p[2];
	/* Above the standard descriptors, so that place_fds cannot overwrite the report pipe. */
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, -errno, "internal", "pipe: %s", strerror(errno));
	cleanup_(cleanup_close) int rd = fcntl(p[0], F_DUPFD_CLOEXEC, 10),
	                            wr = fcntl(p[1], F_DUPFD_CLOEXEC, 10);
	close(p[0]);
	close(p[1]);
	/* No handler of the caller's may run in the child. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = rd < 0 || wr < 0 ? -1 : fork();
	if (pid == 0)
		child(s, wr);
	int saved = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (wr >= 0)
		close(wr);
	if (pid < 0)
		return err_set(e, -saved, "internal", "starting %s: %s", s->argv[0], strerror(saved));
	struct failure f;
	ssize_t n;
	do
		n = read(rd, &f, sizeof f);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof f) {
		waitpid(pid, NULL, 0);
		return err_set(e, -f.error, "internal", "%s: cannot %s: %s", s->argv[0], step_names[f.step],
		               strerror(f.error));
	}
	*ret_pid = pid;
	return 0;
}

static int wait_status(pid_t pid)
{
	int st;
	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return st;
}

int proc_run(const struct proc_spec *s, struct err *e)
{
	pid_t pid;
	int rc = proc_start(s, &pid, e);
	if (rc < 0)
		return rc;
	int st = wait_status(pid);
	if (st < 0)
		return err_set(e, st, "internal", "waiting for %s: %s", s->argv[0], strerror(-st));
	if (WIFSIGNALED(st))
		return err_set(e, -ECHILD, "internal", "%s was killed by signal %d", s->argv[0],
		               WTERMSIG(st));
	if (WEXITSTATUS(st) != 0)
		return err_set(e, -ECHILD, "internal", "%s ended with status %d", s->argv[0],
		               WEXITSTATUS(st));
	return 0;
}

int proc_capture(const char *const *argv, char *out, size_t size)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	cleanup_(cleanup_close) int rd = p[0];
	struct proc_spec s = {.argv = argv, .in_fd = -1, .out_fd = p[1], .die_with_parent = true};
	pid_t pid;
	int rc = proc_start(&s, &pid, NULL);
	close(p[1]);
	if (rc < 0)
		return rc;
	size_t n = 0;
	char rest[256];
	for (;;) {
		bool full = n + 1 >= size;
		ssize_t r = read(rd, full ? rest : out + n, full ? sizeof rest : size - 1 - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += full ? 0 : (size_t)r;
	}
	out[n] = '\0';
	return wait_status(pid) == 0 ? 0 : -ECHILD;
}

/* In the child: try every prefix that ends before a slash, then the whole path. Writes the length of the
 * first that fails. */
static void walk(const struct proc_user *u, char *path, int report) __attribute__((noreturn));
static void walk(const struct proc_user *u, char *path, int report)
{
	size_t bad = 0, len = strlen(path);
	if (become(u) < 0)
		_exit(1);
	for (size_t i = 1; i <= len && !bad; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		char keep = path[i];
		path[i] = '\0';
		if (chdir(path) < 0)
			bad = i;
		path[i] = keep;
	}
	ssize_t ignored = write(report, &bad, sizeof bad);
	(void)ignored;
	free(path); /* the compiler has forgotten it: memcheck would call it lost */
	_exit(0);
}

ssize_t proc_blocked_at(const struct proc_user *user, const char *path)
{
	cleanup_(cleanup_free) char *copy = strdup(path);
	int p[2];
	if (!copy)
		return -ENOMEM;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	cleanup_(cleanup_close) int rd = p[0];
	pid_t pid = fork();
	if (pid == 0)
		walk(user, copy, p[1]);
	int saved = errno;
	close(p[1]);
	if (pid < 0)
		return -saved;
	size_t bad = 0;
	ssize_t n = read(rd, &bad, sizeof bad);
	int st = wait_status(pid);
	return n == (ssize_t)sizeof bad && st == 0 ? (ssize_t)bad : -EPERM;
}

int proc_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0U);
	return fd < 0 ? -errno : fd;
}

int proc_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0U) < 0 ? -errno : 0;
}

int proc_ended(int pidfd, int timeout_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n = poll(&p, 1, timeout_ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n > 0;
}
