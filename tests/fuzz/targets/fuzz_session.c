/* What a local process sends to the daemon, from its first byte to what it does with steps it was given, through the
 * real session layer. In place of the store stands one that answers from the input: successes, errors, steps to run.
 *
 * The input is a list of chunks, each a kind, a length and bytes: a frame's payload, raw bytes, what the store does
 * next, a result for a step that is open, a new connection.
 *
 * Promises: whatever is said, what the daemon sends is whole frames of well-formed envelopes, no request is answered
 * twice, no worker has more steps than it asked for, and when all connections are gone nothing of them is left. */
#include <assert.h>
#include <event2/event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/base/mailbox.h"
#include "daemon/config/access.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/consume.h"
#include "daemon/server/front.h"
#include "daemon/server/journal.h"
#include "daemon/server/metrics.h"
#include "daemon/server/pool.h"
#include "daemon/server/quota.h"
#include "daemon/server/recording.h"
#include "daemon/server/session.h"
#include "daemon/server/starts.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/server/tasks.h"
#include "daemon/server/templates.h"
#include "daemon/server/waits.h"
#include "daemon/server/watch.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "daemon/template/findings.h"
#include "daemon/template/yaml_tree.h"
#include "protocol/buf.h"
#include "protocol/frame.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/msg.h"
#include "protocol/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHUNKS_MAX 64u
#define HANDLERS 4

/* The store -------------------------------------------------------------------------------------------------------- */

struct store {
	int fd;
	bool busy;
	struct mail *first, **end;
	size_t bytes, depth;
	uint8_t fates[16]; /* what becomes of the next requests */
	unsigned n_fates, at;
	int next_task;
};

static struct store the_store;

/* Server code is linked with these instead of those of the store's threads. */
int store_start(const struct store_config *cfg, struct store **ret, struct err *e)
{
	(void)cfg, (void)ret, (void)e;
	abort();
}
struct store *store_stop(struct store *s, int timeout_ms)
{
	(void)s, (void)timeout_ms;
	return NULL;
}
void store_forget(struct store *s, int slot)
{
	(void)s, (void)slot;
}
usec_t store_oldest_call(struct store *s, const char **ret_call)
{
	(void)s, (void)ret_call;
	return 0;
}

size_t store_hanging(struct store *s, usec_t limit, struct store_hang ret[STORE_HANGS_MAX])
{
	(void)s, (void)limit, (void)ret;
	return 0;
}

bool store_lane_hangs(const struct store *s, usec_t limit)
{
	(void)s, (void)limit;
	return false;
}

void store_lane_give_up(struct store *s)
{
	(void)s;
}

bool store_stalled(const struct store *s, usec_t limit)
{
	(void)s, (void)limit;
	return false;
}

void store_set_load(struct store *s, const struct store_load *l)
{
	(void)s, (void)l;
}

size_t store_unanswered(struct store *s)
{
	(void)s;
	return 0;
}

void store_keep_lease(struct store *s)
{
	(void)s;
}

void store_set_draining(struct store *s)
{
	(void)s;
}
void store_get_stats(struct store *s, struct store_stats *ret)
{
	(void)s;
	*ret = (struct store_stats){0};
}
void store_get_state(struct store *s, struct store_state *ret)
{
	(void)s;
	*ret = (struct store_state){.threads = 1};
}
void store_get_span_stats(const struct store *s, struct span_stats *ret)
{
	(void)s;
	*ret = (struct span_stats){0};
}
const unsigned char *store_secret(struct store *s)
{
	static const unsigned char secret[SECRET_LEN];
	(void)s;
	return secret;
}
size_t store_bytes(struct store *s)
{
	return s->bytes;
}
size_t store_depth(struct store *s)
{
	return s->depth;
}
void store_released(struct store *s, const struct req *r)
{
	s->bytes -= r->bytes;
}
bool store_lane_busy(const struct store *s)
{
	return s->busy;
}

void store_submit(struct store *s, struct req *r)
{
	r->bytes = req_bytes(r);
	s->bytes += r->bytes;
	s->depth++;
	r->mail.next = NULL;
	*s->end = &r->mail;
	s->end = &r->mail.next;
}

