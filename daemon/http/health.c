/* How the daemon is, for whoever asks: what restarts it, what sends it work, what counts. None of it needs a role, so
 * nothing here says more than that. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "daemon/http/conns.h"
#include "daemon/http/http.h"
#include "daemon/http/reply.h"

/* The opening of an answer, which is of this moment. */
static void begin(struct buf *json, const char *status)
{
	char at[40] = "";
	struct tm tm;
	time_t now = time(NULL);
	if (gmtime_r(&now, &tm))
		strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
	buf_init(json, 0);
	buf_printf(json, "{\"status\":\"%s\",\"timestamp\":\"%s\"", status, at);
}

static void reply_good(struct exchange *x, const char *status)
{
	struct buf json;
	begin(&json, status);
	buf_append_char(&json, '}');
	add_header(x, "Cache-Control", "no-store");
	reply_bytes(x, HTTP_OK, "application/json", &json);
}

void on_health(struct exchange *x)
{
	reply_good(x, "healthy");
}

void on_live(struct exchange *x)
{
	reply_good(x, "alive");
}

static const char *word(const struct server_health *s)
{
	return s->draining ? "draining" : s->ready ? "ready" : "not_ready";
}

static void reply_health(struct exchange *x, const struct server_health *s, struct buf *json)
{
	if (!s->ready)
		add_header(x, "Retry-After", "1");
	add_header(x, "Cache-Control", "no-store");
	reply_bytes(x, s->ready ? HTTP_OK : HTTP_SERVUNAVAIL, "application/json", json);
}

void on_ready(struct exchange *x)
{
	struct server_health s;
	struct buf json;
	server_get_health(x->http->srv, &s);
	begin(&json, word(&s));
	buf_printf(&json, ",\"database\":\"%s\"}", s.database);
	reply_health(x, &s, &json);
}

void on_detailed(struct exchange *x)
{
	struct server_health s;
	struct buf json;
	const struct http *h = x->http;
	server_get_health(h->srv, &s);
	begin(&json, word(&s));
	buf_printf(
		&json,
		",\"version\":\"%s\",\"node\":\"%s\",\"uptime_ms\":%llu,\"checks\":{\"database\":{\"status\":\"%s\",\"calls_hanging\":%zu},",
		server_version(), h->opt->node_name, (unsigned long long)s.uptime_ms, s.database, s.calls_hanging);
	buf_printf(
		&json,
		"\"store\":{\"requests\":%zu,\"bytes\":%zu},\"sessions\":{\"open\":%zu,\"workers\":%zu,\"most\":%d},",
		s.store_requests, s.store_bytes, s.sessions, s.workers, h->opt->max_sessions);
	buf_printf(&json, "\"steps\":{\"running\":%u},\"http\":{\"connections\":%u,\"most\":%d,\"streams\":%u}}}",
	           s.steps_running, HASH_COUNT(h->conns), h->opt->http_max_connections, h->n_streams);
	reply_health(x, &s, &json);
}
