/* Options from every source, in every combination that has a rule. Each test runs in a process of its own,
 * with an empty environment but for what it sets. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config/option_file.h"
#include "daemon/config/option_value.h"
#include "daemon/config/options.h"

static struct options o;
static struct buf messages;
static char out[32768]; /* what options_load printed */
static char file[64];

static void set_up(void)
{
	clearenv();
	setenv("HOME", "/home/someone", 1);
	buf_init(&messages, 0);
	file[0] = '\0';
}

static void tear_down(void)
{
	buf_done(&messages);
	if (file[0])
		unlink(file);
}

/* Load with the arguments given, NULL-terminated; a configuration file that is not there by default. */
static int load(const char *const *args)
{
	char *argv[32] = {(char[]){"taskerd"}};
	char config[80];
	int argc = 1;
	snprintf(config, sizeof config, "--config=%s", file);
	if (file[0])
		argv[argc++] = config;
	for (; args && *args; args++)
		ck_assert_ptr_nonnull(argv[argc++] = strdup(*args));
	fflush(stdout);
	int keep = dup(1), mem = memfd_create("out", 0);
	dup2(mem, 1);
	buf_reset(&messages);
	int rc = options_load(argc, argv, &o, &messages);
	fflush(stdout);
	dup2(keep, 1);
	ssize_t n = pread(mem, out, sizeof out - 1, 0);
	out[n > 0 ? n : 0] = '\0';
	close(mem);
	close(keep);
	for (int i = file[0] ? 2 : 1; i < argc; i++)
		free(argv[i]);
	return rc;
}
#define LOAD(...) load((const char *const[]){__VA_ARGS__, NULL})

