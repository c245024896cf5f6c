/* Where records of the log go: the journal with all their fields, or a line each on standard error, as text or as a
 * JSON object. */
#define SD_JOURNAL_SUPPRESS_LOCATION /* it would name this file */
#include "daemon/base/log_out.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "protocol/buf.h"
#include "protocol/utf8.h"

#define MAX_FIELDS 20
#define OWN_FIELDS 6

/* As a compiler is given paths from a build directory. */
static const char *source_path(const char *file)
{
	while (strncmp(file, "../", 3) == 0)
		file += 3;
	return file;
}

/* The journal ------------------------------------------------------------------------------------------------------ */

static void add(struct iovec *iov, int *n, const char *text)
{
	iov[(*n)++] = (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

int log_to_journal(const struct log_record *r)
{
	char store[MAX_FIELDS][320], text[1200], prio[16], id[64], file[160], line[32], func[96];
	struct iovec iov[MAX_FIELDS + OWN_FIELDS];
	int n = 0;
	snprintf(text, sizeof text, "MESSAGE=%s", r->message);
	snprintf(prio, sizeof prio, "PRIORITY=%d", (int)r->level);
	snprintf(file, sizeof file, "CODE_FILE=%s", source_path(r->where->file));
	snprintf(line, sizeof line, "CODE_LINE=%d", r->where->line);
	snprintf(func, sizeof func, "CODE_FUNC=%s", r->where->func);
	add(iov, &n, text);
	add(iov, &n, prio);
	add(iov, &n, file);
	add(iov, &n, line);
	add(iov, &n, func);
	if (r->message_id) {
		snprintf(id, sizeof id, "MESSAGE_ID=%s", r->message_id);
		add(iov, &n, id);
	}
	const char *const *f = r->fields;
	for (int i = 0; f && f[0] && i < MAX_FIELDS; f += 2) {
		if (!f[1])
			continue;
		snprintf(store[i], sizeof store[i], "%s=%s", f[0], f[1]);
		add(iov, &n, store[i++]);
	}
	return sd_journal_sendv(iov, n) >= 0;
}

/* Lines ------------------------------------------------------------------------------------------------------------ */

/* 2030-01-31T09:00:00.123Z */
static const char *put_time(char out[40])
{
	struct timespec ts;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 40 - n, ".%03ldZ", ts.tv_nsec / 1000000);
	return out;
}

static void put_line(const char *line, size_t n)
{
	ssize_t ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}

/* How many bytes at `s` make a character with which a peer could forge another record, or steer the terminal of whoever
 * reads it: C0, DEL, C1, other ends of lines, marks that turn the direction of writing around. 0: none. */
static size_t steers(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	if (p[0] < 0x20 || p[0] == 0x7f)
		return 1;
	if (n > 1 && p[0] == 0xc2 && p[1] < 0xa0)
		return 2;
	bool marks = n > 2 && p[0] == 0xe2 &&
	             ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
	return marks ? 3 : 0;
}

void log_to_text(const struct log_record *r)
{
	char line[2048], when[40];
	int w = snprintf(line, sizeof line, "%s %-5s %s", put_time(when), log_level_name(r->level), r->message);
	size_t n = w < 0 ? 0 : (size_t)w < sizeof line ? (size_t)w : sizeof line - 1;
	for (const char *const *f = r->fields; f && f[0] && n < sizeof line - 2; f += 2) {
		if (!f[1])
			continue;
		w = snprintf(line + n, sizeof line - n, " %s=%s", f[0], f[1]);
		n = w < 0 ? n : n + (size_t)w < sizeof line - 1 ? n + (size_t)w : sizeof line - 2;
	}
	for (size_t i = 0, k; i < n; i += k ? k : 1)
		if ((k = steers(line + i, n - i)))
			memset(line + i, ' ', k);
	if (n > sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	put_line(line, n);
}

/* Bytes that are no UTF-8 become U+FFFD. */
static void put_string(struct buf *b, const char *s)
{
	size_t n = strlen(s);
	buf_append_char(b, '"');
	while (n > 0) {
		size_t good = utf8_span(s, n);
		for (size_t i = 0, k; i < good; i += k ? k : 1) {
			const unsigned char *c = (const unsigned char *)s + i;
			k = steers(s + i, good - i);
			if (k == 0 && (*c == '"' || *c == '\\'))
				buf_append_char(b, '\\');
			if (k == 0)
				buf_append_char(b, s[i]);
			else
				buf_printf(b, "\\u%04x",
				           k == 1   ? *c
				           : k == 2 ? c[1]
				                    : 0x2000u | (c[1] & 0x3fu) << 6 | (c[2] & 0x3fu));
		}
		s += good;
		n -= good;
		if (n > 0) {
			buf_append_str(b, "\xef\xbf\xbd");
			s++;
			n--;
		}
	}
	buf_append_char(b, '"');
}

static void put_pair(struct buf *b, const char *key, const char *value)
{
	if (!value)
		return;
	buf_append_char(b, b->len > 0 ? ',' : '{');
	put_string(b, key);
	buf_append_char(b, ':');
	put_string(b, value);
}

static const char *lower(const char *name, char out[64])
{
	size_t n = 0;
	for (; n < 63 && name[n]; n++)
		out[n] = (char)tolower((unsigned char)name[n]);
	out[n] = '\0';
	return out;
}

/* TASKER_TASK is "task". */
static void put_field(struct buf *b, const char *name, const char *value)
{
	char key[64];
	put_pair(b, lower(name + (strncmp(name, "TASKER_", 7) == 0 ? 7 : 0), key), value);
}

void log_to_json(const struct log_record *r)
{
	struct buf b;
	char when[40], key[64];
	buf_init(&b, 0);
	put_pair(&b, "time", put_time(when));
	put_pair(&b, "level", log_level_name(r->level));
	put_pair(&b, "message", r->message);
	if (r->event)
		put_pair(&b, "event", lower(r->event, key));
	for (const char *const *f = r->fields; f && f[0]; f += 2)
		put_field(&b, f[0], f[1]);
	buf_append_str(&b, "}\n");
	if (b.failed)
		log_to_text(r);
	else
		put_line((const char *)b.data, b.len);
	buf_done(&b);
}
