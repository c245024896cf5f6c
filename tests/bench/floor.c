/* What the database itself can do, on the connections a daemon would have: the floor that a benchmark's
 * figures are put in relation to. One line of JSON on stdout.
 *
 *   floor commit   latency of a commit: one-row updates by a prepared statement, each its own transaction
 *   floor rows     rows of steps a second: two connections, transactions of one statement that does two
 *                  updates and one insert for each of 100 steps: the least that durable steps with an audit
 *                  row cost
 *   floor server   no load: how much WAL was ever written, and the settings that decide what a commit is
 *
 * All take --conninfo. Tables live in a schema of their own, which is dropped at the end. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libpq-fe.h>

#define SCHEMA "taskerd_bench_floor"
#define CONNECTIONS 2
#define BATCH 100
#define BLOCKS 200 /* batches of rows that each connection goes round in */
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

struct floor {
	const char *mode, *conninfo;
	unsigned long count, millis;
};

// clang-format off
/* Like a step and its attempt in width and in what is indexed, less what only an engine needs. */
static const char prepare_sql[] =
	"SET client_min_messages = warning;"
	"DROP SCHEMA IF EXISTS " SCHEMA " CASCADE;"
	"CREATE SCHEMA " SCHEMA ";"
	"SET search_path = " SCHEMA ";"
	"CREATE TABLE one (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);"
	"INSERT INTO one VALUES (1, 0);"
	"CREATE TABLE steps (id bigint PRIMARY KEY, state int NOT NULL, parents int NOT NULL, ready_at timestamptz,"
	"  claimed_at timestamptz, finished_at timestamptz, result jsonb) WITH (fillfactor = 50);"
	"INSERT INTO steps SELECT i, 0, 1"
	"  FROM generate_series(0, " TEXT(CONNECTIONS) " * " TEXT(BLOCKS) " * " TEXT(BATCH) " - 1) AS i;"
	"CREATE TABLE attempts (id bigint NOT NULL, attempt int NOT NULL, outcome int NOT NULL, worker uuid,"
	"  ready_at timestamptz, claimed_at timestamptz, recorded_at timestamptz, ms real);"
	"ANALYZE steps;";

static const char drop_sql[] = "SET client_min_messages = warning; DROP SCHEMA IF EXISTS " SCHEMA " CASCADE;";

static const char lane_sql[] = "SET search_path = " SCHEMA;

static const char one_sql[] = "UPDATE one SET n = n + 1 WHERE id = 1";

/* $1: the first id of the block that is completed; $2: of the one that becomes ready. */
static const char batch_sql[] =
	"WITH done AS ("
	"  UPDATE steps SET state = 2, result = '{}', finished_at = now()"
	"  WHERE id = ANY (ARRAY(SELECT generate_series($1::bigint, $1 + " TEXT(BATCH) " - 1)))"
	"  RETURNING id, ready_at, claimed_at),"
	"next AS ("
	"  UPDATE steps SET state = 1, parents = 0, ready_at = now(), claimed_at = now(), result = NULL"
	"  WHERE id = ANY (ARRAY(SELECT generate_series($2::bigint, $2 + " TEXT(BATCH) " - 1))))"
	"INSERT INTO attempts"
	"  SELECT id, 1, 0, '00000000-0000-7000-8000-000000000000', ready_at, claimed_at, now(), 1 FROM done";
// clang-format on

static const char server_sql[] =
    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, current_setting('fsync'), "
    "current_setting('synchronous_commit'), current_setting('full_page_writes'), "
    "current_setting('wal_level'), "
    "current_setting('shared_buffers'), current_setting('server_version')";

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static int complain(PGconn *c, const char *what)
{
	fprintf(stderr, "floor: %s: %s", what, PQerrorMessage(c));
	return -EIO;
}

static PGconn *connect_to(const char *conninfo)
{
	PGconn *c = PQconnectdb(conninfo);
	if (PQstatus(c) == CONNECTION_OK)
		return c;
	complain(c, "connect");
	PQfinish(c);
	return NULL;
}