static void write_file(const char *text)
{
	snprintf(file, sizeof file, "/tmp/taskerd-options-XXXXXX");
	int fd = mkstemp(file);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static const char *said(void)
{
	return messages.len ? buf_text(&messages) : "";
}

static void expect_said(const char *part)
{
	ck_assert_msg(strstr(said(), part) != NULL, "expected \"%s\" in:\n%s", part, said());
}

static void as_nobody(void)
{
	if (geteuid() == 0) {
		ck_assert_int_eq(setgroups(0, NULL), 0);
		ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
		ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
		prctl(PR_SET_DUMPABLE, 1);
	}
}

#define DB "postgresql://me@localhost/tasks"

START_TEST(test_defaults)
{
	ck_assert_msg(LOAD("--database=" DB) == 0, "%s", said());
	ck_assert_str_eq(said(), "");
	ck_assert_str_eq(o.database, DB);
	ck_assert_ptr_null(o.embedded);
	ck_assert_ptr_null(o.config);
	ck_assert_ptr_null(o.environment);
	ck_assert_int_eq(o.socket_mode, 0660);
	ck_assert_int_eq(o.store_threads, 2);
	ck_assert_int_eq(o.drain_timeout_ms, 30000);
	ck_assert_int_eq(o.resume_grace_ms, 10000);
	ck_assert_int_eq(o.lease_ttl_ms, 15000);
	ck_assert_int_eq(o.poll_interval_ms, 10000);
	ck_assert_int_eq(o.heartbeat_ms, 10000);
	ck_assert_int_eq(o.batch_max, 500);
	ck_assert_int_eq(o.max_sessions, 2000);
	ck_assert_uint_eq(o.max_frame, 4 << 20);
	ck_assert_uint_eq(o.max_context, 1 << 20);
	ck_assert_uint_eq(o.max_result, 1 << 20);
	ck_assert_int_eq(o.log_level, LOG_LV_INFO);
	ck_assert(!o.migrate && !o.check_config && !o.verbose);
	char host[65] = "";
	gethostname(host, sizeof host - 1);
	ck_assert_str_eq(o.node_name, host);
	options_done(&o);
}
END_TEST

START_TEST(test_places_of_root)
{
	if (geteuid() != 0)
		return;
	ck_assert_int_eq(LOAD("--embedded"), 0);
	ck_assert_str_eq(o.embedded, "/var/lib/taskerd/embedded");
	ck_assert_str_eq(o.socket, "/var/lib/taskerd/embedded/taskerd.sock");
	options_done(&o);
	ck_assert_int_eq(LOAD("--database=" DB), 0);
	ck_assert_str_eq(o.socket, "/run/taskerd/taskerd.sock");
	options_done(&o);
}
END_TEST

START_TEST(test_places_of_a_user)
{
	as_nobody();
	ck_assert_int_eq(LOAD("--embedded"), 0);
	ck_assert_str_eq(o.embedded, "/home/someone/.local/state/taskerd/embedded");
	options_done(&o);
	setenv("XDG_STATE_HOME", "/state", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	ck_assert_int_eq(LOAD("--embedded"), 0);
	ck_assert_str_eq(o.embedded, "/state/taskerd/embedded");
	ck_assert_str_eq(o.socket, "/state/taskerd/embedded/taskerd.sock");
	options_done(&o);
	ck_assert_int_eq(LOAD("--database=" DB), 0);
	if (access("/run/taskerd", W_OK) < 0)
		ck_assert_str_eq(o.socket, "/run/user/7/taskerd/taskerd.sock");
	options_done(&o);
	unsetenv("XDG_STATE_HOME");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("HOME");
	ck_assert_int_eq(LOAD("--embedded"), -EINVAL);
	expect_said("write --embedded=DIR");
}
END_TEST

START_TEST(test_places_under_systemd)
{
	setenv("STATE_DIRECTORY", "/var/lib/private/taskerd:/other", 1);
	ck_assert_int_eq(LOAD("--embedded"), 0);
	ck_assert_str_eq(o.embedded, "/var/lib/private/taskerd/embedded");
	options_done(&o);
}
END_TEST

START_TEST(test_embedded_directory)
{
	ck_assert_int_eq(LOAD("--embedded=/d/e"), 0);
	ck_assert_str_eq(o.embedded, "/d/e");
	ck_assert_str_eq(o.socket, "/d/e/taskerd.sock");
	options_done(&o);
	ck_assert_int_eq(chdir("/tmp"), 0);
	ck_assert_int_eq(LOAD("--embedded=./here", "--socket=there.sock"), 0);
	ck_assert_str_eq(o.embedded, "/tmp/here");
	ck_assert_str_eq(o.socket, "/tmp/there.sock");
	options_done(&o);
	ck_assert_int_eq(LOAD("--embedded", "/d"), -EINVAL);
	expect_said("write --embedded=DIR in one word");
	ck_assert_int_eq(LOAD("--embedded=ture"), -EINVAL);
	expect_said("--embedded: expected true, false or a directory");
}
END_TEST

START_TEST(test_precedence)
{
	write_file("database: postgresql://file/d\nbatch_max: 1\nstore_threads: 1\nmax_sessions: 1\n");
	setenv("TASKERD_STORE_THREADS", "3", 1);
	setenv("TASKERD_MAX_SESSIONS", "3", 1);
	setenv("TASKERD_NODE_NAME", "", 1); /* set but empty: not set */
	ck_assert_msg(LOAD("--max-sessions", "4") == 0, "%s", said());
	ck_assert_str_eq(o.config, file);
	ck_assert_int_eq(o.drain_timeout_ms, 30000);
	ck_assert_int_eq(o.batch_max, 1);
	ck_assert_int_eq(o.store_threads, 3);
	ck_assert_int_eq(o.max_sessions, 4);
	ck_assert_uint_gt(strlen(o.node_name), 0);
	options_done(&o);
	ck_assert_int_eq(LOAD("--max-sessions=4", "--max_sessions=5"),
	                 0); /* the last one, and underscores do too */
	ck_assert_int_eq(o.max_sessions, 5);
	options_done(&o);
}
END_TEST

START_TEST(test_which_database)
{
	static const struct {
		const char *url, *env_db, *env_em, *text, *arg;
		const char *database, *embedded, *error;
	} rows[] = {
	    {NULL, NULL, NULL, NULL, NULL, NULL, NULL, "no database: give --embedded"},
	    {DB, NULL, NULL, NULL, NULL, DB, NULL, NULL},
	    {DB, NULL, NULL, "embedded: /e", NULL, NULL, "/e", NULL},
	    {DB, "host=/x", NULL, NULL, NULL, "host=/x", NULL, NULL},
	    {DB, NULL, NULL, NULL, "--embedded=/e", NULL, "/e", NULL},
	    {NULL, "host=/x", NULL, NULL, "--embedded=/e", NULL, "/e", NULL},
	    {NULL, "host=/x", NULL, "embedded: /e", NULL, "host=/x", NULL, NULL},
	    {NULL, NULL, "/e", NULL, "--database=host=/x", "host=/x", NULL, NULL},
	    {NULL, NULL, NULL, "embedded: /e\ndatabase: host=/x", NULL, NULL, NULL,
	     "both given (in the file)"},
	    {NULL, "host=/x", "/e", NULL, NULL, NULL, NULL, "both given (in the environment)"},
	    {NULL, NULL, "/e", NULL, "--embedded=false", NULL, NULL, "no database"},
	    {DB, NULL, "/e", NULL, "--embedded=no", DB, NULL, NULL},
	};
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *const vars[][2] = {{"DATABASE_URL", rows[i].url},
		                               {"TASKERD_DATABASE", rows[i].env_db},
		                               {"TASKERD_EMBEDDED", rows[i].env_em}};
		for (size_t k = 0; k < 3; k++)
			if (vars[k][1])
				setenv(vars[k][0], vars[k][1], 1);
			else
				unsetenv(vars[k][0]);
		tear_down();
		file[0] = '\0';
		if (rows[i].text)
			write_file(rows[i].text);
		int rc = LOAD(rows[i].arg);
		ck_assert_msg(rc == (rows[i].error ? -EINVAL : 0), "row %zu: %d %s", i, rc, said());
		if (rows[i].error) {
			expect_said(rows[i].error);
			continue;
		}
		ck_assert_pstr_eq(o.database, rows[i].database);
		ck_assert_pstr_eq(o.embedded, rows[i].embedded);
		options_done(&o);
	}
}
END_TEST

START_TEST(test_values)
{
	static const struct {
		const char *arg;
		int ok;
	} rows[] = {
	    {"--store-threads=1", 1},
	    {"--store-threads=8", 1},
	    {"--store-threads=0", 0},
	    {"--store-threads=9", 0},
	    {"--store-threads=", 0},
	    {"--store-threads=-1", 0},
	    {"--store-threads=+1", 0},
	    {"--store-threads= 1", 0},
	    {"--store-threads=1x", 0},
	    {"--store-threads=99999999999999999999", 0},
	    {"--drain-timeout-ms=0", 1},
	    {"--drain-timeout-ms=3600000", 1},
	    {"--drain-timeout-ms=3600001", 0},
	    {"--socket-mode=777", 1},
	    {"--socket-mode=0o600", 1},
	    {"--socket-mode=0778", 0},
	    {"--socket-mode=1000", 0},
	    {"--socket-mode=rw", 0},
	    {"--max-frame=65536", 1},
	    {"--max-frame=64KiB", 0}, /* smaller than twice max_context */
	    {"--max-frame=64 MiB", 1},
	    {"--max-frame=64m", 1},
	    {"--max-frame=67108865", 0},
	    {"--max-frame=1 GiB", 0},
	    {"--max-frame=4 MB", 0},
	    {"--max-frame=9223372036854775807 GiB", 0},
	    {"--max-context=1k", 1},
	    {"--max-context=1023", 0},
	    {"--max-context=2097152", 1},
	    {"--max-context=2097153", 0},
	    {"--max-result=3MiB", 0},
	    {"--node-name=a.b-c_9", 1},
	    {"--node-name=a b", 0},
	    {"--node-name=", 0},
	    {"--node-name=a123456789b123456789c123456789d123456789e123456789f123456789g123", 1},
	    {"--node-name=a123456789b123456789c123456789d123456789e123456789f123456789g1234", 0},
	    {"--log-level=debug", 1},
	    {"--log-level=WARN", 1},
	    {"--log-level=loud", 0},
	    {"--verbose", 1},
	    {"--verbose=off", 1},
	    {"--verbose=maybe", 0},
	    {"--socket=/a\nb", 0},
	    {"--socket=", 0},
	    {"--batch-max=10001", 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		bool frame_alone = strcmp(rows[i].arg, "--max-frame=65536") == 0;
		int rc = LOAD("--database=" DB, "--socket=/s", rows[i].arg,
		              frame_alone ? "--max-context=1k" : "--verbose=no",
		              frame_alone ? "--max-result=1k" : "--migrate=no");
		bool bad_switch = strncmp(rows[i].arg, "--verbose=", 10) == 0;
		ck_assert_msg(rc == (rows[i].ok ? 0 : -EINVAL), "%s: %d %s", rows[i].arg, rc, said());
		if (rows[i].ok)
			options_done(&o);
		else if (!bad_switch && !strstr(said(), "half of max_frame"))
			ck_assert_msg(strncmp(said(), rows[i].arg, strcspn(rows[i].arg, "=")) == 0, "%s",
			              said());
	}
}
END_TEST

START_TEST(test_socket_length)
{
	char arg[200] = "--socket=/";
	memset(arg + 10, 's', 106);
	ck_assert_int_eq(LOAD("--database=" DB, arg), 0);
	options_done(&o);
	arg[116] = 's';
	ck_assert_int_eq(LOAD("--database=" DB, arg), -EINVAL);
	expect_said("at most 107 bytes");
	memcpy(arg, "--embedded=/", 12);
	ck_assert_int_eq(LOAD(arg), -EINVAL);
	expect_said("write --socket=PATH");
}
END_TEST

/* Everything wrong at once, and every error is told with its place. */
START_TEST(test_all_errors_at_once)
{
	write_file("database: postgresql://file/d\nbatch_max: 0\nsokcet: /x\nlist: {a: 1}\nmax_sessions: "
	           "[1]\nmigrate: true\n"
	           "batch_max: 3\n");
	setenv("TASKERD_LEASE_TTL_MS", "soon", 1);
	ck_assert_int_eq(
	    LOAD("--hartbeat-ms=3", "--batchmax", "7", "stray", "postgresql://me:secret@h/d", "--socket"),
	    -EINVAL);
	static const char *const parts[] = {
	    ":2:12: error: batch_max: expected a whole number from 1 to 10000, found the number 0",
	    ":3:1: error: sokcet: no such option; did you mean socket?",
	    ":4:1: error: list: no such option\n",
	    ":5:15: error: max_sessions: expected a single value, found a list",
	    ":6:1: error: migrate: belongs on the command line, not in the file",
	    ":7:1: error: ",
	    "TASKERD_LEASE_TTL_MS in the environment: expected a whole number from 1000 to 3600000",
	    "--hartbeat-ms: no such option; did you mean --heartbeat-ms?",
	    "--batchmax: no such option; did you mean --batch-max?",
	    "\"stray\": taskerd takes options only",
	    "write --database=URI",
	    "--socket: needs a value (PATH)",
	};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		expect_said(parts[i]);
	ck_assert_ptr_null(strstr(said(), "secret"));
	ck_assert_ptr_null(strstr(said(), "\"7\""));
}
END_TEST

START_TEST(test_file_forms)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
	    {"", 0},
	    {"# nothing\n", 0},
	    {"null\n", 0},
	    {"{}", 0},
	    {"{\"batch_max\": 7}", 0},
	    {"batch-max: 7", 0},
	    {"batch_max: \"7\"", 0},
	    {"batch_max:", 0},
	    {"x-anything: [1, {a: b}]", 0},
	    {"socket_mode: 0600", 0},
	    {"socket_mode: \"0600\"", 0},
	    {"embedded: false", 0},
	    {"- batch_max", -EINVAL},
	    {"just text", -EINVAL},
	    {"batch_max: 7\nbatch_max: 7", -EINVAL},
	    {"batch_max: &a 7", -EINVAL},
	    {"batch_max: [", -EINVAL},
	    {"a: {b: {c: {d: {e: {f: 1}}}}}", -EINVAL},
	    {"\xff", -EINVAL},
	    {"batch_max: 7\n---\nbatch_max: 8", -EINVAL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		tear_down();
		write_file(rows[i].text);
		int rc = LOAD("--database=" DB, "--socket=/s");
		ck_assert_msg(rc == rows[i].rc, "%s: %d %s", rows[i].text, rc, said());
		if (rc == 0) {
			ck_assert_msg(messages.len == 0, "%s: %s", rows[i].text, said());
			options_done(&o);
		}
	}
}
END_TEST

START_TEST(test_file_that_cannot_be_read)
{
	ck_assert_int_eq(LOAD("--database=" DB, "--config=/nowhere/t.yaml"), -EINVAL);
	expect_said("/nowhere/t.yaml: No such file or directory");
	ck_assert_int_eq(LOAD("--database=" DB, "--config=/tmp"), -EINVAL);
	expect_said("/tmp: Is a directory");
	setenv("TASKERD_CONFIG", "/nowhere/u.yaml", 1);
	ck_assert_int_eq(LOAD("--database=" DB), -EINVAL);
	expect_said("/nowhere/u.yaml: No such file");
	write_file("");
	ck_assert_int_eq(truncate(file, OPTION_FILE_MAX + 1), 0);
	ck_assert_int_eq(LOAD("--database=" DB), -EINVAL);
}
END_TEST

START_TEST(test_readable_password_is_warned_about)
{
	write_file("database: postgresql://me:pw@h/d\nsocket: /s\n");
	ck_assert_int_eq(LOAD(NULL), 0);
	ck_assert_str_eq(said(), "");
	options_done(&o);
	ck_assert_int_eq(chmod(file, 0644), 0);
	ck_assert_int_eq(LOAD(NULL), 0);
	expect_said("can be read by everyone: chmod o-r");
	options_done(&o);
}
END_TEST

START_TEST(test_redact)
{
	static const char *const rows[][2] = {
	    {"postgresql://me@h/d", "postgresql://me@h/d"},
	    {"postgresql://h:5432/d", "postgresql://h:5432/d"},
	    {"postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg"},
	    {"postgresql://me:pw@h:5432/d", "postgresql://me:***@h:5432/d"},
	    {"postgres://me:p:w@h", "postgres://me:***@h"},
	    {"postgresql://me:p@w@h/d", "postgresql://me:***@h/d"},
	    {"postgresql://me:p/w@h/d", "postgresql://me:***@h/d"},
	    {"postgresql://me:p?w@h/d", "postgresql://me:***@h/d"},
	    {"postgresql://:pw@h/d", "postgresql://:***@h/d"},
	    {"postgresql://h/d?user=me&password=pw&x=1", "postgresql://h/d?user=me&password=***&x=1"},
	    {"postgresql://h/d?sslpassword=pw", "postgresql://h/d?sslpassword=***"},
	    {"postgresql://me:a@h/d?password=b", "postgresql://me:***@h/d?password=***"},
	    {"host=h password=pw dbname=d", "host=h password=*** dbname=d"},
	    {"host=h PASSWORD = 'p w\\' x' dbname=d", "host=h PASSWORD = *** dbname=d"},
	    {"password=p\\ w user=u", "password=*** user=u"},
	    {"host=h password='never ends", "host=h password=***"},
	    {"password=", "password=***"},
	    {"user=password dbname=d", "user=password dbname=d"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf b;
		buf_init(&b, 0);
		options_redact(rows[i][0], &b);
		ck_assert_str_eq(buf_text(&b), rows[i][1]);
		buf_done(&b);
	}
}
END_TEST

START_TEST(test_migrate)
{
	ck_assert_int_eq(LOAD("--database=" DB, "--socket=/s", "--migrate"), 0);
	ck_assert(o.migrate);
	options_done(&o);
	ck_assert_int_eq(LOAD("--embedded=/e", "--migrate"), -EINVAL);
	expect_said("--migrate: with --embedded that happens at every start");
}
END_TEST

START_TEST(test_help_and_version)
{
	ck_assert_int_eq(LOAD("--nonsense", "--help"), 1);
	ck_assert_str_eq(said(), "--nonsense: no such option; see taskerd --help\n");
	for (size_t i = 0; i < option_count; i++) {
		char name[64];
		snprintf(name, sizeof name, "  --%s", option_table[i].name);
		for (char *c = name; *c; c++)
			*c = *c == '_' ? '-' : *c;
		ck_assert_msg(strstr(out, name) != NULL, "%s", name);
	}
	for (const char *line = out; *line; line += strcspn(line, "\n") + 1) {
		size_t n = strcspn(line, "\n");
		ck_assert_msg(n <= 101 && (n == 0 || line[n - 1] != ' '), "%.*s", (int)n, line);
	}
	ck_assert_int_eq(LOAD("-V"), 1);
	ck_assert_msg(strncmp(out, "taskerd ", 8) == 0 && out[8] >= '0' && out[8] <= '9', "%s", out);
}
END_TEST

START_TEST(test_check_config)
{
	ck_assert_int_eq(LOAD("--check-config", "--database=postgresql://me:secret@h/d"), 1);
	ck_assert_str_eq(out, "configuration ok\n");
	setenv("TASKERD_BATCH_MAX", "7", 1);
	ck_assert_int_eq(
	    LOAD("--check-config", "--verbose", "--database=postgresql://me:secret@h/d", "--socket=/s"), 1);
	ck_assert_ptr_nonnull(strstr(out, "\nbatch_max: 7 # environment TASKERD_BATCH_MAX\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nsocket: /s # command line --socket\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nsocket_mode: 0660 # default\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nmax_frame: 4 MiB # default\n"));
	ck_assert_ptr_nonnull(strstr(out, "\ndatabase: postgresql://me:***@h/d # command line --database\n"));
	ck_assert_ptr_null(strstr(out, "secret"));
	ck_assert_int_eq(LOAD("--check-config", "--batch-max=0", "--embedded"), -EINVAL);
	ck_assert_str_eq(out, "");
}
END_TEST

/* What --check-config --verbose prints is a configuration file that gives the same values. */
START_TEST(test_printed_values_are_a_file)
{
	ck_assert_int_eq(LOAD("--check-config", "--verbose", "--embedded=/e", "--max-frame=5000001",
	                      "--socket-mode=640", "--log-level=debug", "--environment=test"),
	                 1);
	write_file(strchr(out, '\n') + 1);
	ck_assert_msg(LOAD(NULL) == 0, "%s", said());
	ck_assert_str_eq(o.embedded, "/e");
	ck_assert_ptr_null(o.database);
	ck_assert_uint_eq(o.max_frame, 5000001);
	ck_assert_int_eq(o.socket_mode, 0640);
	ck_assert_int_eq(o.log_level, LOG_LV_DEBUG);
	ck_assert_str_eq(o.environment, "test");
	options_done(&o);
}
END_TEST

START_TEST(test_reload)
{
	struct options fresh;
	struct buf waits;
	buf_init(&waits, 0);
	ck_assert_int_eq(LOAD("--database=" DB, "--socket=/s"), 0);
	fresh = o;
	ck_assert_int_eq(
	    LOAD("--database=" DB, "--socket=/t", "--log-level=debug", "--max-sessions=9", "--store-threads=3"),
	    0);
	ck_assert_int_eq(options_reload(&fresh, &o, &waits), 2);
	ck_assert_int_eq(fresh.log_level, LOG_LV_DEBUG);
	ck_assert_int_eq(fresh.max_sessions, 9);
	ck_assert_int_eq(fresh.store_threads, 2);
	ck_assert_str_eq(fresh.socket, "/s");
	ck_assert_str_eq(buf_text(&waits), "socket: the new value waits for a restart\n"
	                                   "log_level: debug\n"
	                                   "store_threads: the new value waits for a restart\n"
	                                   "max_sessions: 9\n");
	buf_reset(&waits);
	ck_assert_int_eq(options_reload(&o, &o, &waits), 0);
	ck_assert_uint_eq(waits.len, 0);
	buf_done(&waits);
	options_done(&fresh);
	options_done(&o);
}
END_TEST

START_TEST(test_table)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		ck_assert_ptr_eq(option_find(row->name, strlen(row->name)), row); /* no name twice */
		ck_assert_msg(row->help[strlen(row->help) - 1] != '.', "%s", row->name);
		ck_assert_msg(row->type == OPT_BOOL ? !row->arg : row->arg != NULL, "%s", row->name);
		if (!row->fallback)
			continue;
		struct buf printed;
		buf_init(&printed, 0);
		memset(&o, 0, sizeof o);
		ck_assert_int_eq(option_set(&o, row, row->fallback, &printed), 0);
		options_format(&o, row, &printed); /* a default is written as it would be printed */
		ck_assert_str_eq(buf_text(&printed), row->fallback);
		buf_done(&printed);
		options_done(&o);
	}
	ck_assert_ptr_null(option_find("", 0));
	ck_assert_ptr_null(option_like("", 0));
	ck_assert_ptr_null(option_like("utterly_different_name_that_is_longer_than_any_bound", 52));
}
END_TEST

