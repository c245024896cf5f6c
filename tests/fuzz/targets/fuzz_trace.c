/* Trace contexts as strangers send them, and how a collector is written in options. What is taken for a trace context
 * can be written and read again; a header that is taken is one line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/trace/collector_text.h"
#include "daemon/trace/context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void context(const char *p, size_t n)
{
	struct trace_context c, again, task;
	char text[TRACEPARENT_LEN + 1];
	static const uint8_t uuid[16] = {1};
	bool is = traceparent_parse(p, n, &c);
	must(is == c.given);
	task = trace_of_task(&c, uuid, 100);
	struct span_id span = span_id_of(task.trace, 1);
	traceparent_format(&task, &span, text);
	must(strlen(text) == TRACEPARENT_LEN && traceparent_parse(text, TRACEPARENT_LEN, &again));
	must(memcmp(again.trace, task.trace, sizeof again.trace) == 0 && again.sampled == task.sampled &&
	     memcmp(again.parent.b, span.b, sizeof span.b) == 0);
}

static void headers(const char *text)
{
	bool ok = collector_headers_ok(text);
	const char *at = text, *end = text + strlen(text);
	size_t n = 0;
	for (char *line; (line = collector_next_header(&at)); n++) {
		must(at <= end && strstr(line, ": ") && !strpbrk(line, "\r\n"));
		free(line);
	}
	must(ok == (n > 0 && at == end));
}

/* One line, without a user and a password. */
static void url(const char *text)
{
	const char *host = strstr(text, "://");
	if (!host)
		abort();
	must(!strpbrk(text, " \r\n?#") && !memchr(host, '@', 3 + strcspn(host + 3, "/")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	must(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	context(text, size);
	headers(text);
	if (collector_url_ok(text))
		url(text);
	free(text);
	return 0;
}
