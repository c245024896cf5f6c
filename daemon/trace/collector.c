#include "daemon/trace/collector.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "daemon/trace/collector_text.h"
#include "protocol/buf.h"

#define ANSWER_MAX 65536u /* read of an answer */
#define WAIT_MAX_S 30	  /* that a collector may ask for */

struct collector {
	struct collector_config cfg;
	char *url, *head; /* of a body, up to the spans */
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	struct buf answer;
};

static const char tail[] = "]}]}]}";

static json_t *attribute(const char *key, const char *text)
{
	return json_pack("{s:s,s:{s:s}}", "key", key, "value", "stringValue", text);
}

/* {"resourceSpans":[{"resource":{...},"scopeSpans":[{"scope":{...},"spans":[ */
static char *make_head(const struct collector_config *cfg)
{
	char host[128] = "", *out = NULL;
	gethostname(host, sizeof host - 1);
	json_t *resource = json_pack("{s:[o,o,o,o]}", "attributes", attribute("service.name", "taskerd"),
	                             attribute("service.version", cfg->version),
	                             attribute("service.instance.id", cfg->node), attribute("host.name", host));
	json_t *scope = json_pack("{s:s,s:s}", "name", "taskerd", "version", cfg->version);
	char *r = resource ? json_dumps(resource, JSON_COMPACT) : NULL,
	     *s = scope ? json_dumps(scope, JSON_COMPACT) : NULL;
	if (r && s &&
	    asprintf(&out, "{\"resourceSpans\":[{\"resource\":%s,\"scopeSpans\":[{\"scope\":%s,\"spans\":[", r, s) < 0)
		out = NULL;
	free(r);
	free(s);
	json_decref(resource);
	json_decref(scope);
	return out;
}

/* A URL that names only a host gets the path that OTLP has. */
static char *complete_url(const char *url)
{
	char *out = NULL;
	const char *path = strchr(strstr(url, "://") + 3, '/');
	if (path && path[1])
		return strdup(url);
	return asprintf(&out, "%.*s/v1/traces", (int)(path ? path - url : (long)strlen(url)), url) < 0 ? NULL : out;
}

static bool add_header(struct collector *c, const char *line)
{
	struct curl_slist *more = line ? curl_slist_append(c->headers, line) : NULL;
	if (more)
		c->headers = more;
	return more != NULL;
}

static bool add_headers(struct collector *c, const char *text)
{
	bool ok = add_header(c, "Content-Type: application/json") && add_header(c, "Expect:");
	for (char *line; ok && text && *text && (line = collector_next_header(&text)); free(line))
		ok = add_header(c, line);
	return ok;
}

/* What is beyond ANSWER_MAX is read and forgotten: the deadline ends it. */
static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
	struct collector *c = arg;
	buf_append(&c->answer, data, size * n);
	return size * n;
}

static bool prepare(struct collector *c)
{
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	if (!c->multi || !c->easy || !add_headers(c, c->cfg.headers))
		return false;
	curl_easy_setopt(c->easy, CURLOPT_URL, c->url);
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "taskerd");
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->easy, CURLOPT_QUICK_EXIT, 1L); /* a name server that is silent holds up nobody's stop */
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_answer);
	curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	return true;
}

int collector_new(const struct collector_config *cfg, struct collector **ret, struct err *e)
{
	struct collector *c = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? calloc(1, sizeof *c) : NULL;
	if (!c)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	c->cfg = *cfg;
	buf_init(&c->answer, ANSWER_MAX);
	c->url = complete_url(cfg->url);
	c->head = make_head(cfg);
	if (!c->url || !c->head || !prepare(c)) {
		collector_free(c);
		return err_set(e, -ENOMEM, "internal", "the client of the collector of spans cannot be made");
	}
	*ret = c;
	return 0;
}

struct collector *collector_free(struct collector *c)
{
	if (!c)
		return NULL;
	curl_easy_cleanup(c->easy);
	curl_multi_cleanup(c->multi);
	curl_slist_free_all(c->headers);
	buf_done(&c->answer);
	free(c->url);
	free(c->head);
	free(c);
	curl_global_cleanup();
	return NULL;
}

