/* Words, numbers and times as people write and read them. Pure: no I/O, no clock, no locale but that of
 * wcwidth(). */
#include "clients/taskerctl/text.h"

#include <ctype.h>
#include <errno.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

/* ---- terminals ---- */

/* One character: its length in bytes, its code point. Bytes that are no UTF-8 count as one character each. */
static size_t decode(const unsigned char *s, uint32_t *ret)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC0 ? 2 : 0;
	uint32_t c = n == 4 ? s[0] & 0x07 : n == 3 ? s[0] & 0x0F : n == 2 ? s[0] & 0x1F : s[0];
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xC0) != 0x80)
			n = 0;
		else
			c = c << 6 | (s[i] & 0x3F);
	}
	*ret = n ? c : 0xFFFD;
	return n ? n : 1;
}

/* C0, DEL, C1, the marks that turn the direction of writing around, and what else ends a line. */
static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0x200E || c == 0x200F || c == 0x2028 || c == 0x2029 || c == 0xFFFD;
}

static size_t columns(uint32_t c)
{
	int w = is_control(c) ? 1 : wcwidth((wchar_t)c);
	return w < 0 ? 1 : (size_t)w;
}

size_t text_width(const char *s)
{
	size_t w = 0;
	uint32_t c;
	for (const unsigned char *p = (const unsigned char *)s; *p;) {
		p += decode(p, &c);
		w += columns(c);
	}
	return w;
}

size_t text_put(struct buf *b, const char *s, size_t max_cols)
{
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	bool cut = max_cols && text_width(s) > max_cols;
	size_t room = cut ? max_cols - 1 : SIZE_MAX, w = 0;
	uint32_t c;
	for (const unsigned char *p = (const unsigned char *)s; *p;) {
		size_t n = decode(p, &c);
		if (w + columns(c) > room)
			break;
		if (is_control(c))
			buf_append_char(b, c == '\n' || c == '\t' ? ' ' : '?');
		else
			buf_append(b, p, n);
		w += columns(c);
		p += n;
	}
	if (!cut)
		return w;
	buf_append_str(b, utf8 ? "\xe2\x80\xa6" : "~");
	return w + 1;
}

/* The length of a colour at `p`, one of those that we use; 0 if there is none. What hides or covers text is none of
 * them. */
static size_t colour_length(const unsigned char *p)
{
	static const char *const ours[] = {"\033[0m",  "\033[1m",  "\033[2m", "\033[31m",
	                                   "\033[32m", "\033[33m", "\033[36m"};
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (strncmp((const char *)p, ours[i], strlen(ours[i])) == 0)
			return strlen(ours[i]);
	return 0;
}

void text_put_lines(struct buf *b, const char *s)
{
	uint32_t c;
	for (const unsigned char *p = (const unsigned char *)s; *p;) {
		size_t colour = colour_length(p), n = colour ? colour : decode(p, &c);
		if (colour || *p == '\n' || !is_control(c))
			buf_append(b, p, n);
		else
			buf_append_char(b, *p == '\t' ? ' ' : '?');
		p += n;
	}
}

void text_put_json(struct buf *b, const char *json)
{
	uint32_t c;
	for (const unsigned char *p = (const unsigned char *)json; *p;) {
		size_t n = decode(p, &c);
		if (is_control(c) && *p != '\n')
			buf_printf(b, "\\u%04x", (unsigned)c);
		else
			buf_append(b, p, n);
		p += n;
	}
}

void text_copy(char *dst, size_t size, const char *s)
{
	struct buf b;
	buf_init(&b, 0);
	text_put(&b, s, 0);
	const char *t = buf_text(&b);
	snprintf(dst, size, "%s", t ? t : "");
	buf_done(&b);
}

/* ---- durations and times ---- */

const char *text_duration(int64_t us, char dst[24])
{
	long long s = us / 1000000;
	if (us < 0)
		snprintf(dst, 24, "-");
	else if (us < 1000)
		snprintf(dst, 24, "%lldus", (long long)us);
	else if (us < 1000000)
		snprintf(dst, 24, "%lldms", (long long)us / 1000);
	else if (us < 60000000)
		snprintf(dst, 24, "%lld.%02llds", s, (long long)us / 10000 % 100);
	else if (s < 3600)
		snprintf(dst, 24, "%lldm%02llds", s / 60, s % 60);
	else if (s < 86400)
		snprintf(dst, 24, "%lldh%02lldm", s / 3600, s / 60 % 60);
	else
		snprintf(dst, 24, "%lldd%02lldh", s / 86400, s / 3600 % 24);
	return dst;
}

