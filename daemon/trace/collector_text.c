#include "daemon/trace/collector_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/cleanup.h"

static const char digits[] = "0123456789";

/* Past ":PORT", if it is there; NULL: it is no port. */
static const char *skip_port(const char *p)
{
	if (*p != ':')
		return p;
	size_t n = strspn(p + 1, digits);
	unsigned long port = n > 0 && n <= 5 ? strtoul(p + 1, NULL, 10) : 0;
	return port > 0 && port < 65536 ? p + 1 + n : NULL;
}

static const char *skip_host(const char *p)
{
	size_t n;
	if (*p == '[') {
		n = strspn(p + 1, "0123456789abcdefABCDEF:.");
		return n > 1 && p[1 + n] == ']' ? p + n + 2 : NULL;
	}
	n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
	return n > 0 ? p + n : NULL;
}

bool collector_url_ok(const char *url)
{
	const char *p = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
	p = p ? skip_host(p) : NULL;
	p = p ? skip_port(p) : NULL;
	if (!p || (*p && *p != '/'))
		return false;
	for (; *p; p++)
		if (!isgraph((unsigned char)*p) || strchr("?#\"<>\\^`{|}", *p))
			return false;
	return true;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
	                                    : -1;
}

/* Unescape and copy. NULL: a % without two digits after it, or what has no place in a header. */
static char *value_of(const char *p, size_t n)
{
	char *out = malloc(n + 1), *to = out;
	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)p[i];
		if (c == '%') {
			int high = i + 2 < n ? hex_digit(p[i + 1]) : -1, low = high >= 0 ? hex_digit(p[i + 2]) : -1;
			c = low >= 0 ? high << 4 | low : 0;
			i += 2;
		}
		if (c < 0x20 || c > 0x7e) {
			free(out);
			return NULL;
		}
		*to++ = (char)c;
	}
	*to = '\0';
	return out;
}

char *collector_next_header(const char **at)
{
	static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	char *line = NULL;
	*at += strspn(*at, " ,");
	const char *name = *at, *p = name;
	size_t n = strspn(name, name_chars);
	if (n == 0 || name[n] != '=')
		return NULL;
	p += n + 1;
	p += strspn(p, " ");
	size_t len = strcspn(p, ",");
	*at = p + len;
	while (len > 0 && p[len - 1] == ' ')
		len--;
	cleanup_(cleanup_free) char *value = len > 0 ? value_of(p, len) : NULL;
	if (!value || asprintf(&line, "%.*s: %s", (int)n, name, value) < 0) {
		*at = name;
		return NULL;
	}
	return line;
}

bool collector_headers_ok(const char *text)
{
	unsigned n = 0;
	for (char *line; (line = collector_next_header(&text)); n++)
		free(line);
	return n > 0 && !*text;
}
