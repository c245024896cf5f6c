/* Ids of the events of a task's stream: how far its client has come. "TIME", the second of the same time and later ones
 * "TIME/2"; and if older ones may still be committed, ";FROM;HASH,HASH...": from when on, and which of that time the
 * client has. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/core/rfc3339.h"
#include "daemon/http/stream_mark.h"

#define TIME_LEN (sizeof "2030-01-31T09:00:00.000000Z" - 1)

/* Times as the database writes them, all of one length, sort as text. */
bool stream_is_time(const char *text, size_t len)
{
	return len == TIME_LEN && text[len - 1] == 'Z' && text[10] == 'T' && rfc3339_valid(text, len);
}

bool stream_mark_read(const char *id, struct stream_mark *ret)
{
	size_t n = id ? strcspn(id, "/;") : 0;
	unsigned long nth = 1;
	char *end = NULL;
	*ret = (struct stream_mark){0};
	if (n == 0 || !stream_is_time(id, n))
		return false;
	if (id[n] == '/' && (!isdigit((unsigned char)id[n + 1]) || (nth = strtoul(id + n + 1, &end, 10)) > UINT32_MAX ||
	                     (*end && *end != ';')))
		return false;
	memcpy(ret->at, id, n);
	ret->nth = (unsigned)nth;
	return true;
}

bool stream_mark_move(struct stream_mark *m, const char *at, size_t len)
{
	if (!stream_is_time(at, len))
		return false;
	bool same = memcmp(m->at, at, len) == 0;
	memcpy(m->at, at, len);
	m->nth = same ? m->nth + 1 : 1;
	return true;
}

bool stream_mark_covers(const struct stream_mark *seen, const struct stream_mark *m)
{
	int order = strcmp(m->at, seen->at);
	return order < 0 || (order == 0 && m->nth <= seen->nth);
}

void stream_late_add(struct stream_late *l, const char *at, uint32_t hash)
{
	snprintf(l->sent[l->next].at, sizeof l->sent->at, "%s", at);
	l->sent[l->next].hash = hash;
	l->next = (l->next + 1) % LATE_MAX;
	if (l->n < LATE_MAX)
		l->n++;
}

void stream_late_read(const char *id, struct stream_late *ret)
{
	const char *p = strchr(id, ';');
	*ret = (struct stream_late){0};
	if (!p || strlen(p) < TIME_LEN + 2 || !stream_is_time(p + 1, TIME_LEN) || p[TIME_LEN + 1] != ';')
		return;
	memcpy(ret->from, p + 1, TIME_LEN);
	for (p += TIME_LEN + 2; isxdigit((unsigned char)*p) && ret->n < LATE_MAX;) {
		char *end;
		stream_late_add(ret, "", (uint32_t)strtoul(p, &end, 16));
		p = end + (*end == ',');
	}
}

bool stream_late_is_new(const struct stream_late *l, const char *at, uint32_t hash)
{
	if (!l->from[0] || strcmp(at, l->from) < 0)
		return false;
	for (unsigned i = 0; i < l->n; i++)
		if (l->sent[i].hash == hash)
			return false;
	return true;
}

size_t stream_id(const struct stream_mark *m, const struct stream_late *l, char text[static STREAM_ID])
{
	int n = snprintf(text, STREAM_ID, "%s", m->at);
	if (m->nth > 1)
		n += snprintf(text + n, STREAM_ID - (size_t)n, "/%u", m->nth);
	if (!l->from[0] || strcmp(l->from, m->at) > 0)
		return (size_t)n;
	n += snprintf(text + n, STREAM_ID - (size_t)n, ";%s;", l->from);
	const char *comma = "";
	for (unsigned i = 0; i < l->n; i++)
		if (strcmp(l->sent[i].at, l->from) >= 0) {
			n += snprintf(text + n, STREAM_ID - (size_t)n, "%s%x", comma, l->sent[i].hash);
			comma = ",";
		}
	return (size_t)n;
}
