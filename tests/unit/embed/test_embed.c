/* The embedded server against real PostgreSQL programs. Every test runs twice where that makes sense: as the
 * user who runs the tests, and, if that is root, as an ordinary user ("nobody") too. Each works on its own
 * copy of a cluster that the fixture made once. Check forks for each test, so a test may change its user. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/embed/embed.h"
#include "daemon/embed/pg_bin.h"
#include "daemon/embed/place.h"
#include "daemon/embed/proc.h"

#define NOBODY 65534
#define STOP_MS 20000

enum mode { AS_IS, AS_ORDINARY_USER, MODES };

static char base[128]; /* of all that the tests make */
static struct embed *em;
static char *conninfo;
static struct err err;

/* ---- the stage ---- */

static void become_nobody(void)
{
	ck_assert_int_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
	ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
	prctl(PR_SET_DUMPABLE, 1); /* else the leak checker cannot look at its own process */
}

static bool have_mode(int mode)
{
	return mode == AS_IS || geteuid() == 0;
}

static void shell(const char *fmt, ...) printf_like(1, 2);
static void shell(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	int st = system(cmd);
	if (st != 0)
		ck_abort_msg("%s: status %d", cmd, st);
}

static const char *master_dir(int mode)
{
	static char dir[2][160];
	snprintf(dir[mode], sizeof dir[mode], "%s/%s", base, mode == AS_IS ? "as-is" : "ordinary");
	return dir[mode];
}

static void make_master(int mode)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (mode == AS_ORDINARY_USER)
			become_nobody();
		char dir[400];
		snprintf(dir, sizeof dir, "%s/master", master_dir(mode));
		int rc = embed_start(dir, &em, &conninfo, &err);
		if (rc < 0)
			fprintf(stderr, "%s\n", err.text);
		embed_stop(em, STOP_MS);
		_exit(rc < 0);
	}
	int st;
	ck_assert_int_eq(waitpid(pid, &st, 0), pid);
	ck_assert_msg(st == 0, "the fixture's cluster could not be made");
}

/* In memory if there is room: none of this has to outlive a crash of the machine. */
static const char *stage_parent(void)
{
	struct statvfs v;
	if (statvfs("/dev/shm", &v) == 0 && v.f_bavail * v.f_frsize > (2ULL << 30) &&
	    access("/dev/shm", W_OK) == 0)
		return "/dev/shm";
	return "/tmp";
}

static void set_stage(void)
{
	snprintf(base, sizeof base, "%s/taskerd-embed-XXXXXX", stage_parent());
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chmod(base, 0755), 0);
	for (int mode = 0; mode < MODES; mode++) {
		if (!have_mode(mode))
			continue;
		ck_assert_int_eq(mkdir(master_dir(mode), 0755), 0);
		if (mode == AS_ORDINARY_USER)
			ck_assert_int_eq(chown(master_dir(mode), NOBODY, NOBODY), 0);
		make_master(mode);
	}
}

/* Also what a failed test has left running. */
static void clear_stage(void)
{
	shell("for f in $(find %s -name postmaster.pid 2>/dev/null); do"
	      " p=$(head -n 1 $f); tr '\\0' ' ' </proc/$p/cmdline 2>/dev/null | grep -q %s && kill -QUIT $p; "
	      "done; "
	      "rm -rf %s || { sleep 1; rm -rf %s; }",
	      base, base, base, base);
}

/* A path for the test to use, in the mode's own directory; with `copy` it holds a copy of the ready cluster.
 */
static const char *stage_dir(int mode, bool copy)
{
	static char dir[300];
	if (mode == AS_ORDINARY_USER)
		become_nobody();
	snprintf(dir, sizeof dir, "%s/t%ld", master_dir(mode), (long)getpid());
	if (copy)
		shell("cp -a %s/master %s", master_dir(mode), dir);
	return dir;
}

