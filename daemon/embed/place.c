/* The directory of an embedded server.
 *
 * Two users meet in DIR when the daemon is root: DIR, DIR/conf and the lock are the daemon's, DIR/data and
 * the socket's directory are the server's. Nothing is opened, changed or removed through a link that the
 * server's user could have put there: paths below DIR are opened without following links, and trees are
 * removed through descriptors. The lock is flock on DIR/lock, held for the life of struct place; the kernel
 * drops it when the daemon dies. */
#include "daemon/embed/place.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME ".s.PGSQL." PLACE_PORT
#define LOG_LIMIT (16 << 20)
#define TREE_DEPTH 16
#define LOCK_WAIT_MS 3000
#define LOCK_TICK_MS 20

static char *join(const char *dir, const char *name)
{
	char *r = NULL;
	return asprintf(&r, "%s/%s", dir, name) < 0 ? NULL : r;
}

static int fail(struct err *e, const char *what, const char *path)
{
	int rc = -errno;
	return err_set(e, rc, "internal", "%s %s: %s", what, path, strerror(-rc));
}

/* mkdir -p; directories made on the way are for everyone to pass, the last one is entered by path only. */
static int make_dirs(const char *path, struct err *e)
{
	cleanup_(cleanup_free) char *copy = strdup(path);
	if (!copy)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	for (char *p = copy + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return fail(e, "cannot make", copy);
		*p = '/';
	}
	if (mkdir(path, 0711) < 0 && errno != EEXIST)
		return fail(e, "cannot make", path);
	return 0;
}

