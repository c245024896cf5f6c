#include "daemon/store/notice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 1000u

void notice_reset(struct notice *p)
{
	buf_done(&p->text);
	*p = (struct notice){0};
	buf_init(&p->text, NOTICE_MAX);
}

/* The next word, which a space ends; false if there is none or it does not fit. */
static bool next_word(const char **at, char *out, size_t size)
{
	size_t n = strcspn(*at, " ");
	if (n == 0 || n >= size || (*at)[n] != ' ')
		return false;
	memcpy(out, *at, n);
	out[n] = '\0';
	*at += n + 1;
	return true;
}

static bool next_number(const char **at, unsigned max, unsigned *ret)
{
	char word[16], *end;
	if (!next_word(at, word, sizeof word) || word[0] < '0' || word[0] > '9')
		return false;
	unsigned long v = strtoul(word, &end, 10);
	*ret = (unsigned)v;
	return *end == '\0' && v <= max;
}

static struct done *queue_has(const char *ns)
{
	struct done *d =
		strlen(ns) > 0 && strlen(ns) < sizeof((struct fired *)0)->ns ? done_new(DONE_NOTIFY_EVENTS) : NULL;
	if (d)
		done_add_event(d, ns, 0, NULL, 0);
	return d;
}

/* True when the event is whole. */
static bool add_piece(struct notice *p, const char *at)
{
	char id[sizeof p->id];
	unsigned part = 0, parts = 0;
	bool sound = next_word(&at, id, sizeof id) && next_number(&at, PARTS_MAX, &part) &&
	             next_number(&at, PARTS_MAX, &parts) && part >= 1 && part <= parts;
	if (sound && part == 1) {
		notice_reset(p);
		snprintf(p->id, sizeof p->id, "%s", id);
		p->parts = parts;
		p->next = 1;
	}
	if (!sound || part != p->next || parts != p->parts || strcmp(id, p->id) != 0) {
		notice_reset(p);
		return false;
	}
	buf_append_str(&p->text, at);
	p->next++;
	return part == parts && !p->text.failed;
}

struct done *notice_read(struct notice *p, int own_node, const char *payload)
{
	unsigned node = 0;
	const char *at = payload + 2;
	if (strncmp(payload, "q ", 2) != 0 && strncmp(payload, "e ", 2) != 0)
		return NULL;
	if (!next_number(&at, INT32_MAX, &node) || (int)node == own_node)
		return NULL;
	if (payload[0] == 'q')
		return queue_has(at);
	if (!add_piece(p, at))
		return NULL;
	struct done *d = done_new(DONE_NOTIFY_EVENTS);
	if (d && buf_text(&p->text))
		done_add_event(d, "", 1, buf_text(&p->text), p->text.len);
	notice_reset(p);
	return d;
}