static void start(const char *dir)
{
	int rc = embed_start(dir, &em, &conninfo, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_int_gt(embed_pid(em), 1);
}

static void stop(void)
{
	em = embed_stop(em, STOP_MS);
	free(conninfo);
	conninfo = NULL;
}

/* First field of the first row, or "" (static). */
static const char *sql(const char *query)
{
	static char out[256];
	PGconn *c = PQconnectdb(conninfo);
	ck_assert_msg(PQstatus(c) == CONNECTION_OK, "%s", PQerrorMessage(c));
	PGresult *r = PQexec(c, query);
	ck_assert_msg(PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK, "%s",
	              PQerrorMessage(c));
	snprintf(out, sizeof out, "%s", PQntuples(r) ? PQgetvalue(r, 0, 0) : "");
	PQclear(r);
	PQfinish(c);
	return out;
}

static uid_t owner_of(pid_t pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%ld", (long)pid);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_uid;
}

/* Start a server in another process, which then dies without a word; returns the server's pid. */
static pid_t start_and_die(const char *dir)
{
	int p[2];
	ck_assert_int_eq(pipe(p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int server = embed_start(dir, &em, &conninfo, &err) == 0 ? embed_pid(em) : -1;
		ssize_t ignored = write(p[1], &server, sizeof server);
		(void)ignored;
		kill(getpid(), SIGKILL);
	}
	int server = -1;
	close(p[1]);
	ck_assert_int_eq(read(p[0], &server, sizeof server), sizeof server);
	close(p[0]);
	waitpid(pid, NULL, 0);
	ck_assert_int_gt(server, 1);
	return server;
}

/* SIGKILL, and wait until it has taken effect. */
static void crash(pid_t pid)
{
	int fd = proc_pidfd(pid);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(proc_signal(fd, SIGKILL), 0);
	ck_assert_int_eq(proc_ended(fd, 30000), 1);
	close(fd);
}

/* ---- tests ---- */

START_TEST(test_first_start)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, false);
	char nested[400], path[440];
	struct stat st;
	snprintf(nested, sizeof nested, "%s/not/there/yet", dir);
	start(nested);
	ck_assert_ptr_null(embed_notice(em));
	ck_assert_uint_ne(owner_of(embed_pid(em)), 0);
	ck_assert_str_eq(sql("SELECT current_database() || '/' || current_user"), "taskerd/taskerd");
	snprintf(path, sizeof path, "%s/data", nested);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	snprintf(path, sizeof path, "%s/run", nested);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	stop();
}
END_TEST

START_TEST(test_settings)
{
	static const char *const expect[][2] = {
	    {"fsync", "on"},
	    {"synchronous_commit", "on"},
	    {"full_page_writes", "on"},
	    {"listen_addresses", ""},
	    {"jit", "off"},
	    {"max_wal_senders", "0"},
	    {"wal_level", "minimal"},
	    {"max_connections", "50"},
	    {"checkpoint_timeout", "15min"},
	    {"max_wal_size", "4GB"},
	    {"min_wal_size", "256MB"},
	    {"autovacuum", "on"},
	    {"autovacuum_naptime", "10s"},
	    {"cluster_name", "taskerd"},
	    {"server_encoding", "UTF8"},
	    {"lc_collate", "C"},
	    {"data_checksums", "off"},
	    {"TimeZone", "UTC"},
	};
	if (!have_mode(_i))
		return;
	start(stage_dir(_i, true));
	for (size_t i = 0; i < sizeof expect / sizeof *expect; i++) {
		char q[80];
		snprintf(q, sizeof q, "SHOW %s", expect[i][0]);
		ck_assert_msg(strcmp(sql(q), expect[i][1]) == 0, "%s is %s", expect[i][0], sql(q));
	}
	stop();
}
END_TEST

START_TEST(test_data_survives_a_stop)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, true);
	start(dir);
	sql("CREATE TABLE kept AS SELECT 42 AS v");
	stop();
	start(dir);
	ck_assert_str_eq(sql("SELECT v FROM kept"), "42");
	stop();
}
END_TEST

static void *restart_in_thread(void *ret)
{
	*(int *)ret = embed_restart(em, &err);
	return NULL;
}