static int open_dir(const char *dir, struct place *p, struct err *e)
{
	if (!dir[0])
		return err_set(e, -EINVAL, "internal", "the embedded directory has an empty name");
	int rc = make_dirs(dir, e);
	if (rc < 0)
		return rc;
	p->dir = realpath(dir, NULL);
	if (!p->dir)
		return fail(e, "cannot resolve", dir);
	for (const char *c = p->dir; *c; c++)
		if (iscntrl((unsigned char)*c))
			return err_set(e, -EINVAL, "internal",
			               "the embedded directory's name has control characters");
	p->dir_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	if (p->dir_fd < 0 || fstat(p->dir_fd, &st) < 0)
		return fail(e, "cannot open", p->dir);
	if (st.st_uid != geteuid())
		return err_set(
		    e, -EPERM, "internal",
		    "%s belongs to uid %u, but taskerd runs as uid %u: run it as the owner, or use another "
		    "directory",
		    p->dir, (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & 0002)
		return err_set(e, -EPERM, "internal", "%s can be written by everyone: chmod o-w %s", p->dir,
		               p->dir);
	return 0;
}

/* A daemon that was killed keeps its lock until the kernel has cleared it away, which takes a while on a
 * machine that is busy: whoever kills one and starts another at once is not to be told that it is in use. */
static int lock_soon(int fd)
{
	for (int left = LOCK_WAIT_MS; flock(fd, LOCK_EX | LOCK_NB) < 0; left -= LOCK_TICK_MS) {
		if (errno != EWOULDBLOCK || left <= 0)
			return -errno;
		usleep(LOCK_TICK_MS * 1000);
	}
	return 0;
}

static int lock_dir(struct place *p, struct err *e)
{
	p->lock_fd = openat(p->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (p->lock_fd < 0)
		return fail(e, "cannot open the lock in", p->dir);
	char text[32] = "";
	if (lock_soon(p->lock_fd) < 0) {
		if (errno != EWOULDBLOCK)
			return fail(e, "cannot lock", p->dir);
		ssize_t n = pread(p->lock_fd, text, sizeof text - 1, 0);
		text[n > 0 ? (size_t)n : 0] = '\0';
		text[strspn(text, "0123456789")] = '\0';
		return err_set(e, -EBUSY, "internal", "%s is in use by another taskerd, pid %s", p->dir,
		               text[0] ? text : "unknown");
	}
	int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	if (ftruncate(p->lock_fd, 0) < 0 || pwrite(p->lock_fd, text, (size_t)n, 0) != n)
		return fail(e, "cannot write the lock in", p->dir);
	return 0;
}

static int set_user(struct proc_user *u, const struct passwd *pw, bool drop)
{
	*u = (struct proc_user){.uid = pw->pw_uid, .gid = pw->pw_gid, .drop = drop};
	size_t n = strlen(pw->pw_name);
	if (n >= sizeof u->name)
		return -ENAMETOOLONG;
	memcpy(u->name, pw->pw_name, n + 1);
	return 0;
}

/* Who the server runs as. PostgreSQL refuses root, and needs a user that has a name. */
static int choose_user(struct place *p, struct err *e)
{
	bool root = geteuid() == 0;
	const struct passwd *pw = root ? getpwnam("postgres") : getpwuid(geteuid());
	if (!pw && root)
		return err_set(e, -ENOENT, "internal",
		               "PostgreSQL does not run as root and there is no user \"postgres\" to run it "
		               "as: install the "
		               "package postgresql, or run taskerd as an ordinary user");
	if (!pw)
		return err_set(
		    e, -ENOENT, "internal",
		    "uid %u has no name in the user database (/etc/passwd), and PostgreSQL needs one",
		    (unsigned)geteuid());
	if (set_user(&p->user, pw, root) < 0)
		return err_set(e, -ENAMETOOLONG, "internal", "the user name %s is too long", pw->pw_name);
	struct stat st;
	if (fstatat(p->dir_fd, "data", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid != p->user.uid)
		return err_set(
		    e, -EPERM, "internal",
		    "%s/data belongs to uid %u, but the server would run as %s (uid %u): chown -R %s %s/data",
		    p->dir, (unsigned)st.st_uid, p->user.name, (unsigned)p->user.uid, p->user.name, p->dir);
	return 0;
}

static int check_reachable(const struct place *p, struct err *e)
{
	if (!p->user.drop)
		return 0;
	ssize_t n = proc_blocked_at(&p->user, p->dir);
	if (n < 0)
		return err_set(e, (int)n, "internal", "cannot act as user %s: %s", p->user.name,
		               strerror((int)-n));
	if (n > 0)
		return err_set(e, -EACCES, "internal",
		               "as root, taskerd runs PostgreSQL as %s, who cannot enter %.*s: chmod o+x "
		               "%.*s, or choose "
		               "another directory with --embedded=DIR",
		               p->user.name, (int)n, p->dir, (int)n, p->dir);
	return 0;
}

/* A directory that only the server's user (and root) can enter. One that others could have put there is
 * refused. */
static int make_private_dir(const struct place *p, const char *path, struct err *e)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return fail(e, "cannot make", path);
	cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(e, "cannot open", path);
	if (st.st_uid != geteuid() && st.st_uid != p->user.uid)
		return err_set(e, -EPERM, "internal", "%s belongs to uid %u, not to %s: remove it", path,
		               (unsigned)st.st_uid, p->user.name);
	if ((p->user.drop && fchown(fd, p->user.uid, p->user.gid) < 0) || fchmod(fd, 0700) < 0)
		return fail(e, "cannot give away", path);
	return 0;
}

bool place_socket_fits(const char *run)
{
	if (strlen(run) + 1 + strlen(SOCKET_NAME) >= sizeof((struct sockaddr_un *)0)->sun_path)
		return false;
	/* A comma would split the path in two for libpq, a blank or quote needs quoting in every psql command
	 * line. */
	for (const char *c = run; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("/_.-+:=@%~", *c))
			return false;
	return true;
}

static uint64_t fnv1a(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3ULL;
	return h;
}

/* Where the socket goes: DIR/run, or, if that cannot name a socket, a directory whose short name follows from
 * DIR. */
static int choose_run(struct place *p, struct err *e)
{
	p->run = join(p->dir, "run");
	if (p->run && !place_socket_fits(p->run)) {
		const char *xdg = getenv("XDG_RUNTIME_DIR");
		const char *base = geteuid() == 0 && access("/run", W_OK) == 0       ? "/run"
		                   : geteuid() != 0 && xdg && access(xdg, W_OK) == 0 ? xdg
		                                                                     : "/tmp";
		free(p->run);
		if (asprintf(&p->run, "%s/taskerd-%016llx", base, (unsigned long long)fnv1a(p->dir)) < 0)
			p->run = NULL;
		if (p->run && !place_socket_fits(p->run))
			return err_set(
			    e, -ENAMETOOLONG, "internal",
			    "neither %s/run nor %s can name a Unix socket: choose a shorter directory",
			    p->dir, p->run);
		snprintf(p->notice, sizeof p->notice,
		         "the name of %.160s cannot hold a Unix socket; it is in %.108s", p->dir,
		         p->run ? p->run : "");
	}
	p->socket = p->run ? join(p->run, SOCKET_NAME) : NULL;
	if (!p->socket)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	return make_private_dir(p, p->run, e);
}

static int name_paths(struct place *p, struct err *e)
{
	p->data = join(p->dir, "data");
	p->data_tmp = join(p->dir, "data.tmp");
	p->conf = join(p->dir, "conf");
	p->config_file = join(p->dir, "conf/postgresql.conf");
	p->log = join(p->dir, "postgres.log");
	if (!p->data || !p->data_tmp || !p->conf || !p->config_file || !p->log)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	if (mkdir(p->conf, 0755) < 0 && errno != EEXIST)
		return fail(e, "cannot make", p->conf);
	return 0;
}

int place_open(const char *dir, struct place *p, struct err *e)
{
	*p = (struct place){.dir_fd = -1, .lock_fd = -1};
	int rc = open_dir(dir, p, e);
	if (rc == 0)
		rc = lock_dir(p, e);
	if (rc == 0)
		rc = choose_user(p, e);
	if (rc == 0)
		rc = check_reachable(p, e);
	if (rc == 0)
		rc = name_paths(p, e);
	if (rc == 0)
		rc = choose_run(p, e);
	if (rc < 0)
		place_close(p);
	return rc;
}

void place_close(struct place *p)
{
	if (!p->dir)
		return;
	free(p->dir);
	free(p->data);
	free(p->data_tmp);
	free(p->conf);
	free(p->config_file);
	free(p->run);
	free(p->socket);
	free(p->log);
	cleanup_close(&p->dir_fd);
	cleanup_close(&p->lock_fd);
	*p = (struct place){.dir_fd = -1, .lock_fd = -1};
}

static bool holds(int conf_fd, const char *name, const char *text)
{
	size_t want = strlen(text);
	cleanup_(cleanup_close) int fd = openat(conf_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_(cleanup_free) char *have = fd < 0 ? NULL : malloc(want + 1);
	if (!have)
		return false;
	ssize_t n = read(fd, have, want + 1);
	return n == (ssize_t)want && memcmp(have, text, want) == 0;
}

/* Write the whole file aside and give it its name, so that no half of it is ever read. */
static int replace_conf(const struct place *p, int dir, const char *name, const char *text, struct err *e)
{
	char tmp[64];
	snprintf(tmp, sizeof tmp, "%.40s.tmp", name);
	cleanup_(cleanup_close) int fd =
	    openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	size_t n = strlen(text);
	if (fd < 0 || fchmod(fd, 0644) < 0 || write(fd, text, n) != (ssize_t)n ||
	    renameat(dir, tmp, dir, name) < 0)
		return fail(e, "cannot write in", p->conf);
	return 1;
}

int place_write_conf(struct place *p, const char *name, const char *text, struct err *e)
{
	cleanup_(cleanup_close) int dir =
	    openat(p->dir_fd, "conf", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return fail(e, "cannot open", p->conf);
	return holds(dir, name, text) ? 0 : replace_conf(p, dir, name, text, e);
}

int place_keep_conf(struct place *p, const char *name, const char *text, struct err *e)
{
	cleanup_(cleanup_close) int dir =
	    openat(p->dir_fd, "conf", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return fail(e, "cannot open", p->conf);
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	int rc = replace_conf(p, dir, name, text, e);
	return rc < 0 ? rc : 0;
}

int place_open_log(const struct place *p, bool rotate, struct err *e)
{
	struct stat st;
	if (rotate && fstatat(p->dir_fd, "postgres.log", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_size > LOG_LIMIT)
		renameat(p->dir_fd, "postgres.log", p->dir_fd, "postgres.log.1");
	int fd =
	    openat(p->dir_fd, "postgres.log", O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
	return fd < 0 ? fail(e, "cannot open", p->log) : fd;
}

static int remove_at(int parent, const char *name, int depth);

/* Empty the directory `fd` (taken). */
static int empty_dir(int fd, int depth)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	int rc = 0;
	for (struct dirent *ent; rc == 0 && (ent = readdir(d));)
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			rc = remove_at(dirfd(d), ent->d_name, depth - 1);
	closedir(d);
	return rc;
}

static int remove_at(int parent, const char *name, int depth)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth == 0)
		return -ELOOP;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = empty_dir(fd, depth);
	if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0)
		rc = -errno;
	return rc;
}

int place_remove_tree(const struct place *p, const char *name)
{
	return remove_at(p->dir_fd, name, TREE_DEPTH);
}