int store_kick(struct store *s)
{
	if (!s->first || s->busy)
		return -1;
	s->busy = true;
	assert(eventfd_write(s->fd, 1) == 0);
	return s->fd;
}

static unsigned fate(struct store *s)
{
	return s->n_fates ? s->fates[s->at++ % s->n_fates] : 0;
}

static void give_steps(struct store *s, struct done *d, struct req *r)
{
	for (unsigned i = 0; r->offer.pool && i < r->offer.credits && i < 3; i++) {
		struct claim *c = calloc(1, sizeof *c);
		uint8_t random[16] = {0}, proof[PROOF_LEN];
		struct prover *p = prover_new();
		char uuid[UUID_TEXT];
		assert(c && p);
		random[4] = (uint8_t)s->next_task++;
		c->task = uuid_for_task(1, random);
		c->task_id = s->next_task;
		c->attempt = c->fence = 1;
		c->handler_id = r->offer.pool->n > 0 ? r->offer.pool->ids[0] : 1;
		c->slot = 1;
		c->timeout_ms = 600000;
		assert(proof_make(p, store_secret(s), &c->task, 0, 1, proof) == 0);
		prover_free(p);
		struct uuid step = uuid_for_step(&c->task, 0);
		uuid_format(&step, uuid);
		buf_init(&c->body, 0);
		mp_str(&c->body, "step_uuid");
		mp_str(&c->body, uuid);
		mp_str(&c->body, "attempt");
		mp_int(&c->body, 1);
		mp_str(&c->body, "claim");
		mp_bin(&c->body, proof, sizeof proof);
		c->fields = 3;
		c->next = d->claims;
		d->claims = c;
	}
}

/* As the functions of the database answer; of several for one function the input chooses. */
#define TASK "01890a5d-ac96-774b-bcce-b30200000000"
static const struct {
	const char *function, *answer;
} answers[] = {
	{"tasker.api_namespaces_of", "{\"namespaces\":[\"a\"]}"},
	{"tasker.api_namespaces_of", "{\"namespaces\":[null]}"},
	{"tasker.api_namespaces_of", "{\"namespaces\":[\"b\",\"a\"]}"},
	{"tasker.api_task_get",
         "{\"task_uuid\":\"" TASK
         "\",\"namespace\":\"a\",\"steps\":[{\"handler\":\"h\",\"state\":\"enqueued\"},{\"handler\":\"none\",\"state\":\"enqueued\"}]}"},
	{"tasker.api_task_get", "{\"task_uuid\":\"" TASK "\",\"namespace\":\"a\"}"},
	{"tasker.api_task_action", "{\"task_uuid\":\"" TASK "\",\"namespace\":\"a\",\"steps\":[]}"},
	{"tasker.api_task_events", "{\"events\":[]}"},
	{"tasker.api_task_events",
         "{\"events\":[{\"kind\":\"step\",\"key\":\"s1\",\"state\":\"complete\",\"at\":\"2030-01-01T00:00:00Z\"},{\"kind\":\"task\",\"key\":\"t1\",\"state\":\"steps_in_process\"}]}"},
	{"tasker.api_task_events", "{\"events\":[{\"kind\":\"task\",\"key\":\"t2\",\"state\":\"complete\"}]}"},
	{"tasker.api_event_consume", "{\"messages\":[{\"msg_id\":1,\"read_count\":1,\"event\":{}}]}"},
	{"tasker.api_event_consume", "{\"messages\":[],\"next_ms\":5}"},
	{"tasker.api_event_publish", "{\"event_id\":\"x\",\"namespace\":\"a\",\"msg_id\":5}"},
	{"tasker.api_event_publish",
         "{\"event_id\":\"x\",\"namespace\":\"a\",\"event\":{\"event_name\":\"e\",\"metadata\":{\"namespace\":\"a\"}}}"},
	{"tasker.api_worker_list", "{\"workers\":[{\"worker_uuid\":\"" TASK "\",\"max_concurrency\":5}]}"},
	{"tasker.api_queue_list", "{\"queues\":[{\"handler_id\":1},{\"handler_id\":77}]}"},
	{"tasker.api_attempt_status", "{\"status\":\"duplicate\"}"},
	{"tasker.api_attempt_status", "{\"status\":\"stale\"}"},
	{"tasker.api_step_checkpoint", "{\"status\":\"recorded\"}"},
	{"tasker.register_template", "{\"namespace\":\"a\",\"name\":\"x\",\"version\":\"1.0.0\",\"created\":true}"},
};