/* Commit, kill the server with SIGKILL, start it again: nothing committed is lost. The second time from
 * another thread. */
START_TEST(test_crash_and_restart)
{
	if (!have_mode(_i))
		return;
	start(stage_dir(_i, true));
	sql("CREATE TABLE kept (v int)");
	for (int round = 0; round < 2; round++) {
		sql("INSERT INTO kept VALUES (1)");
		pid_t before = embed_pid(em);
		int rc = 1;
		pthread_t t;
		crash(before);
		if (round == 0) {
			rc = embed_restart(em, &err);
		} else {
			ck_assert_int_eq(pthread_create(&t, NULL, restart_in_thread, &rc), 0);
			pthread_join(t, NULL);
		}
		ck_assert_msg(rc == 0, "%s", err.text);
		ck_assert_int_ne(embed_pid(em), before);
	}
	ck_assert_str_eq(sql("SELECT count(*) FROM kept"), "2");
	stop();
}
END_TEST

START_TEST(test_restart_of_a_healthy_server_changes_nothing)
{
	start(stage_dir(AS_IS, true));
	pid_t before = embed_pid(em);
	ck_assert_int_eq(embed_restart(em, &err), 0);
	ck_assert_int_eq(embed_pid(em), before);
	stop();
}
END_TEST

START_TEST(test_second_daemon_is_refused)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, true);
	start(dir);
	struct embed *other = NULL;
	char *info = NULL, pid[32];
	ck_assert_int_eq(embed_start(dir, &other, &info, &err), -EBUSY);
	snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
	ck_assert_msg(strstr(err.text, pid) != NULL, "%s", err.text);
	ck_assert_str_eq(sql("SELECT 1"), "1"); /* and the first one is none the worse */
	stop();
	start(dir);
	stop();
}
END_TEST

START_TEST(test_server_of_a_killed_daemon_is_taken_over)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, true);
	pid_t server = start_and_die(dir);
	start(dir);
	ck_assert_int_eq(embed_pid(em), server);
	ck_assert_msg(embed_notice(em) && strstr(embed_notice(em), "took over"), "%s", embed_notice(em));
	ck_assert_str_eq(sql("SELECT 1"), "1");
	/* It is not our child, and is watched, started again and stopped all the same. */
	crash(server);
	ck_assert_msg(embed_restart(em, &err) == 0, "%s", err.text);
	ck_assert_int_ne(embed_pid(em), server);
	stop();
}
END_TEST

START_TEST(test_server_with_other_settings_is_started_anew)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, true);
	pid_t server = start_and_die(dir);
	shell("echo '# of an older taskerd' >>%s/conf/postgresql.conf", dir);
	start(dir);
	ck_assert_int_ne(embed_pid(em), server);
	ck_assert_msg(embed_notice(em) && strstr(embed_notice(em), "anew"), "%s", embed_notice(em));
	ck_assert_str_eq(sql("SELECT 1"), "1");
	stop();
}
END_TEST

START_TEST(test_stop_leaves_nothing)
{
	const char *dir = stage_dir(AS_IS, true);
	pid_t server = start_and_die(dir);
	start(dir);
	stop();
	char path[400];
	snprintf(path, sizeof path, "%s/data/postmaster.pid", dir);
	ck_assert_int_eq(access(path, F_OK), -1);
	snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)server);
	char text[16];
	int fd = open(path, O_RDONLY); /* gone, or a zombie whose command line is empty */
	ck_assert_int_le(fd < 0 ? 0 : read(fd, text, sizeof text), 0);
	if (fd >= 0)
		close(fd);
}
END_TEST

START_TEST(test_half_made_cluster_is_made_again)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, false);
	shell("mkdir -p %s/data.tmp/base/1 && chmod 711 %s && echo 15 >%s/data.tmp/PG_VERSION && touch "
	      "%s/data.tmp/base/1/16384 && "
	      "ln -s / %s/data.tmp/link",
	      dir, dir, dir, dir, dir);
	start(dir);
	ck_assert_str_eq(sql("SELECT 1"), "1");
	char path[400];
	snprintf(path, sizeof path, "%s/data.tmp", dir);
	ck_assert_int_eq(access(path, F_OK), -1);
	stop();
}
END_TEST

