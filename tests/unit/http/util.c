#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/http/util.h"

struct text {
	const char *p, *end;
};

/* The next line, as a copy. NULL: it holds a NUL, as no line of evhttp's does, or there is none. */
static char *take_line(struct text *t)
{
	const char *nl = t->p < t->end ? memchr(t->p, '\n', (size_t)(t->end - t->p)) : NULL;
	if (t->p >= t->end)
		return NULL;
	size_t n = (size_t)((nl ? nl : t->end) - t->p);
	char *line = memchr(t->p, '\0', n) ? NULL : calloc(1, n + 1);
	if (line)
		memcpy(line, t->p, n);
	t->p = nl ? nl + 1 : t->end;
	return line;
}

static enum evhttp_cmd_type verb_of(const char *word)
{
	for (unsigned v = 1; v <= EVHTTP_REQ_PATCH; v <<= 1)
		if (strcmp(verb_name(v), word) == 0)
			return v;
	return 0;
}

static bool take_request_line(struct evhttp_request *req, struct text *t)
{
	char *line = take_line(t), *target = line ? strchr(line, ' ') : NULL;
	if (target) {
		*target++ = '\0';
		req->type = verb_of(line);
		req->uri_elems = evhttp_uri_parse_with_flags(target, EVHTTP_URI_NONCONFORMANT);
	}
	free(line);
	return target && req->type && req->uri_elems;
}

static void take_headers(struct evhttp_request *req, struct text *t)
{
	char *line, *value;
	while ((line = take_line(t)) && line[0]) {
		if ((value = strstr(line, ": "))) {
			*value = '\0';
			evhttp_add_header(req->input_headers, line, value + 2);
		}
		free(line);
	}
	free(line);
}

static void read_params(struct asked *a)
{
	buf_init(&a->bytes, 0);
	a->rc = exchange_params(&a->x, &a->bytes, &a->e);
	a->read = a->rc == 0 && mp_decode(a->bytes.data, a->bytes.len, &a->params) == 0;
}

bool ask_text(struct asked *a, const char *text, size_t len)
{
	struct text t = {text, text + len};
	*a = (struct asked){0};
	a->x.req = evhttp_request_new(NULL, NULL);
	if (!a->x.req || !take_request_line(a->x.req, &t))
		return false;
	take_headers(a->x.req, &t);
	evbuffer_add(a->x.req->input_buffer, t.p, (size_t)(t.end - t.p));
	const char *path = evhttp_uri_get_path(a->x.req->uri_elems);
	a->x.route = route_find(a->x.req->type, path ? path : "", &a->x.match, &a->verbs);
	if (a->x.route && !a->x.route->fn)
		read_params(a);
	return true;
}

void asked_done(struct asked *a)
{
	if (a->read)
		mp_value_done(&a->params);
	buf_done(&a->bytes);
	if (a->x.req)
		evhttp_request_free(a->x.req);
}
