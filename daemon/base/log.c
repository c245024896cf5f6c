#include "daemon/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log_out.h"

#define JOURNAL "/run/systemd/journal/socket"

static _Atomic int max_level = LOG_LV_INFO;
static _Atomic int to = LOG_FORMAT_TEXT;

const char *const log_format_names[LOG_FORMAT_COUNT] = {[LOG_FORMAT_AUTO] = "auto",
                                                        [LOG_FORMAT_TEXT] = "text",
                                                        [LOG_FORMAT_JSON] = "json",
                                                        [LOG_FORMAT_JOURNAL] = "journal"};

static const struct {
	const char *name, *id;
	enum log_level level;
} events[LOG_EVENT_COUNT] = {
#define X(name, id, level) [LOG_##name] = {#name, id, LOG_LV_##level},
    LOG_EVENTS(X)
#undef X
};

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

void log_init(enum log_level lv, enum log_format format)
{
	max_level = (int)lv;
	if (format == LOG_FORMAT_AUTO)
		format = stderr_is_journal() ? LOG_FORMAT_JOURNAL : LOG_FORMAT_TEXT;
	if (format == LOG_FORMAT_JOURNAL && access(JOURNAL, F_OK) < 0) /* what is sent then vanishes without a word */
		format = LOG_FORMAT_TEXT;
	to = (int)format;
}

static const struct {
	const char *name;
	enum log_level lv;
} levels[] = {{"error", LOG_LV_ERROR}, {"warn", LOG_LV_WARN}, {"info", LOG_LV_INFO}, {"debug", LOG_LV_DEBUG}};
#define N_LEVELS (sizeof levels / sizeof *levels)

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < N_LEVELS; i++)
		if (strcasecmp(name, levels[i].name) == 0) {
			*ret = levels[i].lv;
			return 0;
		}
	return -EINVAL;
}

const char *log_level_name(enum log_level lv)
{
	size_t i = 0;
	while (i < N_LEVELS - 1 && lv > levels[i].lv)
		i++;
	return levels[i].name;
}

enum log_level log_event_level(enum log_event event)
{
	return events[event].level;
}

int log_wants(enum log_level lv)
{
	return (int)lv <= max_level;
}

void log_write(enum log_level lv, enum log_event event, const struct log_where *where, const char *const *fields,
               const char *fmt, ...)
{
	if (!log_wants(lv))
		return;
	char msg[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	struct log_record r = {.level = lv,
	                       .event = events[event].name,
	                       .message_id = events[event].id,
	                       .where = where,
	                       .message = msg,
	                       .fields = fields};
	if (to == LOG_FORMAT_JSON)
		log_to_json(&r);
	else if (to != LOG_FORMAT_JOURNAL || !log_to_journal(&r))
		log_to_text(&r);
}

int ratelimit_ok(struct ratelimit *r, unsigned long long now_us, char ret_left_out[static LEFT_OUT_MAX])
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
	ret_left_out[0] = '\0';
	if (r->suppressed > 0)
		snprintf(ret_left_out, LEFT_OUT_MAX, " (%u messages like this left out before)", r->suppressed);
	r->suppressed = 0;
	return 1;
}