/* Kill the daemon while initdb runs. */
START_TEST(test_kill_in_initdb)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, false);
	char path[400];
	snprintf(path, sizeof path, "%s/data.tmp/PG_VERSION", dir);
	pid_t pid = fork();
	if (pid == 0) {
		int rc = embed_start(dir, &em, &conninfo, &err);
		_exit(rc < 0);
	}
	while (access(path, F_OK) < 0)
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	start(dir);
	ck_assert_str_eq(sql("SELECT current_database()"), "taskerd");
	stop();
}
END_TEST

/* Who holds the lock has been killed, but the kernel has not cleared it away yet. */
START_TEST(test_the_lock_of_one_that_was_killed)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, false);
	for (int i = 0; i < 20; i++) {
		struct place p, own;
		int ready[2];
		char c;
		ck_assert_int_eq(pipe(ready), 0);
		pid_t other = fork();
		if (other == 0) {
			if (place_open(dir, &own, &err) < 0 || write(ready[1], "", 1) != 1)
				_exit(1);
			pause();
		}
		ck_assert_int_eq(read(ready[0], &c, 1), 1);
		kill(other, SIGKILL);
		ck_assert_msg(place_open(dir, &p, &err) == 0, "%s", err.text);
		place_close(&p);
		waitpid(other, NULL, 0);
		close(ready[0]);
		close(ready[1]);
	}
}
END_TEST

/* postmaster.pid of a crash, whose number now belongs to some other process of the server's user. */
START_TEST(test_stale_pid_of_another_process)
{
	if (!have_mode(_i))
		return;
	const char *dir = stage_dir(_i, true);
	struct place p;
	ck_assert_msg(place_open(dir, &p, &err) == 0, "%s", err.text);
	uid_t uid = p.user.uid;
	place_close(&p);
	int ready[2];
	ck_assert_int_eq(pipe(ready), 0);
	pid_t other = fork();
	if (other == 0) {
		if (geteuid() != uid && setuid(uid) < 0)
			_exit(1);
		ssize_t ignored = write(ready[1], "", 1);
		(void)ignored;
		pause();
		_exit(0);
	}
	char c;
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	shell("printf '%%s\\n%%s\\n1\\n5432\\n\\n\\n\\n' %ld %s/data >%s/data/postmaster.pid && chown "
	      "--reference=%s/data "
	      "%s/data/postmaster.pid",
	      (long)other, dir, dir, dir, dir);
	start(dir);
	ck_assert_str_eq(sql("SELECT 1"), "1");
	stop();
	ck_assert_int_eq(waitpid(other, NULL, WNOHANG), 0); /* nobody signalled it */
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
}
END_TEST

START_TEST(test_foreign_data_is_not_touched)
{
	const char *dir = stage_dir(AS_IS, false);
	shell("mkdir -p %s/data && chmod 711 %s && echo precious >%s/data/thesis.txt", dir, dir, dir);
	if (geteuid() == 0)
		shell("chown -R postgres %s/data", dir);
	ck_assert_int_eq(embed_start(dir, &em, &conninfo, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, "is no PostgreSQL cluster") != NULL, "%s", err.text);
	shell("grep -q precious %s/data/thesis.txt", dir);
}
END_TEST

START_TEST(test_cluster_of_another_version)
{
	const char *dir = stage_dir(AS_IS, true);
	shell("echo 12 >%s/data/PG_VERSION", dir);
	ck_assert_int_eq(embed_start(dir, &em, &conninfo, &err), -ENOENT);
	ck_assert_msg(strstr(err.text, "postgresql-12") != NULL, "%s", err.text);
}
END_TEST

