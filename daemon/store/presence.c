/* The presence thread: one connection that holds the node's advisory lock (so that no other daemon can use its name),
 * proves life by a lease row, listens for hints from other nodes, and takes back what dead nodes held. NOTIFY is a hint
 * only: after every (re)connection the loop is told to look at everything. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/base/need.h"
#include "daemon/store/migrate.h"
#include "daemon/store/notice.h"
#include "protocol/utf8.h"

/* First key of the node locks: "node" in ASCII; the second is a hash of the name. */
#define NODE_LOCK_CLASS "1852793957"
/* A killed predecessor's backend may hold the lock until it notices. */
#define NODE_LOCK_PATIENCE_US (20 * USEC_PER_SEC)
#define GHOST_PATIENCE_US USEC_PER_SEC /* for a ghost to end when it is told to */
#define RECLAIM_STEPS "1000"
#define RECLAIM_ROUNDS 100 /* between two heartbeats */

/* What others tell this node, and what the loop is told of it; DONE_BATCH: read in another way. */
static const struct {
	const char *name;
	enum done_kind kind;
} channels[] = {{"tasker_ready", DONE_NOTIFY_READY}, {"tasker_settled", DONE_NOTIFY_SETTLED},
                {"tasker_templates", DONE_BATCH},    {"tasker_cancel", DONE_NOTIFY_CANCEL},
                {"tasker_nodes", DONE_BATCH},        {"tasker_drain", DONE_NOTIFY_DRAIN},
                {"tasker_events", DONE_BATCH},       {"tasker_tokens", DONE_NOTIFY_TOKENS}};

struct presence {
	struct store *s;
	PGconn *conn;
	bool schema_ok;
	bool locked; /* this connection has the name's lock */
	char pgmq[32]; /* whose queues these are */
	struct notice notice; /* an event that comes in pieces */
};

static int query(struct presence *p, const char *sql, int n, const char *const *v, PGresult **ret, enum db_failure *why,
                 struct err *e)
{
	return db_query_within(p->conn, sql, n, v, p->s->cfg.lease_ttl_ms, p->s->stop_fd, ret, why, e);
}

static int prepare_schema(struct presence *p, enum db_failure *why, struct err *e)
{
	if (p->schema_ok)
		return 0;
	*why = DB_REFUSED;
	if (p->s->cfg.migrate) {
		int from, to;
		int r = schema_migrate(p->conn, &from, &to, e);
		if (r < 0) {
			if (PQstatus(p->conn) == CONNECTION_BAD)
				*why = DB_LOST;
			return r;
		}
		if (to != from)
			log_event(LOG_SCHEMA_MIGRATED, NULL, "schema brought from version %d to %d", from, to);
	}
	int r = schema_check(p->conn, why, e);
	cleanup_(cleanup_pgresult) PGresult *q = NULL;
	if (r == 0)
		r = query(
			p,
			"SELECT coalesce((SELECT 'extension ' || extversion FROM pg_extension WHERE extname = 'pgmq'),"
			" CASE WHEN to_regproc('pgmq.taskerd_implementation') IS NULL THEN 'sql' ELSE 'taskerd' END)",
			0, NULL, &q, why, e);
	if (r == 0)
		snprintf(p->pgmq, sizeof p->pgmq, "%s", PQgetvalue(q, 0, 0));
	p->schema_ok = r == 0;
	return r;
}

/* The name's lock is held by a connection that has lost its daemon without the server noticing: ours of before (this
 * incarnation is the registered one), or that of a predecessor whose lease has run out. A living daemon renews its
 * lease. */
static bool lock_is_a_ghosts(struct presence *p)
{
	char inc[16];
	enum db_failure why;
	struct err e;
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	snprintf(inc, sizeof inc, "%d", p->s->registered ? p->s->node.incarnation : 0);
	if (query(p,
	          "SELECT 1 FROM tasker.nodes WHERE node_name = $1 AND (incarnation = $2::int OR lease_until < now())",
	          2, (const char *[]){p->s->node_name, inc}, &r, &why, &e) < 0)
		return false;
	return PQntuples(r) > 0;
}

