/* What workers ask and say about the steps they run, besides results: checkpoints, the results of ancestors, lines for
 * the log. */
#include "daemon/server/step_calls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/config/options.h"
#include "daemon/core/uuid.h"
#include "daemon/server/api.h"
#include "daemon/server/bounds.h"
#include "daemon/server/notes.h"
#include "daemon/server/pool.h"
#include "daemon/server/reply.h"
#include "daemon/server/results.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/steps.h"
#include "daemon/server/submit.h"
#include "daemon/store/proof.h"
#include "daemon/store/request.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"
#include "protocol/utf8.h"

/* Checkpoints ------------------------------------------------------------------------------------------------------ */

static const char *const checkpoint_keys[] = {"cursor", "items_processed", "accumulated_results"};

int checkpoint_json(const msgpack_object *m, size_t max, struct buf *out, struct err *e)
{
	int64_t items = 0;
	if (!mp_get(m, "cursor"))
		return err_set(e, -EINVAL, "bad_request", "a checkpoint needs a cursor");
	if (mp_get_int(m, "items_processed", 0, INT64_MAX, &items) < 0)
		return err_set(e, -EINVAL, "bad_request",
		               "items_processed of a checkpoint must be a whole number, 0 or more");
	struct buf b;
	struct mp_value v = {0};
	size_t n = 0;
	buf_init(&b, 0);
	size_t mark = mp_map_open(&b);
	for (size_t i = 0; i < sizeof checkpoint_keys / sizeof *checkpoint_keys; i++) {
		const msgpack_object *o = mp_get(m, checkpoint_keys[i]);
		if (!o)
			continue;
		mp_str(&b, checkpoint_keys[i]);
		mp_object(&b, o);
		n++;
	}
	mp_map_close(&b, mark, n);
	int rc = b.failed ? err_set(e, -ENOMEM, "overloaded", "out of memory") : mp_decode(b.data, b.len, &v);
	if (rc == 0) {
		rc = value_to_json(&v.root, "checkpoint", max, out, e);
		mp_value_done(&v);
	}
	buf_done(&b);
	return rc;
}

/* With a checkpoint a step.execute must still fit into a frame, besides a context that may take half of it. */
size_t checkpoint_max(const struct options *opt)
{
	return opt->max_result < opt->max_frame / 4 ? opt->max_result : opt->max_frame / 4;
}

void reply_status(struct session *s, uint32_t id, const char *status)
{
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 1);
	mp_str(&s->wire.out, "status");
	mp_str(&s->wire.out, status);
	reply_end(s, mark);
}

/* {"task_uuid", "step_no", "fence", "checkpoint"} for tasker.api_step_checkpoint. */
static int store_args(struct req *r, const struct open_step *o, const struct buf *json)
{
	struct buf b;
	char task[UUID_TEXT];
	uuid_format(&o->claim->task, task);
	buf_init(&b, 0);
	buf_printf(&b, "{\"task_uuid\":\"%s\",\"step_no\":%d,\"fence\":%d,\"checkpoint\":", task, o->claim->step_no,
	           o->claim->fence);
	buf_join(&b, json);
	buf_append_char(&b, '}');
	r->api.args.n = b.len;
	r->api.args.s = buf_take_text(&b);
	buf_done(&b);
	return r->api.args.s ? 0 : -ENOMEM;
}

static void store_checkpoint(struct session *s, uint32_t id, const struct open_step *o, const msgpack_object *params)
{
	struct err e = {0};
	struct buf json;
	size_t max = checkpoint_max(s->srv->opt);
	buf_init(&json, max);
	struct req *r = NULL;
	int rc = checkpoint_json(params, max, &json, &e);
	if (rc < 0) {
		reply_error(s, id, &e);
	} else if ((r = req_for(s, id, REQ_API))) {
		r->api.function = "tasker.api_step_checkpoint";
		r->api.mode = API_WRITE;
		if (store_args(r, o, &json) == 0)
			submit_call(s, r);
		else
			req_free(r);
	}
	buf_done(&json);
}

void on_step_checkpoint(struct session *s, uint32_t id, const msgpack_object *params)
{
	const msgpack_object *claim = mp_get(params, "claim");
	const char *p = "", *status = NULL;
	size_t n = 0;
	struct uuid step;
	int64_t attempt = 0;
	bool yield = false;
	struct err e = {0};
	(void)!mp_get_str(params, "step_uuid", &p, &n);
	(void)!mp_get_int(params, "attempt", 1, INT32_MAX, &attempt);
	(void)!mp_get_bool(params, "yield", &yield);
	if (uuid_parse(p, n, &step) < 0 || claim->type != MSGPACK_OBJECT_BIN || claim->via.bin.size != PROOF_LEN) {
		reply_errorf(s, id, "bad_request", "claim", "claim must be bin of 16");
		return;
	}
	struct open_step *o = step_claimed(s, &step, (int)attempt, (const uint8_t *)claim->via.bin.ptr, &status);
	if (!o) {
		reply_status(s, id, status);
	} else if (!yield) {
		store_checkpoint(s, id, o, params);
	} else if (step_yield(s, id, o, params, &e) < 0) {
		reply_error(s, id, &e);
	} else {
		pool_run_backlog(s->srv);
		pool_claim(s->srv);
	}
}