static const char *api_answer(const char *function, unsigned f)
{
	unsigned n = 0;
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		n += strcmp(answers[i].function, function) == 0;
	for (size_t i = 0, k = 0; n > 0 && i < sizeof answers / sizeof *answers; i++)
		if (strcmp(answers[i].function, function) == 0 && k++ == f % n)
			return answers[i].answer;
	return "{}";
}

static void answer(struct store *s, struct done *d, struct req *r)
{
	static const char *const states[] = {"", "complete", "steps_in_process", "blocked_by_failures", "nonsense"};
	static const char *const results[] = {"recorded", "duplicate", "stale", "retrying", "failed"};
	unsigned f = fate(s);
	r->failed = f % 7 == 6;
	if (r->failed)
		err_set(&r->err, 0, f & 128 ? "database_unavailable" : "conflict", "the input wants it so");
	if (r->kind == REQ_API) {
		const char *text = api_answer(r->api.function, f);
		assert(json_to_mp(text, strlen(text), &r->answer, NULL) == 0);
	} else if (r->kind == REQ_STATES) {
		for (size_t i = 0; i < r->states.n; i++)
			snprintf(r->states.states[i], sizeof r->states.states[i], "%s", states[(f + i) % 5]);
	} else if (r->kind == REQ_CREATE) {
		r->task = r->create.task;
		snprintf(r->status, sizeof r->status, "%s",
		         f & 1   ? "created"
		         : f & 2 ? "exists"
		                 : "template_not_found");
		snprintf(r->state, sizeof r->state, "steps_in_process");
		r->handed_over = f & 4;
	} else if (r->kind == REQ_CANCEL) {
		snprintf(r->status, sizeof r->status, "%s", f & 1 ? "cancelled" : f & 2 ? "not_found" : "conflict");
	} else if (r->kind == REQ_RESULT) {
		snprintf(r->status, sizeof r->status, "%s", results[f % 5]);
	}
	if (f & 8)
		give_steps(s, d, r);
}

struct done *store_lane_read(struct store *s)
{
	eventfd_t n;
	struct done *d = done_new(DONE_BATCH);
	assert(d && eventfd_read(s->fd, &n) == 0);
	s->busy = false;
	d->reqs = s->first;
	for (struct mail *m = s->first; m; m = m->next)
		answer(s, d, req_of(m));
	s->first = NULL;
	s->end = &s->first;
	s->depth = 0;
	return d;
}

/* The server ------------------------------------------------------------------------------------------------------- */

static struct server srv;
static struct options opt = {.max_frame = 65536,
                             .max_context = 8192,
                             .max_result = 8192,
                             .heartbeat_ms = 600000,
                             .batch_max = 10,
                             .max_sessions = 100,
                             .node_name = (char[]){"n"},
                             .log_level = LOG_LV_ERROR,
                             .max_branches = 10};
static struct access_rules *rules;

static void add_handlers(void)
{
	static const char *const ns[HANDLERS] = {"a", "a", "b", "default"}, *const callable[HANDLERS] = {"h", "k", "h",
	                                                                                                 "h"};
	struct done *d = done_new(DONE_NOTIFY_TEMPLATES);
	assert(d);
	d->handlers = calloc(HANDLERS, sizeof *d->handlers);
	d->n_handlers = HANDLERS;
	for (int i = 0; i < HANDLERS; i++) {
		d->handlers[i].id = i + 1;
		snprintf(d->handlers[i].ns, sizeof d->handlers[i].ns, "%s", ns[i]);
		d->handlers[i].callable = strdup(callable[i]);
	}
	handlers_loaded(&srv, d);
	done_free(d);
}