static int try_lock(struct presence *p, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = query(p, "SELECT pg_try_advisory_lock(" NODE_LOCK_CLASS ", hashtext($1))", 1,
	               (const char *[]){p->s->node_name}, &r, why, e);
	p->locked = rc == 0 && PQgetvalue(r, 0, 0)[0] == 't';
	return rc;
}

static int lock_name(struct presence *p, enum db_failure *why, struct err *e)
{
	bool ours = false;
	for (usec_t begun = now_mono(), now = begun;; now = now_mono()) {
		int rc = try_lock(p, why, e);
		if (rc < 0 || p->locked)
			return rc;
		/* A server's process that stands still does not let go of it. Who has registered is told by its
		 * incarnation, and goes on; the lock is tried again with each proof of life. */
		if (ours && p->s->registered && now > begun + GHOST_PATIENCE_US)
			return 0;
		if ((ours = lock_is_a_ghosts(p)))
			(void)!query(
				p,
				"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = " NODE_LOCK_CLASS
				"::oid"
				" AND objid = (hashtext($1)::bigint & 4294967295)::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
				1, (const char *[]){p->s->node_name}, NULL, why, e);
		*why = p->s->registered ? DB_LOST : DB_REFUSED;
		if (now > begun + NODE_LOCK_PATIENCE_US)
			return err_set(
				e, -EBUSY, "conflict",
				"another taskerd uses the node name \"%s\" on this database; give each its own --node-name (or a process of PostgreSQL that stands still holds its lock: see pg_locks, locktype advisory)",
				p->s->node_name);
		struct pollfd f = {.fd = p->s->stop_fd, .events = POLLIN};
		if (ALIVE_WAITING(poll(&f, 1, 50)) > 0)
			return err_set(e, -ECANCELED, "shutting_down", "stopping");
	}
}

/* "\x6162..." as PostgreSQL writes bytea. */
static void read_secret(const char *hex, unsigned char out[SECRET_LEN])
{
	static const char digits[] = "0123456789abcdef";
	memset(out, 0, SECRET_LEN);
	if (strlen(hex) < 2 + 2 * SECRET_LEN)
		return;
	for (size_t i = 0; i < 2 * SECRET_LEN; i++) {
		const char *d = strchr(digits, hex[2 + i]);
		out[i / 2] = (unsigned char)(out[i / 2] << 4 | (d ? (d - digits) & 15 : 0));
	}
}

static int first_registration(struct presence *p, enum db_failure *why, struct err *e)
{
	char host[128] = "", pid[16], ttl[16];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	gethostname(host, sizeof host - 1);
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	snprintf(ttl, sizeof ttl, "%d", p->s->cfg.lease_ttl_ms);
	int rc = query(p, "SELECT * FROM tasker.node_register($1, $2, $3::int, $4, $5::int)", 5,
	               (const char *[]){p->s->node_name, host, pid, p->s->version, ttl}, &r, why, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&p->s->lock);
	struct hot_node *n = &p->s->node;
	n->node_no = (int)strtol(PQgetvalue(r, 0, 0), NULL, 10);
	n->incarnation = (int)strtol(PQgetvalue(r, 0, 1), NULL, 10);
	snprintf(n->name, sizeof n->name, "%s", p->s->node_name);
	read_secret(PQgetvalue(r, 0, 2), n->secret);
	/* Journal numbers never repeat: the incarnation in the high bits, a counter below. */
	atomic_store(&p->s->next_seq, (uint64_t)n->incarnation << 40);
	p->s->registered = true;
	pthread_cond_broadcast(&p->s->work);
	pthread_mutex_unlock(&p->s->lock);
	return 0;
}

static int announce_up(struct presence *p);