/* The log and the results of ancestors ----------------------------------------------------------------------------- */

/* " key=value" for each text field, as many as fit. */
static void append_fields(const msgpack_object *fields, char *out, size_t size)
{
	size_t at = 0;
	for (uint32_t i = 0; fields && i < fields->via.map.size; i++) {
		const msgpack_object_kv *kv = &fields->via.map.ptr[i];
		if (kv->val.type != MSGPACK_OBJECT_STR)
			continue;
		int n = snprintf(out + at, size - at, " %.*s=%.*s", (int)kv->key.via.str.size, kv->key.via.str.ptr,
		                 (int)kv->val.via.str.size, kv->val.via.str.ptr);
		if (n < 0 || (size_t)n >= size - at) {
			out[at] = '\0';
			return;
		}
		at += (size_t)n;
	}
}

void on_step_log(struct session *s, uint32_t id, const msgpack_object *params)
{
	static const struct {
		const char *name;
		enum log_level lv;
	} levels[] = {{"error", LOG_LV_ERROR},
	              {"warn", LOG_LV_WARN},
	              {"info", LOG_LV_INFO},
	              {"debug", LOG_LV_DEBUG},
	              {"trace", LOG_LV_DEBUG}};
	const char *level = "", *text = "", *step = NULL;
	size_t level_n = 0, n = 0, step_n = 0;
	struct uuid uuid;
	const struct uuid *about = NULL;
	struct note note;
	enum log_level lv = LOG_LV_INFO;
	char left_out[LEFT_OUT_MAX] = "";
	(void)id;
	if (!ratelimit_ok(&s->step_logs, now_mono(), left_out))
		return;
	(void)!mp_get_str(params, "level", &level, &level_n);
	(void)!mp_get_str(params, "message", &text, &n);
	if (mp_get_str(params, "step_uuid", &step, &step_n) == 1)
		about = uuid_parse(step, step_n, &uuid) == 0 ? &uuid : NULL;
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (strlen(levels[i].name) == level_n && memcmp(levels[i].name, level, level_n) == 0)
			lv = levels[i].lv;
	char more[512] = "";
	append_fields(mp_get(params, "fields"), more, sizeof more);
	log_fields(lv, note_step(&note, s, about), "%.*s%s", (int)utf8_prefix(text, n, 500), text, more);
}

void on_step_dependencies(struct session *s, uint32_t id, const msgpack_object *params)
{
	const char *p = "";
	size_t n = 0;
	struct uuid step, task;
	unsigned no;
	char uuid[UUID_TEXT];
	(void)!mp_get_str(params, "step_uuid", &p, &n);
	if (uuid_parse(p, n, &step) < 0 || !uuid_split_step(&step, &task, &no)) {
		reply_errorf(s, id, "not_found", "step_uuid", "no such step");
		return;
	}
	struct req *r = req_for(s, id, REQ_API);
	if (!r)
		return;
	struct buf b;
	buf_init(&b, 0);
	uuid_format(&task, uuid);
	const msgpack_object *names = mp_get(params, "names"), *cursor = mp_get(params, "cursor");
	mp_map(&b, 3u + (names != NULL) + (cursor != NULL));
	mp_str(&b, "max_bytes");
	/* No item takes less than two bytes of JSON, so that this bounds the items of a page as well. */
	size_t page = s->srv->opt->max_frame / 2;
	mp_uint(&b, page < DEPENDENCIES_PAGE ? page : DEPENDENCIES_PAGE);
	mp_str(&b, "task_uuid");
	mp_str(&b, uuid);
	mp_str(&b, "step_no");
	mp_uint(&b, no);
	if (names) {
		mp_str(&b, "names");
		mp_object(&b, names);
	}
	if (cursor) {
		mp_str(&b, "cursor");
		mp_object(&b, cursor);
	}
	r->api.function = "tasker.api_step_dependencies";
	r->api.mode = API_READ;
	if (api_args_from_mp(r, &b, NULL) < 0) {
		reply_errorf(s, id, "invalid_value", NULL, "names or cursor cannot be encoded");
		req_free(r);
	} else {
		submit_call(s, r);
	}
	buf_done(&b);
}
