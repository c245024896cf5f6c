/* The keeper thread: what has to be done from time to time and by nobody in particular. Tasks that have passed a limit
 * of their template are dealt with, finished ones are archived or deleted. It has a connection of its own, so that
 * neither the lease nor the hot path waits for it, but only while it looks: a daemon with nothing to do holds no more
 * connections than it needs. Any node does it, one at a time: the functions take an advisory lock, and each call is a
 * small transaction. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include "daemon/base/log.h"

#define LEFT_ALONE_MS 5000 /* a long action that nobody has gone on with for so long is ours */
#define DEADLINES 200 /* looked at in one transaction; their uuids fit into a notification */
#define ROUNDS_MAX 1000 /* of one chore, before the next one has its turn */
#define CALL_TIMEOUT_MS 120000
#define BREATH_MAX_MS 1000

struct keeper {
	struct store *s;
	PGconn *conn;
	char node[16];
	bool complained;
};

/* True: stopping. */
static bool rest(struct keeper *k, int ms)
{
	struct pollfd p = {.fd = k->s->stop_fd, .events = POLLIN};
	return ALIVE_WAITING(poll(&p, 1, ms)) > 0;
}

static int connect_for_a_look(struct keeper *k, struct err *e)
{
	int rc = db_connect(k->s->session_conninfo, CONN_PLAIN, 10000, k->s->stop_fd, &k->conn, e);
	if (rc < 0)
		return rc;
	store_conn_set(k->s, KEEPER_CONN, k->conn);
	pthread_mutex_lock(&k->s->lock);
	snprintf(k->node, sizeof k->node, "%d", k->s->node.node_no);
	pthread_mutex_unlock(&k->s->lock);
	return 0;
}

static void disconnect(struct keeper *k)
{
	store_conn_set(k->s, KEEPER_CONN, NULL);
	k->conn = db_close(k->conn);
}

/* One call of a function of (node, argument) that answers how much it did and whether there is more to do. */
static int call(struct keeper *k, const char *sql, const char *arg, long *ret_did, bool *ret_more, struct err *e)
{
	enum db_failure why = DB_LOST;
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = db_query_within(k->conn, sql, 2, (const char *[]){k->node, arg}, CALL_TIMEOUT_MS, k->s->stop_fd, &r,
	                         &why, e);
	if (rc < 0)
		return rc;
	*ret_did = strtol(PQgetvalue(r, 0, 0), NULL, 10);
	*ret_more = PQgetvalue(r, 0, 1)[0] == 't';
	return 0;
}

/* What the hot path of this daemon has done so far. */
static uint64_t busy(struct store *s)
{
	return atomic_load(&s->n_results) + atomic_load(&s->n_creates);
}

/* How long to pause after a call: as long as it took, because the database has others to serve; a quarter of that if
 * this daemon had nothing for it meanwhile. */
static int breath(usec_t took, bool alone)
{
	usec_t ms = took / USEC_PER_MSEC / (alone ? 4 : 1);
	return ms < BREATH_MAX_MS ? (int)ms : BREATH_MAX_MS;
}

/* Call until there is nothing left to do. */
static int chore(struct keeper *k, const char *sql, const char *arg, const char *what, _Atomic uint64_t *counter,
                 struct err *e)
{
	long total = 0;
	bool more = true;
	int rc = 0;
	for (int i = 0; rc == 0 && more && i < ROUNDS_MAX; i++) {
		usec_t began = now_mono();
		uint64_t before = busy(k->s);
		long did = 0;
		rc = call(k, sql, arg, &did, &more, e);
		total += did;
		if (rc == 0 && more && rest(k, breath(now_mono() - began, busy(k->s) == before)))
			break;
	}
	if (total > 0 && counter)
		atomic_fetch_add(counter, (uint64_t)total);
	if (total > 0)
		log_info("%ld %s", total, what);
	return rc;
}

static void look_round(struct keeper *k)
{
	char limit[16];
	struct err e = {0};
	snprintf(limit, sizeof limit, "%d", DEADLINES);
	int rc = connect_for_a_look(k, &e);
	char left_alone[16];
	snprintf(left_alone, sizeof left_alone, "%d", LEFT_ALONE_MS);
	if (rc == 0)
		rc = chore(k, "SELECT did, more FROM tasker.go_on_for_others($1::int, $2::int)", left_alone,
		           "actions on large tasks finished that others had begun", NULL, &e);
	if (rc == 0)
		rc = chore(k, "SELECT over, looked >= $2::int FROM tasker.sweep_deadlines($1::int, $2::int)", limit,
		           "tasks have passed a limit of their template", &k->s->n_late, &e);
	if (rc == 0)
		rc = chore(k, "SELECT did, more FROM tasker.retain($1::int, $2::jsonb)", k->s->retention,
		           "finished tasks archived or deleted", &k->s->n_removed, &e);
	if (rc < 0 && rc != -ECANCELED && !k->complained)
		log_warn("looking after tasks: %s%s%s; trying again", e.text, e.sqlstate[0] ? " SQLSTATE " : "",
		         e.sqlstate);
	k->complained = rc < 0;
	disconnect(k);
}

void *keeper_main(void *arg)
{
	struct keeper k = {.s = arg};
	alive_attach(&k.s->alive[KEEPER_CONN]);
	alive_call("limits and retention");
	while (!rest(&k, k.s->cfg.sweep_interval_ms))
		if (store_is_up(k.s))
			look_round(&k);
	pthread_mutex_lock(&k.s->lock);
	k.s->keeper_exited = true;
	alive_attach(NULL);
	pthread_mutex_unlock(&k.s->lock);
	return NULL;
}
