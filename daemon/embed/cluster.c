/* The cluster of an embedded server.
 *
 * A cluster is made aside and renamed when it is complete and on disk, so DIR/data either is a whole cluster
 * with the database "taskerd" in it or does not exist; a crash on the way leaves DIR/data.tmp, which the next
 * start removes. Settings and access rules live in DIR/conf, not in DIR/data: they are written anew by every
 * version of taskerd, and the server's user cannot change them. local.conf beside them is read last and is
 * never written here.
 *
 * Access: one line of pg_hba.conf lets the superuser role in over the Unix socket by peer authentication,
 * with a map that names the daemon's user and the server's user; everybody else is refused, and there is no
 * TCP. */
#include "daemon/embed/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/embed/proc.h"
#include "protocol/buf.h"

/* What differs from the server's defaults. Sized for one host that does many small transactions: no
 * replication, so the smallest WAL; checkpoints far apart, because each is followed by full-page writes;
 * vacuum soon, because steps are updated several times. Nothing here trades durability away. */
static const char settings[] = "listen_addresses = ''\n"
                               "port = " PLACE_PORT "\n"
                               "unix_socket_permissions = 0700\n"
                               "max_connections = 50\n"
                               "shared_buffers = 128MB\n"
                               "jit = off\n"
                               "fsync = on\n"
                               "synchronous_commit = on\n"
                               "full_page_writes = on\n"
                               "wal_level = minimal\n"
                               "update_process_title = off\n" /* twice a call for nobody */
                               "max_wal_senders = 0\n"
                               "max_logical_replication_workers = 0\n"
                               "max_wal_size = 4GB\n"
                               /* files of the log for 250,000 steps stay: while one is made, all commits wait */
                               "min_wal_size = 256MB\n"
                               "checkpoint_timeout = 15min\n"
                               "checkpoint_completion_target = 0.9\n"
                               "random_page_cost = 1.1\n"
                               "autovacuum = on\n"
                               "autovacuum_naptime = 10s\n"
                               "timezone = 'UTC'\n"
                               "log_timezone = 'UTC'\n"
                               "lc_messages = 'C'\n"
                               "log_destination = 'stderr'\n"
                               "logging_collector = off\n"
                               "log_line_prefix = '%m [%p] '\n"
                               "log_error_verbosity = terse\n" /* details quote rows */
                               "log_checkpoints = off\n"
                               "cluster_name = 'taskerd'\n";

/* 'text' as the server's configuration files want it. */
static void append_quoted(struct buf *b, const char *text)
{
	buf_append_char(b, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			buf_append_char(b, *text);
		buf_append_char(b, *text);
	}
	buf_append_char(b, '\'');
}

static int write_settings(struct place *p, struct err *e)
{
	struct buf b;
	buf_init(&b, 64 << 10);
	buf_append_str(
	    &b,
	    "# Written by taskerd at every start. Settings of your own go into local.conf beside this file:\n"
	    "# it is read last, wins, and is never touched.\n");
	buf_append_str(&b, settings);
	buf_append_str(&b, "unix_socket_directories = ");
	append_quoted(&b, p->run);
	buf_append_str(&b, "\nhba_file = ");
	append_quoted(&b, p->conf);
	b.len--; /* the closing quote goes behind the file's name */
	buf_append_str(&b, "/pg_hba.conf'\nident_file = ");
	append_quoted(&b, p->conf);
	b.len--;
	buf_append_str(&b, "/pg_ident.conf'\ninclude 'local.conf'\n");
	const char *text = buf_text(&b);
	int rc = text ? place_write_conf(p, "postgresql.conf", text, e)
	              : err_set(e, b.failed, "internal", "out of memory");
	buf_done(&b);
	return rc;
}

static int write_ident(struct place *p, struct err *e)
{
	char text[512];
	const struct passwd *me = getpwuid(geteuid());
	int n = snprintf(text, sizeof text,
	                 "# Written by taskerd. Map, operating system user, database user.\n"
	                 "taskerd \"%s\" " CLUSTER_USER "\n",
	                 p->user.name);
	if (me && strcmp(me->pw_name, p->user.name) != 0)
		snprintf(text + n, sizeof text - (size_t)n, "taskerd \"%.64s\" " CLUSTER_USER "\n",
		         me->pw_name);
	return place_write_conf(p, "pg_ident.conf", text, e);
}

int cluster_configure(struct place *p, struct err *e)
{
	int a = place_keep_conf(
	    p, "local.conf", "# Settings of your own for this PostgreSQL. taskerd leaves this file alone.\n",
	    e);
	if (a < 0)
		return a;
	a = write_settings(p, e);
	int b = a < 0 ? a : write_ident(p, e);
	int c = b < 0 ? b
	              : place_write_conf(p, "pg_hba.conf",
	                                 "# Written by taskerd. Who is not named here is refused.\n"
	                                 "local all " CLUSTER_USER " peer map=taskerd\n",
	                                 e);
	return c < 0 ? c : a || b || c;
}