static int64_t unit_ms(const char *unit, size_t n)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (strlen(units[i].name) == n && memcmp(units[i].name, unit, n) == 0)
			return units[i].ms;
	return 0;
}

#define TEN_YEARS_MS (3652LL * 86400000)

int parse_duration(const char *s, int64_t *ret_ms)
{
	int64_t total = 0;
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	while (*s) {
		char *end;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		errno = 0;
		unsigned long long v = strtoull(s, &end, 10);
		size_t n = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		int64_t unit = n ? unit_ms(end, n) : 1000, part;
		if (unit == 0 || (n == 0 && *end))
			return -EINVAL;
		if (errno || v > (unsigned long long)TEN_YEARS_MS ||
		    __builtin_mul_overflow((int64_t)v, unit, &part) ||
		    __builtin_add_overflow(total, part, &total) || total > TEN_YEARS_MS)
			return -ERANGE;
		s = end + n;
	}
	*ret_ms = total;
	return 0;
}

/* Digits at the given places of "YYYY-MM-DDTHH:MM:SS". */
static int two_digits(const char *s)
{
	if (!isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]))
		return -1;
	return (s[0] - '0') * 10 + (s[1] - '0');
}

static int parse_zone(const char *s, int64_t *ret_us)
{
	if ((*s == 'Z' || *s == 'z') && s[1] == '\0')
		return 0;
	if ((*s != '+' && *s != '-') || strlen(s) != 6 || s[3] != ':')
		return -EINVAL;
	int h = two_digits(s + 1), m = two_digits(s + 4);
	if (h < 0 || m < 0)
		return -EINVAL;
	*ret_us -= (*s == '+' ? 1 : -1) * (int64_t)(h * 60 + m) * 60000000;
	return 0;
}

/* Neither the 45th of a month nor half past 25. */
static bool is_date(const struct tm *tm)
{
	struct tm back = *tm;
	back.tm_sec = 0;
	timegm(&back);
	return back.tm_mon == tm->tm_mon && back.tm_mday == tm->tm_mday && back.tm_hour == tm->tm_hour &&
	       back.tm_min == tm->tm_min && tm->tm_sec <= 60;
}

int parse_time(const char *s, int64_t *ret_us)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	for (size_t i = 0; shape[i]; i++) {
		bool fits = shape[i] == 'd'
		                ? isdigit((unsigned char)s[i]) != 0
		                : s[i] == shape[i] || (shape[i] == 'T' && (s[i] == ' ' || s[i] == 't'));
		if (!fits)
			return -EINVAL;
	}
	struct tm tm = {.tm_year = two_digits(s) * 100 + two_digits(s + 2) - 1900,
	                .tm_mon = two_digits(s + 5) - 1,
	                .tm_mday = two_digits(s + 8),
	                .tm_hour = two_digits(s + 11),
	                .tm_min = two_digits(s + 14),
	                .tm_sec = two_digits(s + 17)};
	if (!is_date(&tm))
		return -EINVAL;
	int64_t us = (int64_t)timegm(&tm) * 1000000, place = 100000;
	s += sizeof shape - 1;
	if (*s == '.')
		for (s++; isdigit((unsigned char)*s); s++, place /= 10)
			us += (*s - '0') * place;
	int rc = parse_zone(s, &us);
	if (rc == 0)
		*ret_us = us;
	return rc;
}

int parse_int(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	char *end;
	errno = 0;
	long long v = strtoll(s, &end, 10);
	if (errno || end == s || *end || isspace((unsigned char)*s) || v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* ---- names ---- */

static int take(char *dst, size_t size, const char *s, size_t n)
{
	if (n == 0 || n >= size)
		return -EINVAL;
	memcpy(dst, s, n);
	dst[n] = '\0';
	return 0;
}

int parse_template_ref(const char *s, struct template_ref *ret)
{
	const char *at = strrchr(s, '@'), *end = at ? at : s + strlen(s);
	const char *slash = memchr(s, '/', (size_t)(end - s)), *name = slash ? slash + 1 : s;
	*ret = (struct template_ref){.space = "default"};
	if (slash && take(ret->space, sizeof ret->space, s, (size_t)(slash - s)) < 0)
		return -EINVAL;
	if (at && take(ret->version, sizeof ret->version, at + 1, strlen(at + 1)) < 0)
		return -EINVAL;
	if (memchr(name, '/', (size_t)(end - name)))
		return -EINVAL;
	return take(ret->name, sizeof ret->name, name, (size_t)(end - name));
}

bool is_uuid(const char *s)
{
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return s[36] == '\0';
}
