/* Requests: the public calls that send one, and those that wait for its answer. */
#include "clients/c/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "protocol/msg.h"

#define LIBRARY_NAME "taskerd-c/" TASKERD_VERSION

static int check_sendable(const tasker *t, struct tasker_error *err)
{
	int rc = conn_usable_(t, err);
	if (rc == 0 && conn_backlog_(t) > OUT_BACKLOG_MAX)
		rc = tasker_fail_(err, -ENOBUFS, "congested", "too much is waiting to be sent");
	return rc;
}

/* Exactly one of `raw` and `json` is meant: raw if not NULL. */
static int put_params(tasker *t, const void *raw, size_t len, const char *json, struct tasker_error *err)
{
	if (!raw)
		return json_params_(json, &t->out, err);
	mp_raw(&t->out, raw, len);
	return 0;
}

static uint32_t fresh_id(tasker *t)
{
	return ++t->next_id;
}

static int send_request(tasker *t, const char *method, const void *raw, size_t len, const char *json,
                        tasker_reply_fn *fn, void *arg, struct tasker_error *err)
{
	int rc = check_sendable(t, err);
	if (rc < 0)
		return rc;
	struct request *r = malloc(sizeof *r);
	if (!r)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	uint32_t id = fresh_id(t);
	size_t mark = conn_begin_request_(t, id, method);
	rc = put_params(t, raw, len, json, err);
	if (rc < 0) {
		t->out.len = mark;
		t->out.failed = 0;
	} else {
		rc = conn_end_(t, mark, err);
	}
	if (rc < 0) {
		free(r);
		return rc;
	}
	conn_register_(t, r, id, fn, arg);
	return 0;
}

static int send_notification(tasker *t, const char *method, const void *raw, size_t len, const char *json,
                             struct tasker_error *err)
{
	int rc = check_sendable(t, err);
	if (rc < 0)
		return rc;
	size_t mark = conn_begin_notification_(t, method);
	rc = put_params(t, raw, len, json, err);
	if (rc < 0) {
		t->out.len = mark;
		t->out.failed = 0;
		return rc;
	}
	return conn_end_(t, mark, err);
}

int tasker_send(tasker *t, const char *method, const void *params, size_t len, tasker_reply_fn *fn, void *arg,
                struct tasker_error *err)
{
	return send_request(t, method, params, len, NULL, fn, arg, err);
}

int tasker_send_json(tasker *t, const char *method, const char *params, tasker_reply_fn *fn, void *arg,
                     struct tasker_error *err)
{
	return send_request(t, method, NULL, 0, params, fn, arg, err);
}

int tasker_notify(tasker *t, const char *method, const void *params, size_t len, struct tasker_error *err)
{
	return send_notification(t, method, params, len, NULL, err);
}

int tasker_notify_json(tasker *t, const char *method, const char *params, struct tasker_error *err)
{
	return send_notification(t, method, NULL, 0, params, err);
}

/* ---- waiting ---- */

/* Of its own memory, because the answer may come after the caller has gone. */
struct pending_call {
	bool answered, abandoned;
	tasker_reply_fn *fn;
	void *arg;
	struct tasker_error err;
};

static void on_call_reply(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct pending_call *c = arg;
	if (c->abandoned) {
		free(c);
		return;
	}
	c->answered = true;
	if (err)
		c->err = *err;
	else if (c->fn)
		c->fn(c->arg, result, NULL);
}

static int wait_for_reply(tasker *t, struct pending_call *c, int timeout_ms, struct tasker_error *err)
{
	uint64_t deadline = tasker_now_us_() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000;
	while (!c->answered) {
		uint64_t now = tasker_now_us_();
		if (timeout_ms >= 0 && now >= deadline)
			return tasker_fail_(err, -ETIMEDOUT, "timeout", "taskerd did not answer within %d ms",
			                    timeout_ms);
		int rc = tasker_process(t, timeout_ms < 0 ? -1 : (int64_t)(deadline - now), err);
		if (rc < 0 && !c->answered)
			return rc;
	}
	if (c->err.rc < 0 && err)
		*err = c->err;
	return c->err.rc;
}

static int call_any(tasker *t, const char *method, const void *raw, size_t len, const char *json,
                    int timeout_ms, tasker_reply_fn *fn, void *arg, struct tasker_error *err)
{
	if (t->in_callback)
		return tasker_fail_(err, -EINVAL, "bad_call", "a callback may not wait for an answer");
	struct pending_call *c = calloc(1, sizeof *c);
	if (!c)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	c->fn = fn;
	c->arg = arg;
	int rc = send_request(t, method, raw, len, json, on_call_reply, c, err);
	if (rc == 0)
		rc = wait_for_reply(t, c, timeout_ms, err);
	else
		c->answered = true;
	if (c->answered)
		free(c);
	else
		c->abandoned = true;
	return rc;
}

int call_raw_(tasker *t, const char *method, const void *params, size_t len, int timeout_ms,
              tasker_reply_fn *fn, void *arg, struct tasker_error *err)
{
	return call_any(t, method, params, len, NULL, timeout_ms, fn, arg, err);
}