/* The headers of a collector: a secret in what is printed, in what is said of mistakes, and on the command line. */
START_TEST(test_collector)
{
	static const char *const good[] = {"--embedded=./x",
	                                   "--check-config",
	                                   "--verbose",
	                                   "--trace-url=https://h:4318/v1/traces",
	                                   "--trace-headers=x-key=hunter2,b=hunter3",
	                                   NULL};
	static const char *const bad[] = {"--embedded=./x",
	                                  "--check-config",
	                                  "--trace-url=http://me:hunter2@h",
	                                  "--trace-headers=x-key=hunter2,hunter3",
	                                  "--trace-sample-percent=101",
	                                  NULL};
	ck_assert_int_eq(load(good), 1);
	ck_assert_msg(strstr(out, "x-key=***,b=***") && strstr(out, "https://h:4318/v1/traces") &&
	                      !strstr(out, "hunter"),
	              "%s", out);
	expect_said("--trace-headers: warning: holds a password, and everyone on this host can list the command line");
	ck_assert_int_eq(load(bad), -EINVAL);
	expect_said("--trace-url: expected a URL like http://localhost:4318");
	expect_said("--trace-headers: expected name=value,name=value");
	expect_said("--trace-sample-percent: expected a whole number from 0 to 100");
	ck_assert_ptr_null(strstr(said(), "hunter"));
}
END_TEST

