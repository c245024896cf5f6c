/* What people do by hand: requests that change something and note who asked for it and why. The engine tells all nodes,
 * this one too, by NOTIFY what follows. */
#include "daemon/server/operate.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/core/uuid.h"
#include "daemon/server/metrics.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/server/submit.h"
#include "daemon/server/watch.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/mpjson.h"

/* The user's name as the local file has it, or empty: a directory service could keep the loop waiting. */
static void user_name(uid_t uid, char *out, size_t size)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	char line[1024];
	struct passwd pw, *found = NULL;
	FILE *f = fopen("/etc/passwd", "re");
	out[0] = '\0';
	while (f && fgetpwent_r(f, &pw, line, sizeof line, &found) == 0)
		if (pw.pw_uid == uid) {
			if (pw.pw_name[strspn(pw.pw_name, plain)] == '\0')
				snprintf(out, size, "%s", pw.pw_name);
			break;
		}
	if (f)
		fclose(f);
}

/* What a field holds must be JSON and within the limit of results; the error says where it is not. */
static int check_values(const struct session *s, const msgpack_object *params, struct err *e)
{
	static const char *const fields[] = {"result", "filter", "metadata"};
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		const msgpack_object *o = mp_get(params, fields[i]);
		struct buf b;
		if (!o)
			continue;
		buf_init(&b, s->srv->opt->max_result);
		int rc = value_to_json(o, fields[i], s->srv->opt->max_result, &b, e);
		buf_done(&b);
		if (rc == -EMSGSIZE)
			e->limit = "max_result";
		if (rc < 0)
			return rc;
	}
	return 0;
}

int operate_put_by(const struct session *s, struct buf *out, struct err *e)
{
	uint8_t rnd[16];
	char request[UUID_TEXT], user[64];
	struct uuid u;
	if (getrandom(rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		return err_set(e, -EIO, "internal", "no random numbers");
	u = uuid_for_task(now_wall() / USEC_PER_MSEC, rnd);
	uuid_format(&u, request);
	/* Names of nodes, users and principals need no quoting. */
	buf_printf(out, "\"by\":{\"request\":\"%s\",\"node\":\"%s\",", request, s->srv->opt->node_name);
	if (s->who.principal[0]) {
		buf_printf(out, "\"uid\":null,\"pid\":null,\"user\":\"%s\"}", s->who.principal);
		return 0;
	}
	user_name(s->who.uid, user, sizeof user);
	buf_printf(out, "\"uid\":%u,\"pid\":%d,\"user\":%s%s%s}", (unsigned)s->who.uid, (int)s->who.pid,
	           user[0] ? "\"" : "", user[0] ? user : "null", user[0] ? "\"" : "");
	return 0;
}

int operate_args(struct session *s, const msgpack_object *params, struct buf *out, struct err *e)
{
	struct buf json;
	int rc = check_values(s, params, e);
	if (rc < 0)
		return rc;
	buf_init(&json, 0);
	rc = mp_to_json(params, "", &json, NULL);
	if (rc == 0 && !buf_text(&json))
		rc = -ENOMEM;
	if (rc == 0) {
		buf_append_char(out, '{');
		rc = operate_put_by(s, out, e);
		buf_append_str(out, json.len > 2 ? "," : "");
		buf_append(out, buf_text(&json) + 1, json.len - 1);
	}
	if (rc == 0) {
		rc = out->failed;
	}
	buf_done(&json);
	return rc;
}

void operated(struct server *srv, const struct buf *answer)
{
	struct mp_value v;
	struct uuid task;
	const char *p;
	size_t n;
	if (mp_decode(answer->data, answer->len, &v) < 0)
		return;
	if (mp_get_str(&v.root, "task_uuid", &p, &n) == 1 && uuid_parse(p, n, &task) == 0)
		watch_touch(srv, &task);
	metrics_operated(srv, &v.root);
	mp_value_done(&v);
}
