/* The small readers of outside text: times, patterns, uuids, references, values of options, URIs of databases,
 * notifications. The first byte of the input chooses which; line feeds divide the rest into what each takes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/option_value.h"
#include "daemon/core/pattern.h"
#include "daemon/core/rfc3339.h"
#include "daemon/core/uuid.h"
#include "daemon/schema/uri.h"
#include "daemon/store/notice.h"
#include "protocol/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* The next line of the input, NUL-terminated in a block of its exact size. */
static char *next_line(const char **at, const char *end, size_t *ret_n)
{
	const char *stop = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
	size_t n = (size_t)((stop ? stop : end) - *at);
	char *line = malloc(n + 1);
	must(line != NULL);
	memcpy(line, *at, n);
	line[n] = '\0';
	*at = stop ? stop + 1 : end;
	*ret_n = n;
	return line;
}

static void try_time(const char *a, size_t n, const char *b, size_t m)
{
	(void)b, (void)m;
	if (rfc3339_valid(a, n))
		must(n >= 20 && a[4] == '-' && a[7] == '-' && a[13] == ':');
}

/* What a pattern fits by definition, tried the slow way. */
static bool fits_slowly(const char *p, size_t n, const char *s, size_t m)
{
	if (n == 0)
		return m == 0;
	if (*p == '*')
		return fits_slowly(p + 1, n - 1, s, m) || (m > 0 && fits_slowly(p, n, s + 1, m - 1));
	return m > 0 && *p == *s && fits_slowly(p + 1, n - 1, s + 1, m - 1);
}

static void try_pattern(const char *a, size_t n, const char *b, size_t m)
{
	bool fits = pattern_fits(a, n, b, m);
	if (pattern_valid(a, n))
		must(n >= 1 && n <= PATTERN_MAX);
	if (n <= 8 && m <= 12)
		must(fits == fits_slowly(a, n, b, m));
}

static void try_uuid(const char *a, size_t n, const char *b, size_t m)
{
	struct uuid u, again, task;
	char text[UUID_TEXT];
	unsigned no;
	(void)b, (void)m;
	if (uuid_parse(a, n, &u) < 0)
		return;
	uuid_format(&u, text);
	must(n == 36 && uuid_parse(text, 36, &again) == 0 && uuid_eq(&u, &again));
	if (uuid_split_step(&u, &task, &no))
		must(no < (1u << 24));
}

static void try_reference(const char *a, size_t n, const char *b, size_t m)
{
	const char *fragment = NULL;
	(void)n;
	char *r = uri_resolve(a, b, m, &fragment);
	must(r != NULL);
	must(uri_unescape(r) <= strlen(a) + m + 2);
	must(!fragment || (fragment > b && fragment <= b + m));
	free(r);
}

static void try_option(const char *a, size_t n, const char *b, size_t m)
{
	struct options o = {0};
	struct buf said, shown;
	(void)n, (void)m;
	for (size_t i = 0; i < option_count; i++) {
		buf_init(&said, 1 << 16);
		buf_init(&shown, 1 << 16);
		int rc = option_set(&o, &option_table[i], i % 2 ? a : b, &said);
		must((rc < 0) == (said.len > 0));
		if (rc == 0)
			options_format(&o, &option_table[i], &shown);
		buf_done(&said);
		buf_done(&shown);
	}
	options_done(&o);
}

static void try_database(const char *a, size_t n, const char *b, size_t m)
{
	struct buf out;
	char uri[512];
	(void)n, (void)m;
	buf_init(&out, 1 << 16);
	options_redact(a, &out);
	must(buf_text(&out) != NULL);
	buf_reset(&out);
	/* A password that is written as a URI wants it does not come through, whatever is around it. */
	snprintf(uri, sizeof uri, "postgresql://u:S3CR3T%.40s@h/d?%.40s",
	         strpbrk(a, "/?#@") || strstr(a, "S3CR3T") ? "" : a, strpbrk(b, "#@") || strstr(b, "S3CR3T") ? "" : b);
	options_redact(uri, &out);
	must(!strstr(buf_text(&out), "S3CR3T"));
	buf_done(&out);
}

static void try_notice(const char *a, size_t n, const char *b, size_t m)
{
	struct notice p = {0};
	const char *payloads[] = {a, b, a};
	(void)n, (void)m;
	for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
		struct done *d = notice_read(&p, 1, payloads[i]);
		must(!d || d->kind == DONE_NOTIFY_EVENTS);
		done_free(d);
	}
	notice_reset(&p);
	buf_done(&p.text);
}

static void try_utf8(const char *a, size_t n, const char *b, size_t m)
{
	char copy[32];
	(void)b, (void)m;
	utf8_copy(copy, sizeof copy, a, n);
	must(strlen(copy) < sizeof copy);
	must(utf8_prefix(a, n, 10) <= 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(const char *, size_t, const char *,
	                               size_t) = {try_time,   try_pattern,  try_uuid,   try_reference,
	                                          try_option, try_database, try_notice, try_utf8};
	if (size < 1 || size > 4096)
		return 0;
	const char *at = (const char *)data + 1, *end = (const char *)data + size;
	size_t n, m;
	char *a = next_line(&at, end, &n), *b = next_line(&at, end, &m);
	readers[data[0] % (sizeof readers / sizeof *readers)](a, n, b, m);
	free(a);
	free(b);
	return 0;
}