static int run_sql(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);
	bool ok = PQresultStatus(r) == PGRES_COMMAND_OK;
	PQclear(r);
	return ok ? 0 : complain(c, "statement");
}

static int prepare(PGconn *c, const char *name, const char *sql)
{
	PGresult *r = PQprepare(c, name, sql, 0, NULL);
	bool ok = PQresultStatus(r) == PGRES_COMMAND_OK;
	PQclear(r);
	return ok ? 0 : complain(c, name);
}

/* A prepared statement that has to touch `rows` rows. */
static int execute(PGconn *c, const char *name, int n, const char *const *params, const char *rows)
{
	PGresult *r = PQexecPrepared(c, name, n, params, NULL, NULL, 1);
	bool ok = PQresultStatus(r) == PGRES_COMMAND_OK, all = ok && strcmp(PQcmdTuples(r), rows) == 0;
	if (ok && !all)
		fprintf(stderr, "floor: %s touched %s rows instead of %s\n", name, PQcmdTuples(r), rows);
	PQclear(r);
	return !ok ? complain(c, name) : all ? 0 : -EIO;
}

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* ---- commits ---- */

static void print_spread(double *ms, size_t n)
{
	qsort(ms, n, sizeof *ms, by_size);
	printf("{\"commits\":%zu,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}\n", n, ms[n / 2],
	       ms[n * 9 / 10], ms[n * 99 / 100], ms[n - 1]);
}

static int measure_commits(const struct floor *f, PGconn *c)
{
	double *ms = calloc(f->count, sizeof *ms);
	int rc = ms ? prepare(c, "one", one_sql) : -ENOMEM;
	for (int i = 0; rc == 0 && i < 10; i++) /* so that the first one measured is like the others */
		rc = execute(c, "one", 0, NULL, "1");
	for (size_t i = 0; rc == 0 && i < f->count; i++) {
		uint64_t begin = now_us();
		rc = execute(c, "one", 0, NULL, "1");
		ms[i] = (double)(now_us() - begin) / 1000;
	}
	if (rc == 0)
		print_spread(ms, f->count);
	free(ms);
	return rc;
}

/* ---- rows ---- */

struct lane { /* one connection and its part of the rows */
	pthread_t thread;
	PGconn *c;
	unsigned long index, batches;
	uint64_t until_us;
	int rc;
};

static int one_batch(const struct lane *l, unsigned long k)
{
	char first[24], next[24];
	const char *const params[] = {first, next};
	snprintf(first, sizeof first, "%lu", (l->index * BLOCKS + k % BLOCKS) * BATCH);
	snprintf(next, sizeof next, "%lu", (l->index * BLOCKS + (k + 1) % BLOCKS) * BATCH);
	return execute(l->c, "batch", 2, params, TEXT(BATCH));
}

static void *lane_main(void *arg)
{
	struct lane *l = arg;
	while (l->rc == 0 && now_us() < l->until_us)
		l->rc = one_batch(l, l->batches++);
	return NULL;
}

static int open_lane(const struct floor *f, struct lane *l, unsigned long index)
{
	*l = (struct lane){.c = connect_to(f->conninfo), .index = index};
	if (!l->c || run_sql(l->c, lane_sql) < 0 || prepare(l->c, "batch", batch_sql) < 0)
		return -EIO;
	return one_batch(l, 0); /* plans are made at the first */
}

static int run_lanes(const struct floor *f, struct lane *lanes)
{
	uint64_t begin = now_us();
	int started = 0, rc = 0;
	unsigned long batches = 0;
	for (; started < CONNECTIONS; started++) {
		lanes[started].until_us = begin + f->millis * 1000;
		if (pthread_create(&lanes[started].thread, NULL, lane_main, &lanes[started]) != 0) {
			rc = -EAGAIN;
			break;
		}
	}
	for (int i = 0; i < started; i++) {
		pthread_join(lanes[i].thread, NULL);
		rc = lanes[i].rc < 0 ? lanes[i].rc : rc;
		batches += lanes[i].batches;
	}
	double s = (double)(now_us() - begin) / 1e6;
	if (rc == 0)
		printf("{\"steps\":%lu,\"seconds\":%.3f,\"steps_per_s\":%.0f}\n", batches * BATCH, s,
		       (double)(batches * BATCH) / s);
	return rc;
}

