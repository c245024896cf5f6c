/* What a stranger asks over HTTP, after evhttp has found its lines: paths, queries, headers, bodies, the id that a
 * stream is to go on after.
 *
 * The input is a request (tests/unit/http/util.h). Promises: a path finds one row, and the same when its variables are
 * encoded again in full; what is refused says so in UTF-8 with an error code; what is taken is a map of parameters of
 * that message, each once, as the message's own check reads it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/http/stream_mark.h"
#include "daemon/server/params.h"
#include "protocol/scan.h"
#include "protocol/utf8.h"
#include "tests/unit/http/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static const char *value_of(const struct route_match *m, const char *name, size_t len)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->var[i].name_len == len && memcmp(m->var[i].name, name, len) == 0)
			return m->var[i].value;
	abort();
}

/* The row's path with the variables in it, every byte encoded. */
static void encode(const struct asked *a, struct buf *out)
{
	for (const char *p = a->x.route->path; *p; p++) {
		if (*p != '{') {
			buf_append_char(out, *p);
			continue;
		}
		size_t n = strcspn(++p, "}");
		const char *v = value_of(&a->x.match, p, n);
		must(*v);
		for (; *v; v++)
			buf_printf(out, "%%%02X", (unsigned char)*v);
		p += n;
	}
}

static void path_holds(const struct asked *a)
{
	struct route_match m;
	unsigned verbs;
	struct buf path;
	must(a->verbs & a->x.route->verb && a->x.match.n <= ROUTE_VARS_MAX);
	buf_init(&path, 0);
	encode(a, &path);
	/* A row of words for the same path would be another: no word is written with a percent sign. */
	must(route_find(a->x.route->verb, buf_text(&path), &m, &verbs) == a->x.route && m.n == a->x.match.n &&
	     verbs == a->verbs);
	for (size_t i = 0; i < m.n; i++)
		must(strcmp(m.var[i].value, a->x.match.var[i].value) == 0);
	buf_done(&path);
}

static void params_hold(const struct asked *a)
{
	struct scan_limits limits = {.max_items = SIZE_MAX, .max_depth = SCAN_MAX_DEPTH};
	const struct param *spec = message_params(a->x.route->msg);
	const msgpack_object *map = &a->params.root;
	struct scan_error se;
	struct err e = {0};
	must(scan_value(a->bytes.data, a->bytes.len, &limits, &se) == 0 && map->type == MSGPACK_OBJECT_MAP);
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		const struct param *p = spec;
		while (p->name && !mp_str_eq(&map->via.map.ptr[i].key, p->name))
			p++;
		must(p->name);
	}
	if (check_params(map, spec, "", &e) < 0)
		must(e.text[0] && e.path[0]);
}

static void refusal_holds(const struct err *e)
{
	must(e->code[0] && e->text[0] && utf8_span(e->text, strlen(e->text)) == strlen(e->text) &&
	     utf8_span(e->path, strlen(e->path)) == strlen(e->path));
}

/* A stream that goes on after an id leaves out that event and those before it, and nothing that came after. */
static void stream_holds(const struct exchange *x)
{
	static const char first[] = "1970-01-01T00:00:00.000000Z", last[] = "9999-12-31T23:59:59.999999Z";
	struct stream_mark seen, now = {0};
	struct stream_late late;
	char text[STREAM_ID];
	bool is_one =
		stream_mark_read(evhttp_find_header(evhttp_request_get_input_headers(x->req), "Last-Event-ID"), &seen);
	must(is_one == (seen.at[0] != '\0'));
	if (is_one) {
		stream_late_read(evhttp_find_header(evhttp_request_get_input_headers(x->req), "Last-Event-ID"), &late);
		stream_late_add(&late, last, 1);
		must(stream_mark_covers(&seen, &seen) && !stream_late_is_new(&late, last, 1) &&
		     stream_id(&seen, &late, text) == strlen(text));
	}
	must(stream_mark_move(&now, first, strlen(first)) &&
	     stream_mark_covers(&seen, &now) == (is_one && (strcmp(seen.at, first) != 0 || seen.nth > 0)));
	must(stream_mark_move(&now, last, strlen(last)) &&
	     (!stream_mark_covers(&seen, &now) || strcmp(seen.at, last) == 0));
	now = seen;
	if (is_one && seen.nth < UINT32_MAX)
		must(stream_mark_move(&now, seen.at, strlen(seen.at)) && !stream_mark_covers(&seen, &now));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct asked a;
	if (ask_text(&a, (const char *)data, size)) {
		stream_holds(&a.x);
		if (a.x.route)
			path_holds(&a);
		if (a.read)
			params_hold(&a);
		else if (a.rc < 0)
			refusal_holds(&a.e);
	}
	asked_done(&a);
	return 0;
}