static void set_up(void)
{
	static const char text[] =
		"- {uid: 1, roles: [read, work], namespaces: [a]}\n- {uid: 2, roles: [operate, submit], namespaces: [b]}\n- {uid: 3, roles: admin}\n";
	struct findings f = {0};
	struct yaml_tree *tree = NULL;
	assert(yaml_tree_parse(text, sizeof text - 1, NULL, &tree, &f) == 0 &&
	       access_rules_read(yaml_tree_root(tree), &rules, &f) == 0 && f.errors == 0);
	yaml_tree_free(tree);
	findings_done(&f);
	log_init(LOG_LV_ERROR, LOG_FORMAT_TEXT);
	the_store.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert(the_store.fd >= 0);
}

static void server_begin(void)
{
	the_store = (struct store){.fd = the_store.fd, .end = &the_store.first};
	srv = (struct server){.opt = &opt,
	                      .store = &the_store,
	                      .listen_fd = -1,
	                      .embedded_fd = -1,
	                      .peer_log = {.window_us = USEC_PER_SEC},
	                      .ever_up = true,
	                      .db_up = true,
	                      .adopted = true};
	TAILQ_INIT(&srv.dirty);
	TAILQ_INIT(&srv.to_ask);
	TAILQ_INIT(&srv.recent_order);
	TAILQ_INIT(&srv.consumers);
	TAILQ_INIT(&srv.metrics.waiting);
	srv.base = event_base_new();
	srv.prover = prover_new();
	assert(srv.base && srv.prover && metrics_init(&srv) == 0);
	add_handlers();
}

static void turn(void)
{
	server_flush(&srv);
	for (int i = 0; i < 8; i++)
		event_base_loop(srv.base, EVLOOP_NONBLOCK);
}

static void server_end(void)
{
	struct session *s, *tmp;
	turn();
	HASH_ITER(hh, srv.sessions, s, tmp)
		if (s->state == SESSION_OPEN || s->state == SESSION_DETACHED)
			steps_lost(s, OUTCOME_RELEASED, "over");
	session_free_all(&srv);
	srv.stop = true;
	turn();
	assert(srv.n_sessions == 0 && HASH_COUNT(srv.steps) == 0);
	while (the_store.first) {
		struct req *r = req_of(the_store.first);
		the_store.first = r->mail.next;
		if (r->kind == REQ_CREATE || r->kind == REQ_API)
			r->failed = true;
		err_set(&r->err, 0, "database_unavailable", "over");
		if (r->kind == REQ_CREATE)
			create_answered(&srv, r);
		else if (r->kind == REQ_API)
			api_answered(&srv, r);
		req_free(r);
	}
	templates_stop(&srv); /* its thread would outlive what the end of the process takes away */
	metrics_done(&srv);
	consumers_free(&srv);
	watches_free(&srv);
	waits_free(&srv);
	recordings_free(&srv);
	steps_free(&srv);
	journals_free(&srv);
	pools_free(&srv);
	starts_free(&srv);
	peers_free(&srv);
	prover_free(srv.prover);
	event_base_free(srv.base);
}

/* The peer --------------------------------------------------------------------------------------------------------- */

struct peer {
	int fd;
	uint64_t session;
	struct buf in;
};

static void peer_open(struct peer *p, unsigned uid)
{
	int pair[2];
	memset(p, 0, sizeof *p);
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	p->fd = pair[1];
	buf_init(&p->in, 0);
	struct session *s = session_new(&srv, pair[0]);
	assert(s);
	p->session = s->id;
	s->who.uid = uid % 5;
	s->who.access = access_of(uid % 5 ? rules : NULL, s->who.uid, NULL, 0);
}