START_TEST(test_too_many_arguments)
{
	char name[] = "taskerd", word[] = "--verbose=no", *argv[300] = {name};
	for (int i = 1; i < 300; i++)
		argv[i] = word;
	ck_assert_int_eq(options_load(300, argv, &o, &messages), -EINVAL);
	ck_assert_str_eq(said(), "--verbose: more than 256 options\n"
	                         "no database: give --embedded for a private PostgreSQL, or --database=URI "
	                         "for one that you run\n");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
	    test_defaults,
	    test_places_of_root,
	    test_places_of_a_user,
	    test_places_under_systemd,
	    test_embedded_directory,
	    test_precedence,
	    test_which_database,
	    test_values,
	    test_socket_length,
	    test_all_errors_at_once,
	    test_file_forms,
	    test_file_that_cannot_be_read,
	    test_readable_password_is_warned_about,
	    test_redact,
	    test_help_and_version,
	    test_check_config,
	    test_printed_values_are_a_file,
	    test_migrate,
	    test_reload,
	    test_table,
	    test_collector,
	    test_too_many_arguments,
	};
	Suite *s = suite_create("config");
	TCase *t = tcase_create("options");
	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, set_up, tear_down);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_set_fork_status(r, CK_FORK); /* tests change the environment and the user */
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