/* One request ------------------------------------------------------------------------------------------------------ */

static usec_t sooner(usec_t a, usec_t b)
{
	return a < b ? a : b;
}

/* Let the request run to its end, or to the deadline, which a stop brings nearer. */
static CURLcode run(struct collector *c, usec_t deadline)
{
	int running = 1, left;
	bool stopping = false;
	for (usec_t now; running && (now = now_mono()) < deadline;) {
		struct curl_waitfd stop = {.fd = c->cfg.stop_fd, .events = CURL_WAIT_POLLIN};
		if (curl_multi_perform(c->multi, &running) != CURLM_OK)
			return CURLE_FAILED_INIT;
		if (running)
			curl_multi_poll(c->multi, &stop, stopping ? 0 : 1, (int)((deadline - now) / USEC_PER_MSEC) + 1,
			                NULL);
		if (!stopping && stop.revents) {
			stopping = true;
			deadline = sooner(deadline, now_mono() + (usec_t)c->cfg.grace_ms * USEC_PER_MSEC);
		}
	}
	CURLMsg *m = curl_multi_info_read(c->multi, &left);
	return m && m->msg == CURLMSG_DONE ? m->data.result : CURLE_OPERATION_TIMEDOUT;
}

/* {"partialSuccess":{"rejectedSpans":"3","errorMessage":"..."}}; what is no JSON says nothing. */
static uint64_t read_refused(struct collector *c, struct err *e)
{
	json_t *root = json_loadb((const char *)c->answer.data, c->answer.len, JSON_REJECT_DUPLICATES, NULL);
	json_t *partial = json_object_get(root, "partialSuccess"), *n = json_object_get(partial, "rejectedSpans");
	const char *text = json_string_value(n), *why = json_string_value(json_object_get(partial, "errorMessage"));
	long long refused = text ? strtoll(text, NULL, 10) : json_integer_value(n);
	if (refused > 0)
		err_set(e, 0, "refused", "it has refused %lld spans: %.200s", refused,
		        why ? why : "it does not say why");
	json_decref(root);
	return refused > 0 ? (uint64_t)refused : 0;
}

static enum collector_verdict judge(struct collector *c, uint64_t *ret_refused, int *ret_wait_ms, struct err *e)
{
	long status = 0;
	curl_off_t wait = 0;
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status < 300) {
		*ret_refused = read_refused(c, e);
		return COLLECTOR_TOOK;
	}
	err_set(e, 0, "refused", "it answers with status %ld", status);
	if (status != 429 && status != 502 && status != 503 && status != 504)
		return COLLECTOR_REFUSED;
	if (curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
		*ret_wait_ms = (int)(wait < WAIT_MAX_S ? wait : WAIT_MAX_S) * 1000;
	return COLLECTOR_LATER;
}

enum collector_verdict collector_send(struct collector *c, const char *spans, usec_t deadline, uint64_t *ret_refused,
                                      int *ret_wait_ms, struct err *e)
{
	cleanup_(cleanup_free) char *body = NULL;
	*ret_refused = 0;
	*ret_wait_ms = 0;
	if (asprintf(&body, "%s%s%s", c->head, spans, tail) < 0) {
		body = NULL;
		err_set(e, 0, "internal", "out of memory");
		return COLLECTOR_REFUSED;
	}
	buf_reset(&c->answer);
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body);
	if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK) {
		err_set(e, 0, "internal", "the request cannot be begun");
		return COLLECTOR_LATER;
	}
	CURLcode rc = run(c, deadline);
	enum collector_verdict v = COLLECTOR_LATER;
	if (rc == CURLE_OK)
		v = judge(c, ret_refused, ret_wait_ms, e);
	else
		err_set(e, 0, "unavailable", "%s", curl_easy_strerror(rc));
	curl_multi_remove_handle(c->multi, c->easy);
	return v;
}