START_TEST(test_long_directory)
{
	if (!have_mode(_i))
		return;
	char dir[600];
	snprintf(dir, sizeof dir, "%s/%0120d", stage_dir(_i, false), 7);
	start(dir);
	ck_assert_msg(embed_notice(em) && strstr(embed_notice(em), "cannot hold a Unix socket"), "%s",
	              embed_notice(em));
	ck_assert_str_eq(sql("SELECT 1"), "1");
	char run[300];
	snprintf(run, sizeof run, "%.*s", (int)strcspn(conninfo + strlen("host="), " "),
	         conninfo + strlen("host="));
	stop();
	start(dir);
	ck_assert_str_eq(sql("SELECT 1"), "1");
	ck_assert_ptr_nonnull(strstr(conninfo, run)); /* the same place again */
	stop();
	ck_assert_int_eq(rmdir(run), 0);
}
END_TEST

START_TEST(test_awkward_directory)
{
	char dir[600];
	snprintf(dir, sizeof dir, "%s/it's, \"odd\" \\ $HOME", stage_dir(AS_IS, false));
	start(dir);
	ck_assert_str_eq(sql("SELECT 1"), "1");
	char run[300];
	snprintf(run, sizeof run, "%.*s", (int)strcspn(conninfo + strlen("host="), " "),
	         conninfo + strlen("host="));
	stop();
	ck_assert_int_eq(rmdir(run), 0);
}
END_TEST

START_TEST(test_socket_name_limit)
{
	char run[128];
	size_t fits = 107 - strlen("/.s.PGSQL.5432");
	memset(run, 'a', sizeof run);
	run[0] = '/';
	run[fits] = '\0';
	ck_assert(place_socket_fits(run));
	run[fits] = 'a';
	run[fits + 1] = '\0';
	ck_assert(!place_socket_fits(run));
	ck_assert(!place_socket_fits("/a,b"));
	ck_assert(!place_socket_fits("/a b"));
	ck_assert(!place_socket_fits("/a'b"));
}
END_TEST

START_TEST(test_bad_local_settings)
{
	const char *dir = stage_dir(AS_IS, true);
	shell("echo 'no_such_setting = 1' >%s/conf/local.conf", dir);
	ck_assert_int_lt(embed_start(dir, &em, &conninfo, &err), 0);
	ck_assert_msg(strstr(err.text, "did not start") && strstr(err.text, "FATAL") &&
	                  strstr(err.text, "postgres.log"),
	              "%s", err.text);
	shell("echo 'shared_buffers = 20MB' >%s/conf/local.conf", dir);
	start(dir);
	ck_assert_str_eq(sql("SHOW shared_buffers"), "20MB");
	stop();
}
END_TEST

START_TEST(test_unreachable_directory)
{
	if (geteuid() != 0)
		return;
	const char *dir = stage_dir(AS_IS, false);
	char deep[400], reason[400];
	shell("mkdir -m 700 %s", dir);
	snprintf(deep, sizeof deep, "%s/below", dir);
	ck_assert_int_eq(embed_start(deep, &em, &conninfo, &err), -EACCES);
	snprintf(reason, sizeof reason, "postgres, who cannot enter %s: chmod o+x %s,", dir, dir);
	ck_assert_msg(strstr(err.text, reason) != NULL, "%s", err.text);
}
END_TEST

START_TEST(test_directory_of_others)
{
	const char *dir = stage_dir(AS_IS, false);
	shell("mkdir %s && chmod 777 %s", dir, dir);
	ck_assert_int_eq(embed_start(dir, &em, &conninfo, &err), -EPERM);
	ck_assert_msg(strstr(err.text, "written by everyone") != NULL, "%s", err.text);
	if (geteuid() != 0)
		return;
	shell("chmod 755 %s && chown nobody %s", dir, dir);
	ck_assert_int_eq(embed_start(dir, &em, &conninfo, &err), -EPERM);
	ck_assert_msg(strstr(err.text, "belongs to uid 65534") != NULL, "%s", err.text);
}
END_TEST