static int heartbeat(struct presence *p, enum db_failure *why, struct err *e)
{
	char node[16], inc[16], ttl[16], info[sizeof p->s->load.handlers + 160];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	pthread_mutex_lock(&p->s->lock);
	bool draining = p->s->draining;
	struct store_load l = p->s->load;
	pthread_mutex_unlock(&p->s->lock);
	snprintf(node, sizeof node, "%d", p->s->node.node_no);
	snprintf(inc, sizeof inc, "%d", p->s->node.incarnation);
	snprintf(ttl, sizeof ttl, "%d", p->s->cfg.lease_ttl_ms);
	snprintf(info, sizeof info,
	         "{\"store_threads\":%d,\"sessions\":%u,\"workers\":%u,\"open_steps\":%u,\"handlers\":%s}",
	         p->s->cfg.threads, l.sessions, l.workers, l.open_steps, l.handlers[0] ? l.handlers : "{}");
	int rc = query(p, "SELECT * FROM tasker.node_heartbeat($1::int, $2::int, $3::int, $4, $5::jsonb, $6::jsonb)", 6,
	               (const char *[]){node, inc, ttl, draining ? "draining" : "up", info,
	                                atomic_load(&p->s->notify) && l.by_worker[0] ? l.by_worker : NULL},
	               &r, why, e);
	if (rc < 0)
		return rc;
	if (PQgetvalue(r, 0, 0)[0] != 't') {
		*why = DB_FENCED;
		return err_set(e, -ESTALE, "conflict", "another taskerd has taken over the node name \"%s\"",
		               p->s->node_name);
	}
	atomic_store(&p->s->notify, strtol(PQgetvalue(r, 0, 1), NULL, 10) > 0);
	if (PQgetvalue(r, 0, 2)[0] == 't') {
		log_event(LOG_LEASE_LOST, NULL, "the node's lease had run out; others have taken its steps");
		atomic_fetch_add(&p->s->n_leases_lost, 1);
		announce_up(p);
	}
	return 0;
}

/* Whether anybody else can run what nobody here can. */
static int ask_others(struct presence *p, enum db_failure *why, struct err *e)
{
	char ids[MISSING_TOLD_MAX * 12 + 3] = "{";
	size_t at = 1;
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	pthread_mutex_lock(&p->s->lock);
	size_t n = p->s->load.n_missing;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%d", i ? "," : "", p->s->load.missing[i]);
	pthread_mutex_unlock(&p->s->lock);
	if (n == 0)
		return 0;
	snprintf(ids + at, sizeof ids - at, "}");
	int rc = query(p, "SELECT tasker.lacking_handlers($1::int[])", 1, (const char *[]){ids}, &r, why, e);
	struct done *d = rc < 0 ? NULL : done_new(DONE_LACKING);
	for (int i = 0; d && i < PQntuples(r); i++)
		done_add_id(d, (int)strtol(PQgetvalue(r, i, 0), NULL, 10));
	if (d)
		store_post(p->s, d);
	return rc;
}

/* What the server's process of a call that hangs waits for: the one of all that hold its lock whose transaction is the
 * oldest, or what else the server says. */
static int explain(struct presence *p, int slot, int backend, enum db_failure *why, struct err *e)
{
	static const char sql[] =
		"SELECT CASE WHEN k.pid IS NOT NULL THEN format('process %s (%s, user %s, %s) holds what it waits for, in a transaction of %s s', k.pid,"
		"   coalesce(nullif(k.application_name, ''), 'no name'), coalesce(k.usename, '?'), coalesce(k.state, '?'), coalesce(round(extract(epoch FROM clock_timestamp() - k.xact_start))::text, '?'))"
		" WHEN a.wait_event IS NOT NULL THEN format('it waits for %s %s', a.wait_event_type, a.wait_event) ELSE 'it is at work' END"
		" FROM pg_catalog.pg_stat_activity a LEFT JOIN LATERAL (SELECT b.* FROM unnest(pg_catalog.pg_blocking_pids(a.pid)) AS u(pid) JOIN pg_catalog.pg_stat_activity b USING (pid)"
		"   ORDER BY b.xact_start LIMIT 1) k ON true WHERE a.pid = $1::int";
	char pid[16];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	snprintf(pid, sizeof pid, "%d", backend);
	int rc = query(p, sql, 1, (const char *[]){pid}, &r, why, e);
	if (rc < 0 || PQntuples(r) == 0)
		return rc;
	pthread_mutex_lock(&p->s->lock);
	if (p->s->backends[slot] == backend)
		utf8_copy(p->s->blocked[slot], sizeof p->s->blocked[slot], PQgetvalue(r, 0, 0),
		          (size_t)PQgetlength(r, 0, 0));
	pthread_mutex_unlock(&p->s->lock);
	return 0;
}

