/* taskerd: options, the embedded database if asked for, the server, an exit code. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include "daemon/config/options.h"
#include "daemon/embed/embed.h"
#include "daemon/http/http.h"
#include "daemon/server/server.h"
#include "daemon/store/migrate.h"

enum exit_code { EXIT_CONFIG = 2 };

static int fail(const struct err *e)
{
	log_event(LOG_FAILED, NULL, "%s", e->text);
	return EXIT_FAILURE;
}

/* A session takes two descriptors (its socket and its process): take as many as the system grants. */
static void raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* --migrate: bring the schema of a server up to date, and nothing else. */
static int migrate(const char *conninfo)
{
	struct err e = {0};
	cleanup_(cleanup_pgconn) PGconn *c = NULL;
	int from = 0, to = 0;
	if (db_connect(conninfo, CONN_PLAIN, 30000, -1, &c, &e) < 0 || schema_migrate(c, &from, &to, &e) < 0)
		return fail(&e);
	if (from == to)
		printf("schema is up to date at version %d\n", to);
	else
		printf("schema brought from version %d to %d\n", from, to);
	return EXIT_SUCCESS;
}

static int run(struct options *opt)
{
	struct err e = {0};
	struct embed *em = NULL;
	cleanup_(cleanup_free) char *conninfo = NULL;
	if (!opt->embedded && opt->migrate)
		return migrate(opt->session_database ? opt->session_database : opt->database);
	if (opt->embedded && embed_start(opt->embedded, &em, &conninfo, &e) < 0)
		return fail(&e);
	int r = server_run(opt, opt->embedded ? conninfo : opt->database, em, &http_front, &e);
	if (em)
		embed_stop(em, 10000);
	return r < 0 ? fail(&e) : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options opt = {0};
	struct buf messages;
	buf_init(&messages, 1u << 20);
	int r = options_load(argc, argv, &opt, &messages);
	if (messages.len > 0 && buf_text(&messages))
		fputs(buf_text(&messages), stderr);
	buf_done(&messages);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_CONFIG;
	log_init(opt.log_level, opt.log_format);
	raise_descriptor_limit();
	int code = run(&opt);
	options_done(&opt);
	return code;
}
