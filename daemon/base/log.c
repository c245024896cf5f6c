#include "daemon/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <systemd/sd-journal.h>

static _Atomic int max_level = LOG_LV_INFO;
static _Atomic int to_journal;

/* systemd sets JOURNAL_STREAM=dev:inode; it holds only if our stderr is still that stream. */
static int stderr_is_journal(void)
{
	const char *v = getenv("JOURNAL_STREAM");
	struct stat st;
	char buf[64];
	if (!v || fstat(STDERR_FILENO, &st) < 0)
		return 0;
	snprintf(buf, sizeof buf, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(v, buf) == 0;
}

void log_init(enum log_level lv)
{
	max_level = (int)lv;
	to_journal = stderr_is_journal();
}

int log_level_parse(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level lv;
	} names[] = {{"error", LOG_LV_ERROR}, {"warn", LOG_LV_WARN}, {"info", LOG_LV_INFO}, {"debug", LOG_LV_DEBUG}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcasecmp(name, names[i].name) == 0) {
			*ret = names[i].lv;
			return 0;
		}
	return -EINVAL;
}

static const char *level_name(enum log_level lv)
{
	return lv <= LOG_LV_ERROR ? "error" : lv <= LOG_LV_WARN ? "warn" : lv <= LOG_LV_INFO ? "info" : "debug";
}

#define MAX_FIELDS 12

static void send_journal(enum log_level lv, const char *msg, const char *const *fields)
{
	char store[MAX_FIELDS][256];
	struct iovec iov[MAX_FIELDS + 2];
	char text[1200], prio[16];
	int n = 0;
	snprintf(text, sizeof text, "MESSAGE=%s", msg);
	snprintf(prio, sizeof prio, "PRIORITY=%d", (int)lv);
	iov[n++] = (struct iovec){text, strlen(text)};
	iov[n++] = (struct iovec){prio, strlen(prio)};
	for (int i = 0; fields && fields[0] && i < MAX_FIELDS; fields += 2, i++) {
		if (!fields[1])
			continue;
		snprintf(store[i], sizeof store[i], "%s=%s", fields[0], fields[1]);
		iov[n++] = (struct iovec){store[i], strlen(store[i])};
	}
	sd_journal_sendv(iov, n);
}

static void send_stderr(enum log_level lv, const char *msg, const char *const *fields)
{
	char line[2048], when[32];
	struct timespec ts;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	size_t n = 0;
	int w = snprintf(line, sizeof line, "%s.%03ldZ %-5s %s", when, ts.tv_nsec / 1000000, level_name(lv), msg);
	n = w < 0 ? 0 : (size_t)w < sizeof line ? (size_t)w : sizeof line - 1;
	for (; fields && fields[0] && n < sizeof line - 2; fields += 2) {
		if (!fields[1])
			continue;
		w = snprintf(line + n, sizeof line - n, " %s=%s", fields[0], fields[1]);
		n = w < 0 ? n : n + (size_t)w < sizeof line - 1 ? n + (size_t)w : sizeof line - 2;
	}
	for (size_t i = 0; i < n; i++) /* one record, one line: a peer cannot forge another */
		if ((unsigned char)line[i] < 0x20)
			line[i] = ' ';
	if (n > sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}

void log_fields(enum log_level lv, const char *const *fields, const char *fmt, ...)
{
	if ((int)lv > max_level)
		return;
	char msg[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	if (to_journal)
		send_journal(lv, msg, fields);
	else
		send_stderr(lv, msg, fields);
}

int ratelimit_ok(struct ratelimit *r, unsigned long long now_us, unsigned *ret_suppressed)
{
	if (now_us - r->window_start >= r->window_us) {
		r->window_start = now_us;
		r->used = 0;
	}
	if (r->used >= r->burst) {
		r->suppressed++;
		return 0;
	}
	r->used++;
	*ret_suppressed = r->suppressed;
	r->suppressed = 0;
	return 1;
}