static int explain_hangs(struct presence *p, enum db_failure *why, struct err *e)
{
	int backends[STORE_HANGS_MAX], rc = 0;
	pthread_mutex_lock(&p->s->lock);
	bool any = p->s->hanging > 0;
	memcpy(backends, p->s->backends, sizeof backends);
	pthread_mutex_unlock(&p->s->lock);
	for (int i = 0; any && rc == 0 && i < PRESENCE_CONN && p->s->workers[i]; i++)
		if (backends[i])
			rc = explain(p, i, backends[i], why, e);
	return rc;
}

/* Take back what one dead node held (a thousand steps a call), and tell the loop which queues got messages. */
static int reclaim_one(struct presence *p, bool *ret_more, enum db_failure *why, struct err *e)
{
	char node[16];
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	snprintf(node, sizeof node, "%d", p->s->node.node_no);
	int rc = query(
		p,
		"SELECT kind, idx, status, handler_id, attempt, context FROM tasker.reclaim($1::int, true, " RECLAIM_STEPS
		")",
		1, (const char *[]){node}, &r, why, e);
	if (rc < 0 || PQntuples(r) == 0)
		return rc;
	struct done *d = done_new(DONE_NOTIFY_READY);
	for (int i = 0; i < PQntuples(r); i++)
		if (PQgetvalue(r, i, 0)[0] == 'a') {
			log_event(LOG_NODE_LOST, NULL, "node %s has lost its lease: %s steps given to others",
			          PQgetvalue(r, i, 2), PQgetvalue(r, i, 4));
			atomic_fetch_add(&p->s->n_reclaims, 1);
			atomic_fetch_add(&p->s->n_reclaimed_steps, strtoull(PQgetvalue(r, i, 4), NULL, 10));
			*ret_more = true;
		} else if (d && PQgetvalue(r, i, 0)[0] == 'q')
			done_add_id(d, (int)strtol(PQgetvalue(r, i, 3), NULL, 10));
		else if (d && PQgetvalue(r, i, 0)[0] == 'e')
			done_add_event(d, PQgetvalue(r, i, 2), (unsigned)strtoul(PQgetvalue(r, i, 1), NULL, 10),
			               PQgetisnull(r, i, 5) ? NULL : PQgetvalue(r, i, 5), (size_t)PQgetlength(r, i, 5));
	if (d)
		store_post(p->s, d);
	return 0;
}

static int reclaim(struct presence *p, enum db_failure *why, struct err *e)
{
	bool more = true;
	int rc = 0;
	for (int i = 0; rc == 0 && more && i < RECLAIM_ROUNDS; i++) {
		more = false;
		rc = reclaim_one(p, &more, why, e);
	}
	return rc;
}

/* The handlers that any template names. */
static int load_handlers(struct presence *p, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = query(
		p,
		"SELECT h.handler_id, n.name, h.callable, n.paused FROM tasker.handlers h JOIN tasker.namespaces n USING (namespace_id) ORDER BY 1",
		0, NULL, &r, why, e);
	if (rc < 0)
		return rc;
	struct done *d = done_new(DONE_NOTIFY_TEMPLATES);
	size_t n = (size_t)PQntuples(r);
	if (d)
		d->handlers = calloc(n ? n : 1, sizeof *d->handlers);
	if (!d || !d->handlers) {
		done_free(d);
		*why = DB_FULL;
		return err_set(e, -ENOMEM, "internal", "out of memory");
	}
	for (size_t i = 0; i < n; i++) {
		struct handler_row *h = &d->handlers[d->n_handlers];
		h->id = (int)strtol(PQgetvalue(r, (int)i, 0), NULL, 10);
		snprintf(h->ns, sizeof h->ns, "%s", PQgetvalue(r, (int)i, 1));
		h->callable = need(strdup(PQgetvalue(r, (int)i, 2)));
		h->paused = PQgetvalue(r, (int)i, 3)[0] == 't';
		d->n_handlers++;
	}
	store_post(p->s, d);
	return 0;
}