static int measure_rows(const struct floor *f, PGconn *c)
{
	struct lane lanes[CONNECTIONS] = {0};
	int rc = 0;
	(void)c;
	for (unsigned long i = 0; rc == 0 && i < CONNECTIONS; i++)
		rc = open_lane(f, &lanes[i], i);
	if (rc == 0)
		rc = run_lanes(f, lanes);
	for (int i = 0; i < CONNECTIONS; i++)
		PQfinish(lanes[i].c);
	return rc;
}

/* ---- the server ---- */

static int print_server(const struct floor *f, PGconn *c)
{
	static const char *const names[] = {"fsync",     "synchronous_commit", "full_page_writes",
	                                    "wal_level", "shared_buffers",     "version"};
	PGresult *r = PQexec(c, server_sql);
	bool ok = PQresultStatus(r) == PGRES_TUPLES_OK;
	(void)f;
	if (ok) {
		printf("{\"wal_bytes\":%s", PQgetvalue(r, 0, 0));
		for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
			printf(",\"%s\":\"%s\"", names[i], PQgetvalue(r, 0, i + 1));
		printf("}\n");
	}
	PQclear(r);
	return ok ? 0 : complain(c, "server");
}

/* ---- command line ---- */

static const struct {
	const char *name;
	int (*fn)(const struct floor *f, PGconn *c);
	bool tables;
} modes[] = {
    {"commit", measure_commits, true}, {"rows", measure_rows, true}, {"server", print_server, false}};

static int usage(const char *why)
{
	fprintf(stderr,
	        "%s\nusage: floor commit|rows|server --conninfo TEXT [--count COMMITS] [--millis MS]\n", why);
	return -EINVAL;
}

static int parse_number(const char *s, unsigned long *ret)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v < 1 || v > 10000000)
		return usage("not a number in range");
	*ret = v;
	return 0;
}

static int parse(int argc, char **argv, struct floor *f)
{
	static const struct option options[] = {{"conninfo", 1, NULL, 'c'},
	                                        {"count", 1, NULL, 'n'},
	                                        {"millis", 1, NULL, 'm'},
	                                        {NULL, 0, NULL, 0}};
	int c, rc = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'c')
			f->conninfo = optarg;
		else if (c == 'n')
			rc = parse_number(optarg, &f->count);
		else
			rc = c == 'm' ? parse_number(optarg, &f->millis) : usage("unknown option");
	}
	if (rc < 0)
		return rc;
	if (optind + 1 != argc || !f->conninfo)
		return usage("say what to measure, and --conninfo");
	f->mode = argv[optind];
	return 0;
}

static int run(const struct floor *f)
{
	size_t i = 0;
	while (i < sizeof modes / sizeof *modes && strcmp(modes[i].name, f->mode) != 0)
		i++;
	if (i == sizeof modes / sizeof *modes)
		return usage("no such measurement");
	PGconn *c = connect_to(f->conninfo);
	int rc = c ? 0 : -EIO;
	if (rc == 0 && modes[i].tables)
		rc = run_sql(c, prepare_sql);
	if (rc == 0)
		rc = modes[i].fn(f, c);
	if (c && modes[i].tables && run_sql(c, drop_sql) < 0 && rc == 0)
		rc = -EIO;
	PQfinish(c);
	return rc;
}

int main(int argc, char **argv)
{
	struct floor f = {.count = 1000, .millis = 2000};
	if (parse(argc, argv, &f) < 0)
		return 2;
	int rc = run(&f);
	return rc == -EINVAL ? 2 : rc < 0 ? 1 : 0;
}