START_TEST(test_others_cannot_connect)
{
	if (geteuid() != 0)
		return;
	start(stage_dir(AS_IS, true));
	shell("chmod 711 %s/run", stage_dir(AS_IS, false)); /* even if the directory let them pass */
	shell("chmod 777 %s/run/.s.PGSQL.5432", stage_dir(AS_IS, false));
	pid_t pid = fork();
	if (pid == 0) {
		become_nobody();
		PGconn *c = PQconnectdb(conninfo);
		bool refused =
		    PQstatus(c) != CONNECTION_OK && strstr(PQerrorMessage(c), "Peer authentication failed");
		PQfinish(c);
		_exit(refused ? 0 : 1);
	}
	int st;
	waitpid(pid, &st, 0);
	ck_assert_int_eq(st, 0);
	stop();
}
END_TEST

START_TEST(test_version_text)
{
	static const struct {
		const char *text;
		int major;
	} rows[] = {
	    {"postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", 15},
	    {"postgres (PostgreSQL) 13.0\n", 13},
	    {"postgres (PostgreSQL) 18beta1\n", 18},
	    {"postgres (PostgreSQL) \n", 0},
	    {"something else 15", 0},
	    {"", 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_int_eq(pg_bin_parse_version(rows[i].text), rows[i].major);
}
END_TEST

START_TEST(test_programs_are_found)
{
	struct pg_bin b = {0};
	ck_assert_msg(pg_bin_find(0, &b, &err) == 0, "%s", err.text);
	int major = b.major;
	ck_assert_int_ge(major, PG_OLDEST);
	pg_bin_done(&b);
	setenv("PATH", "/nowhere:relative::/", 1); /* Debian keeps them out of PATH */
	if (access("/usr/lib/postgresql", X_OK) == 0) {
		ck_assert_msg(pg_bin_find(major, &b, &err) == 0, "%s", err.text);
		ck_assert_int_eq(b.major, major);
		pg_bin_done(&b);
	}
	ck_assert_int_eq(pg_bin_find(7, &b, &err), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("embed");
	TCase *t = tcase_create("cluster");
	tcase_set_timeout(t, 120);
	tcase_add_unchecked_fixture(t, set_stage, clear_stage);
	tcase_add_loop_test(t, test_first_start, 0, MODES);
	tcase_add_loop_test(t, test_settings, 0, MODES);
	tcase_add_loop_test(t, test_data_survives_a_stop, 0, MODES);
	tcase_add_loop_test(t, test_crash_and_restart, 0, MODES);
	tcase_add_test(t, test_restart_of_a_healthy_server_changes_nothing);
	tcase_add_loop_test(t, test_second_daemon_is_refused, 0, MODES);
	tcase_add_loop_test(t, test_server_of_a_killed_daemon_is_taken_over, 0, MODES);
	tcase_add_loop_test(t, test_server_with_other_settings_is_started_anew, 0, MODES);
	tcase_add_test(t, test_stop_leaves_nothing);
	tcase_add_loop_test(t, test_half_made_cluster_is_made_again, 0, MODES);
	tcase_add_loop_test(t, test_kill_in_initdb, 0, MODES);
	tcase_add_loop_test(t, test_stale_pid_of_another_process, 0, MODES);
	tcase_add_test(t, test_foreign_data_is_not_touched);
	tcase_add_test(t, test_cluster_of_another_version);
	tcase_add_loop_test(t, test_long_directory, 0, MODES);
	tcase_add_test(t, test_awkward_directory);
	tcase_add_test(t, test_bad_local_settings);
	tcase_add_test(t, test_unreachable_directory);
	tcase_add_test(t, test_directory_of_others);
	tcase_add_test(t, test_others_cannot_connect);
	tcase_add_loop_test(t, test_the_lock_of_one_that_was_killed, 0, MODES);
	suite_add_tcase(s, t);
	t = tcase_create("names");
	tcase_add_test(t, test_socket_name_limit);
	tcase_add_test(t, test_version_text);
	tcase_add_test(t, test_programs_are_found);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_set_fork_status(r, CK_FORK); /* tests change their user */
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