static int announce_up(struct presence *p)
{
	struct done *d = done_new(DONE_UP);
	if (!d)
		return -ENOMEM;
	d->server_version = PQserverVersion(p->conn);
	d->schema_version = schema_newest();
	snprintf(d->pgmq, sizeof d->pgmq, "%s", p->pgmq);
	atomic_store(&p->s->up, true);
	store_post(p->s, d);
	return 0;
}

/* The names end in a secret of the database: see tasker.notify. */
static int listen_all(struct presence *p, enum db_failure *why, struct err *e)
{
	cleanup_(cleanup_pgresult) PGresult *r = NULL;
	int rc = query(p, "SELECT secret FROM tasker.channels", 0, NULL, &r, why, e);
	for (size_t i = 0; rc == 0 && i < sizeof channels / sizeof *channels; i++) {
		char sql[128];
		snprintf(sql, sizeof sql, "LISTEN \"%s_%s\"", channels[i].name,
		         PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
		rc = query(p, sql, 0, NULL, NULL, why, e);
	}
	return rc;
}

static int connect_once(struct presence *p, enum db_failure *why, struct err *e)
{
	*why = DB_LOST;
	int rc = db_connect(p->s->session_conninfo, CONN_PLAIN, 10000, p->s->stop_fd, &p->conn, e);
	if (rc == 0)
		store_conn_set(p->s, PRESENCE_CONN, p->conn);
	if (rc == 0)
		rc = prepare_schema(p, why, e);
	if (rc == 0)
		rc = lock_name(p, why, e);
	if (rc == 0)
		rc = listen_all(p, why, e);
	notice_reset(&p->notice);
	if (rc == 0)
		rc = p->s->registered ? heartbeat(p, why, e) : first_registration(p, why, e);
	if (rc == 0)
		rc = heartbeat(p, why, e);
	if (rc == 0)
		rc = load_handlers(p, why, e);
	return rc == 0 ? announce_up(p) : rc;
}

static void add_settled(struct done *d, const char *text, size_t n)
{
	struct settled *t = calloc(1, sizeof *t);
	if (t && uuid_parse(text, n, &t->task) == 0) {
		t->next = d->settled;
		d->settled = t;
	} else {
		free(t);
	}
}

static bool is_on(const PGnotify *n, const char *channel)
{
	size_t len = strlen(channel);
	return strncmp(n->relname, channel, len) == 0 && n->relname[len] == '_';
}

/* Payloads are comma-separated; a truncated or empty one means "look at everything". */
static struct done *read_notification(const PGnotify *n)
{
	struct done *d = NULL;
	for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
		if (channels[i].kind != DONE_BATCH && is_on(n, channels[i].name))
			d = done_new(channels[i].kind);
	if (!d || strlen(n->extra) >= 7900)
		return d;
	for (const char *p = n->extra; *p;) {
		size_t len = strcspn(p, ",");
		if (d->kind == DONE_NOTIFY_READY)
			done_add_id(d, (int)strtol(p, NULL, 10));
		else
			add_settled(d, p, len);
		p += len + (p[len] == ',');
	}
	return d;
}

/* Post what has arrived; *ret_templates tells that handlers must be loaded anew. */
static void drain_notifications(struct presence *p, bool *ret_templates)
{
	PGnotify *n;
	while ((n = PQnotifies(p->conn))) {
		if (is_on(n, "tasker_templates"))
			*ret_templates = true;
		if (is_on(n, "tasker_nodes"))
			atomic_store(&p->s->notify, true); /* until the next heartbeat counts them */
		struct done *d = is_on(n, "tasker_events") ? notice_read(&p->notice, p->s->node.node_no, n->extra)
		                                           : read_notification(n);
		if (d)
			store_post(p->s, d);
		PQfreemem(n);
	}
}

static void look_at_everything(struct presence *p)
{
	struct done *ready = done_new(DONE_NOTIFY_READY), *settled = done_new(DONE_NOTIFY_SETTLED);
	if (ready)
		store_post(p->s, ready);
	if (settled)
		store_post(p->s, settled);
}

/* Live with one connection until it fails (negative, *why) or the store stops (0). */
static int live(struct presence *p, enum db_failure *why, struct err *e)
{
	usec_t interval = (usec_t)p->s->cfg.lease_ttl_ms * USEC_PER_MSEC / 3;
	usec_t next = now_mono();
	int looks = 3; /* others may have written before they knew that someone listens here */
	for (;;) {
		usec_t now = now_mono();
		int rc = 0;
		bool templates = false;
		if (now >= next) {
			rc = heartbeat(p, why, e);
			if (rc == 0 && !p->locked)
				rc = try_lock(p, why, e);
			if (rc == 0)
				rc = reclaim(p, why, e);
			if (rc == 0)
				rc = ask_others(p, why, e);
			if (rc == 0)
				rc = explain_hangs(p, why, e);
			if (looks-- > 0)
				look_at_everything(p);
			next = now + interval;
		}
		if (rc < 0)
			return rc;
		struct pollfd f[2] = {{.fd = PQsocket(p->conn), .events = POLLIN},
		                      {.fd = p->s->stop_fd, .events = POLLIN}};
		drain_notifications(p, &templates);
		if (!templates && ALIVE_WAITING(poll(f, 2, (int)((next - now) / USEC_PER_MSEC) + 1)) < 0 &&
		    errno != EINTR)
			return err_set(e, -errno, "internal", "poll: %s", strerror(errno));
		if (f[1].revents)
			return 0;
		*why = DB_LOST;
		if (!PQconsumeInput(p->conn))
			return err_set(e, -EIO, "database_unavailable", "%s", PQerrorMessage(p->conn));
		drain_notifications(p, &templates);
		if (templates && (rc = load_handlers(p, why, e)) < 0)
			return rc;
	}
}

static bool keeps_lease(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	bool keeps = s->keep_lease;
	pthread_mutex_unlock(&s->lock);
	return keeps;
}

static void leave(struct presence *p)
{
	char node[16], inc[16];
	enum db_failure why;
	struct err e;
	if (!p->conn || !p->s->registered || keeps_lease(p->s))
		return;
	snprintf(node, sizeof node, "%d", p->s->node.node_no);
	snprintf(inc, sizeof inc, "%d", p->s->node.incarnation);
	if (query(p, "SELECT tasker.node_leave($1::int, $2::int)", 2, (const char *[]){node, inc}, NULL, &why, &e) < 0)
		log_warn("leaving the cluster: %s; the lease runs out by itself", e.text);
}

static void announce_down(struct presence *p, const struct err *e)
{
	struct done *d = done_new(DONE_DOWN);
	atomic_store(&p->s->up, false);
	if (!d)
		return;
	d->err = *e;
	store_post(p->s, d);
}

void *presence_main(void *arg)
{
	struct presence p = {.s = arg};
	alive_attach(&p.s->alive[PRESENCE_CONN]);
	alive_call("proof of life");
	for (unsigned tries = 0;; tries++) {
		struct err e = {0};
		enum db_failure why = DB_LOST;
		int rc = connect_once(&p, &why, &e);
		if (rc == 0) {
			tries = 0;
			rc = live(&p, &why, &e);
			if (rc == 0)
				break; /* stopping */
		}
		if (rc == -ECANCELED)
			break;
		announce_down(&p, &e);
		if (why == DB_FENCED || (why == DB_REFUSED && !p.s->registered)) {
			struct done *d = done_new(DONE_FATAL);
			if (d) {
				d->err = e;
				store_post(p.s, d);
			}
			break;
		}
		store_conn_set(p.s, PRESENCE_CONN, NULL);
		p.conn = db_close(p.conn);
		if (store_backoff(p.s, tries < LOST_TRIES ? tries : LOST_TRIES))
			break;
	}
	leave(&p);
	notice_reset(&p.notice);
	store_conn_set(p.s, PRESENCE_CONN, NULL);
	p.conn = db_close(p.conn);
	pthread_mutex_lock(&p.s->lock);
	p.s->presence_exited = true;
	alive_attach(NULL);
	pthread_mutex_unlock(&p.s->lock);
	return NULL;
}
