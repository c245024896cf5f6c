/* Child processes for the embedded server: another user's identity, a clean environment, no inherited
 * descriptors. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "daemon/base/err.h"

struct proc_user {
	uid_t uid;
	gid_t gid;
	bool drop;     /* this process is root and the child must become uid and gid */
	char name[64]; /* for messages and for peer authentication */
};

struct proc_spec {
	const char *const *argv; /* argv[0] is the path; NULL-terminated */
	const struct proc_user *user;
	int in_fd, out_fd;    /* the child's stdin; its stdout and stderr; < 0: /dev/null */
	bool die_with_parent; /* SIGKILL when the calling thread ends: for helpers, never for the server */
};

/* Start it in a session of its own. Only async-signal-safe calls run between fork and exec, so any thread may
 * call this. 0: *ret_pid is running the program. Negative: exec or a step before it failed, *e names the
 * step. */
int proc_start(const struct proc_spec *s, pid_t *ret_pid, struct err *e) must_check;
/* Start, wait, and demand exit status 0. Negative otherwise (-ECHILD: it ran but failed). */
int proc_run(const struct proc_spec *s, struct err *e) must_check;
/* Like proc_run but returns the first `size - 1` bytes of stdout, NUL-terminated, in `out`. */
int proc_capture(const char *const *argv, char *out, size_t size) must_check;
/* As `user`, walk `path` (absolute) from the root: returns 0 if every directory can be entered, else the
 * length of the first prefix that cannot, or negative errno. */
ssize_t proc_blocked_at(const struct proc_user *user, const char *path);

/* A pidfd for `pid`, close-on-exec, or -errno. */
int proc_pidfd(pid_t pid);
/* Send `sig`; 0, or -ESRCH when it is gone. */
int proc_signal(int pidfd, int sig);
/* Wait until the process has ended: 1 if so, 0 after timeout_ms, or -errno. Works for processes that are not
 * children. */
int proc_ended(int pidfd, int timeout_ms);
