/* Bearer tokens: making them, and knowing them. A secret exists in this process and in the answer, and nowhere else. */
#include "daemon/server/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/auth/auth.h"
#include "daemon/auth/secret.h"
#include "daemon/auth/tokens.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/hash.h"
#include "daemon/base/listen.h"
#include "daemon/base/log.h"
#include "daemon/config/access.h"
#include "daemon/server/admit.h"
#include "daemon/server/api.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

const char API_TOKEN_SYNC[] = "tasker.api_token_sync";
const char API_TOKEN_CREATE[] = "tasker.api_token_create";

static int check_roles(const msgpack_object *params, struct err *e)
{
	const msgpack_object *roles = mp_get(params, "roles");
	for (uint32_t i = 0; i < roles->via.array.size; i++) {
		const msgpack_object_str *r = &roles->via.array.ptr[i].via.str;
		if (role_named(r->ptr, r->size) != ROLE_NONE)
			continue;
		int rc = err_set(e, -EINVAL, "bad_request",
		                 "there is no role \"%.*s\": read, submit, work, operate or admin is expected",
		                 (int)(r->size < 64 ? r->size : 64), r->ptr);
		snprintf(e->path, sizeof e->path, "roles[%u]", i);
		return rc;
	}
	return 0;
}

/* Nobody gives away what they have not. */
static int check_namespaces(struct session *s, const msgpack_object *params, struct err *e)
{
	const msgpack_object *list = mp_get(params, "namespaces");
	if (!list)
		return admit_everywhere(s, MSG_TOKEN_CREATE, e);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < list->via.array.size; i++) {
		const msgpack_object_str *n = &list->via.array.ptr[i].via.str;
		if (is_namespace_name(n->ptr, n->size))
			rc = admit_namespace(s, MSG_TOKEN_CREATE, n->ptr, n->size, e);
		else
			rc = err_set(e, -EINVAL, "bad_request",
			             "\"%.*s\" is not the name of a namespace; without namespaces a token is for all",
			             (int)(n->size < 64 ? n->size : 64), n->ptr);
		snprintf(e->path, sizeof e->path, "namespaces[%u]", i);
	}
	return rc;
}

int token_prepare(struct session *s, const msgpack_object *params, struct req *r, struct buf *members, struct err *e)
{
	cleanup_(cleanup_token) struct token_text t;
	char hash[2 * TOKEN_HASH_LEN + 1];
	int rc = check_roles(params, e);
	if (rc == 0)
		rc = check_namespaces(s, params, e);
	if (rc < 0)
		return rc;
	if (token_draw(&t) < 0)
		return err_set(e, -EIO, "internal", "no random numbers");
	hex_write(t.hash, sizeof t.hash, hash);
	buf_printf(members, ",\"id\":\"%s\",\"hash\":\"%s\"", t.id, hash);
	buf_init(&r->api.kept, 0);
	mp_str(&r->api.kept, t.text);
	return r->api.kept.failed;
}

static void reply_token(struct session *s, struct req *r)
{
	struct mp_value v;
	struct buf answer;
	if (mp_decode(r->answer.data, r->answer.len, &v) < 0) {
		reply_errorf(s, r->origin.request, "overloaded", NULL, "out of memory");
		return;
	}
	buf_init(&answer, 0);
	mp_map(&answer, v.root.via.map.size + 1);
	mp_str(&answer, "token");
	buf_join(&answer, &r->api.kept);
	for (uint32_t i = 0; i < v.root.via.map.size; i++) {
		mp_object(&answer, &v.root.via.map.ptr[i].key);
		mp_object(&answer, &v.root.via.map.ptr[i].val);
	}
	reply_answer(s, r->origin.request, &answer);
	token_wipe(answer.data, answer.len);
	buf_done(&answer);
	mp_value_done(&v);
}

void token_created(struct server *srv, struct req *r)
{
	struct session *s = session_find(srv, r->origin.session);
	if (s && session_speaks(s) && r->failed)
		reply_error(s, r->origin.request, &r->err);
	else if (s && session_speaks(s))
		reply_token(s, r);
	token_wipe(r->api.kept.data, r->api.kept.len);
}

/* Knowing them ----------------------------------------------------------------------------------------------------- */

/* Who comes over a Unix socket is known by the kernel's word and seldom shows one: until then nothing is asked. */
static bool are_needed(const struct server *srv)
{
	if (srv->auth && auth_tokens_shown(srv->auth))
		return true;
	struct listen_address at[LISTEN_MAX];
	int n = srv->auth && srv->opt->http_listen ? listen_parse(srv->opt->http_listen, at) : 0;
	for (int i = 0; i < n; i++)
		if (!at[i].path[0])
			return true;
	return false;
}

static void ask(struct server *srv)
{
	struct buf json;
	struct req *r = req_new(REQ_API, (struct origin){0});
	if (!r)
		return;
	buf_init(&json, 0);
	auth_sync_question(srv->auth, &json);
	if (buf_text(&json))
		text_set(&r->api.args, buf_text(&json), json.len);
	buf_done(&json);
	r->api.function = API_TOKEN_SYNC;
	r->api.mode = API_WRITE;
	srv->tokens_asked = now_mono();
	srv->tokens_asking = true;
	srv->tokens_again = false;
	store_submit(srv->store, r);
}

void tokens_changed(struct server *srv)
{
	if (!srv->db_up || !are_needed(srv))
		return;
	if (srv->tokens_asking)
		srv->tokens_again = true;
	else
		ask(srv);
}

void tokens_tick(struct server *srv)
{
	if (now_mono() - srv->tokens_asked >= AUTH_SYNC_US && !srv->tokens_asking)
		tokens_changed(srv);
}

void tokens_synced(struct server *srv, struct req *r)
{
	struct mp_value v;
	int rc = r->failed ? -EIO : mp_decode(r->answer.data, r->answer.len, &v);
	srv->tokens_asking = false;
	if (rc == 0) {
		rc = auth_sync_answer(srv->auth, &v.root, srv->tokens_asked);
		mp_value_done(&v);
	}
	if (rc < 0)
		log_warn("the bearer tokens cannot be read from the database: %s",
		         r->failed       ? r->err.text
		         : rc == -ENOMEM ? "out of memory"
		                         : "the answer is not understood");
	if (srv->tokens_again)
		ask(srv);
}