static void check_envelope(const unsigned char *data, size_t len)
{
	const struct scan_limits limits = {ITEMS_MAX, DEPTH_MAX};
	struct scan_error why;
	struct mp_value v;
	assert(scan_value(data, len, &limits, &why) == 0);
	assert(mp_decode(data, len, &v) == 0);
	const msgpack_object *a = v.root.via.array.ptr;
	assert(v.root.type == MSGPACK_OBJECT_ARRAY && v.root.via.array.size >= 3 &&
	       a[0].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
	if (a[0].via.u64 == ENV_RESPONSE)
		assert(v.root.via.array.size == 4 &&
		       (a[2].type == MSGPACK_OBJECT_NIL || a[2].type == MSGPACK_OBJECT_MAP));
	else
		assert(a[0].via.u64 == ENV_NOTIFICATION &&
		       msg_find(a[1].via.str.ptr, a[1].via.str.size, MSG_TO_CLIENT) >= 0 &&
		       a[2].type == MSGPACK_OBJECT_MAP);
	mp_value_done(&v);
}

static void peer_read(struct peer *p)
{
	size_t done = 0, off, len;
	for (ssize_t n = 1; n > 0;) {
		void *at = buf_reserve(&p->in, 65536);
		n = at ? recv(p->fd, at, 65536, MSG_DONTWAIT) : 0;
		buf_added(&p->in, n > 0 ? (size_t)n : 0);
	}
	while (frame_peek(p->in.data + done, p->in.len - done, opt.max_frame, &off, &len) == 1) {
		check_envelope(p->in.data + done + off, len);
		done += off + len;
	}
	buf_consume(&p->in, done);
}

static void peer_close(struct peer *p)
{
	close(p->fd);
	turn();
	buf_done(&p->in);
}

static void peer_send(struct peer *p, const void *data, size_t len)
{
	(void)!send(p->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_frame(struct peer *p, const uint8_t *data, size_t len)
{
	const uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
	peer_send(p, head, sizeof head);
	peer_send(p, data, len);
}

/* A result for the first step that is open, with what the input says as its result or error. */
static void send_result(struct peer *p, const uint8_t *data, size_t len)
{
	struct session *s = session_find(&srv, p->session);
	const struct open_step *o = s ? TAILQ_FIRST(&s->work.steps) : NULL;
	const struct scan_limits limits = {4096, 20};
	struct scan_error why;
	uint8_t proof[PROOF_LEN];
	char uuid[UUID_TEXT];
	struct buf b;
	if (!o || len < 2 || scan_value(data + 1, len - 1, &limits, &why) < 0)
		return;
	assert(proof_make(srv.prover, store_secret(&the_store), &o->claim->task, 0, 1, proof) == 0);
	uuid_format(&o->key.uuid, uuid);
	buf_init(&b, 0);
	mp_array(&b, 3);
	mp_uint(&b, ENV_NOTIFICATION);
	mp_str(&b, "step.result");
	mp_map(&b, 1);
	mp_str(&b, "results");
	mp_array(&b, 1);
	mp_map(&b, 6);
	mp_str(&b, "step_uuid");
	mp_str(&b, uuid);
	mp_str(&b, "attempt");
	mp_int(&b, 1);
	mp_str(&b, "claim");
	mp_bin(&b, proof, sizeof proof);
	mp_str(&b, "success");
	mp_bool(&b, data[0] & 1);
	mp_str(&b, data[0] & 1 ? "result" : "error");
	mp_raw(&b, data + 1, len - 1);
	mp_str(&b, data[0] & 2 ? "events" : "metadata");
	mp_raw(&b, data + 1, len - 1);
	send_frame(p, b.data, b.len);
	buf_done(&b);
}

static void set_fates(const uint8_t *data, size_t len)
{
	the_store.n_fates = (unsigned)(len < sizeof the_store.fates ? len : sizeof the_store.fates);
	memcpy(the_store.fates, data, the_store.n_fates);
	the_store.at = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct peer p;
	if (!ready)
		set_up();
	ready = true;
	if (size > 65536)
		return 0;
	server_begin();
	peer_open(&p, size ? data[0] : 0);
	size_t at = 1;
	for (unsigned n = 0; n < CHUNKS_MAX && at + 3 <= size; n++) {
		unsigned kind = data[at] % 5u;
		size_t len = (size_t)data[at + 1] << 8 | data[at + 2];
		at += 3;
		len = len < size - at ? len : size - at;
		if (kind == 0)
			send_frame(&p, data + at, len);
		else if (kind == 1)
			peer_send(&p, data + at, len);
		else if (kind == 2)
			set_fates(data + at, len);
		else if (kind == 3)
			send_result(&p, data + at, len);
		turn();
		peer_read(&p);
		if (kind == 4) {
			peer_close(&p);
			peer_open(&p, len ? data[at] : 0);
		}
		at += len;
	}
	peer_close(&p);
	server_end();
	return 0;
}