int cluster_version(const struct place *p, struct err *e)
{
	cleanup_(cleanup_close) int dir =
	    openat(p->dir_fd, "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return 0;
	if (dir < 0)
		return err_set(e, -errno, "internal", "%s: %s", p->data, strerror(errno));
	cleanup_(cleanup_close) int fd = openat(dir, "PG_VERSION", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[16] = "";
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	int v = 0;
	for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		v = v * 10 + (text[i] - '0');
	if (v < 1)
		return err_set(
		    e, -EINVAL, "internal",
		    "%s exists but is no PostgreSQL cluster: move it away or choose another directory",
		    p->data);
	return v;
}

off_t cluster_log_size(const struct place *p)
{
	struct stat st;
	return fstatat(p->dir_fd, "postgres.log", &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : 0;
}

/* The line that most likely holds the reason: the last FATAL or PANIC or "error:", else the last one. */
static const char *telling_line(char *text)
{
	const char *best = "", *last = "";
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));) {
		if (!line[0])
			continue;
		last = line;
		if (strstr(line, "FATAL:") || strstr(line, "PANIC:") || strstr(line, "error:"))
			best = line;
	}
	return best[0] ? best : last;
}

void cluster_explain(const struct place *p, off_t from, struct err *e)
{
	char text[4096];
	cleanup_(cleanup_close) int fd = openat(p->dir_fd, "postgres.log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	off_t size = cluster_log_size(p), max = (off_t)sizeof text - 1;
	off_t start = from <= size ? from : 0; /* put aside meanwhile */
	off_t at = size - start > max ? size - max : start;
	ssize_t n = fd < 0 ? 0 : pread(fd, text, sizeof text - 1, at);
	text[n > 0 ? n : 0] = '\0';
	struct err before = *e;
	err_set(e, 0, before.code, "%.200s (%.220s; see %.80s)", before.text, telling_line(text), p->log);
}

/* Run a program of PostgreSQL as the server's user, its output in the log. */
static int run_tool(const struct place *p, const char *const *argv, int in_fd, struct err *e)
{
	cleanup_(cleanup_close) int log = place_open_log(p, false, e);
	if (log < 0)
		return log;
	off_t from = cluster_log_size(p);
	int rc = proc_run(
	    &(struct proc_spec){
	        .argv = argv, .user = &p->user, .in_fd = in_fd, .out_fd = log, .die_with_parent = true},
	    e);
	if (rc < 0)
		cluster_explain(p, from, e);
	return rc;
}

/* A pipe that holds `text` and then ends. `text` fits into a pipe's buffer. */
static int pipe_of(const char *text)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	size_t n = strlen(text);
	int rc = write(p[1], text, n) == (ssize_t)n ? p[0] : -EIO;
	close(p[1]);
	if (rc < 0)
		close(p[0]);
	return rc;
}

static int create_database(const struct place *p, const char *postgres, struct err *e)
{
	cleanup_(cleanup_close) int in = pipe_of("CREATE DATABASE " CLUSTER_USER "\n");
	if (in < 0)
		return err_set(e, in, "internal", "pipe: %s", strerror(-in));
	/* Single-user mode: no socket, no second start; what it writes is forced to disk afterwards with the
	 * rest. */
	const char *const argv[] = {postgres, "--single",         "-F",        "-D", p->data_tmp,
	                            "-c",     "exit_on_error=on", "template1", NULL};
	return run_tool(p, argv, in, e);
}

static int make_data_tmp(struct place *p, struct err *e)
{
	int rc = place_remove_tree(p, "data.tmp");
	if (rc < 0)
		return err_set(e, rc, "internal", "cannot remove %s, left by an earlier try: %s", p->data_tmp,
		               strerror(-rc));
	if (mkdirat(p->dir_fd, "data.tmp", 0700) < 0)
		return err_set(e, -errno, "internal", "cannot make %s: %s", p->data_tmp, strerror(errno));
	cleanup_(cleanup_close) int fd =
	    openat(p->dir_fd, "data.tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (p->user.drop && fchown(fd, p->user.uid, p->user.gid) < 0))
		return err_set(e, -errno, "internal", "cannot give away %s: %s", p->data_tmp,
		               strerror(errno));
	return 0;
}

static int publish(const struct place *p, struct err *e)
{
	if (renameat(p->dir_fd, "data.tmp", p->dir_fd, "data") < 0 || fsync(p->dir_fd) < 0)
		return err_set(e, -errno, "internal", "cannot rename %s: %s", p->data_tmp, strerror(errno));
	return 0;
}

int cluster_make(struct place *p, const struct pg_bin *bin, struct err *e)
{
	cleanup_(cleanup_free) char *initdb = NULL, *postgres = NULL;
	if (asprintf(&initdb, "%s/initdb", bin->dir) < 0 || asprintf(&postgres, "%s/postgres", bin->dir) < 0)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	const char *const make[] = {initdb,
	                            "-D",
	                            p->data_tmp,
	                            "-U",
	                            CLUSTER_USER,
	                            "-E",
	                            "UTF8",
	                            "--no-locale",
	                            "--no-sync",
	                            "--auth-local=peer",
	                            "--auth-host=reject",
	                            NULL};
	/* One pass at the end forces everything to disk, instead of initdb's and then the database's. */
	const char *const sync[] = {initdb, "--sync-only", "-D", p->data_tmp, NULL};
	int rc = make_data_tmp(p, e);
	if (rc == 0)
		rc = run_tool(p, make, -1, e);
	if (rc == 0)
		rc = create_database(p, postgres, e);
	if (rc == 0)
		rc = run_tool(p, sync, -1, e);
	return rc < 0 ? rc : publish(p, e);
}

char *cluster_conninfo(const struct place *p)
{
	/* `run` holds no character that would need quoting: place_socket_fits. */
	char *r = NULL;
	return asprintf(&r, "host=%s port=" PLACE_PORT " user=" CLUSTER_USER " dbname=" CLUSTER_USER,
	                p->run) < 0
	           ? NULL
	           : r;
}