static void keep_json(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	char **ret = arg;
	(void)err;
	*ret = tasker_json(result);
}

int tasker_call_json(tasker *t, const char *method, const char *params, int timeout_ms, char **ret_json,
                     struct tasker_error *err)
{
	char *json = NULL;
	int rc = call_any(t, method, NULL, 0, params, timeout_ms, keep_json, &json, err);
	if (rc < 0)
		return rc;
	if (!json)
		return tasker_fail_(err, -ENOMEM, "out_of_memory",
		                    "the answer has no form as JSON text, or memory ran out");
	*ret_json = json;
	return 0;
}

struct tasker_answer {
	struct msg_frame *frame;
	const tasker_value *value;
};

struct keeper {
	tasker *t;
	tasker_answer *answer;
};

static void keep_answer(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct keeper *k = arg;
	(void)err;
	k->answer->frame = msg_frame_ref(k->t->frame);
	k->answer->value = result;
}

int call_answer_(tasker *t, const char *method, const struct buf *params, int timeout_ms, tasker_answer **ret,
                 struct tasker_error *err)
{
	struct keeper k = {.t = t, .answer = calloc(1, sizeof *k.answer)};
	int rc = !k.answer || params->failed == -ENOMEM
	             ? tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory")
	         : params->failed
	             ? tasker_fail_(err, params->failed, "too_large", "the parameters are too large to send")
	             : call_raw_(t, method, params->data, params->len, timeout_ms, keep_answer, &k, err);
	if (rc < 0 || !ret)
		k.answer = tasker_answer_free(k.answer);
	if (rc == 0 && ret)
		*ret = k.answer;
	return rc;
}

int tasker_call(tasker *t, const char *method, const char *params, int timeout_ms, tasker_answer **ret,
                struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, t->max_frame);
	int rc = json_params_(params, &b, err);
	if (rc == 0)
		rc = call_answer_(t, method, &b, timeout_ms, ret, err);
	buf_done(&b);
	return rc;
}

int answer_of_(const struct buf *b, tasker_answer **ret, struct tasker_error *err)
{
	tasker_answer *a = calloc(1, sizeof *a);
	struct msg_frame *f = msg_frame_of(b);
	if (!a || !f) {
		free(a);
		msg_frame_unref(f);
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	}
	*a = (tasker_answer){.frame = f, .value = as_value(&f->v.root)};
	*ret = a;
	return 0;
}

int tasker_parse(const char *json, tasker_answer **ret, struct tasker_error *err)
{
	struct buf b;
	buf_init(&b, 0);
	int rc = json_params_(json ? json : "null", &b, err);
	if (rc == 0)
		rc = answer_of_(&b, ret, err);
	buf_done(&b);
	return rc;
}

const tasker_value *tasker_answer_value(const tasker_answer *a)
{
	return a ? a->value : NULL;
}

tasker_answer *tasker_answer_free(tasker_answer *a)
{
	if (!a)
		return NULL;
	msg_frame_unref(a->frame);
	free(a);
	return NULL;
}

/* ---- opening, and asking about the connection ---- */

size_t hello_common_(struct buf *b, const char *client)
{
	mp_str(b, "protocol");
	mp_array(b, 2);
	mp_uint(b, PROTOCOL_MAJOR);
	mp_uint(b, PROTOCOL_MINOR);
	mp_str(b, "client");
	mp_str(b, client ? client : LIBRARY_NAME);
	mp_str(b, "language");
	mp_str(b, "c");
	mp_str(b, "pid");
	mp_int(b, getpid());
	return 4;
}

int tasker_connect(tasker **ret, const struct tasker_options *opts, struct tasker_error *err)
{
	static const struct tasker_options defaults;
	const struct tasker_options *o = opts ? opts : &defaults;
	struct buf hello;
	buf_init(&hello, 4096);
	size_t mark = mp_map_open(&hello);
	mp_map_close(&hello, mark, hello_common_(&hello, o->client));
	int rc = hello.failed ? tasker_fail_(err, -EINVAL, "bad_call", "the client's name is too long")
	                      : conn_open_(ret, o->socket_path, &hello, o->timeout_ms, NULL, NULL, err);
	buf_done(&hello);
	if (rc == 0 && o->call_timeout_ms)
		(*ret)->call_timeout_ms = o->call_timeout_ms;
	return rc;
}

const char *tasker_version(void)
{
	return TASKERD_VERSION;
}

void tasker_on_notification(tasker *t, tasker_notification_fn *fn, void *arg)
{
	t->on_notification = fn;
	t->on_notification_arg = arg;
}

const char *tasker_socket(const tasker *t)
{
	return t->path;
}

const char *tasker_server(const tasker *t)
{
	return t->server;
}

const char *tasker_node(const tasker *t)
{
	return t->node;
}

size_t tasker_max_frame(const tasker *t)
{
	return t->max_frame;
}

size_t tasker_max_bulk(const tasker *t)
{
	return t->max_bulk;
}

size_t tasker_open_requests(const tasker *t)
{
	return t->open_requests;
}

const char *tasker_error_details(const tasker *t)
{
	return t->details;
}
