/* The list of findings. One thread at a time, no I/O. Messages contain bits of files that anyone may have
 * written: whatever comes from outside goes through quote_text() before it is put into a message, so a
 * message is one line and moves no cursor. */
#include "daemon/template/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/json_out.h"

static const char *const severity_names[] = {[FINDING_ERROR] = "error", [FINDING_WARNING] = "warning"};

void findings_done(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->items[i].key);
		free(f->items[i].message);
	}
	free(f->items);
	*f = (struct findings){0};
}

static struct finding *new_item(struct findings *f)
{
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 8;
		struct finding *items = reallocarray(f->items, cap, sizeof *items);
		if (!items)
			return NULL;
		f->items = items;
		f->cap = cap;
	}
	return &f->items[f->n];
}

__attribute__((format(printf, 4, 0))) static void store(struct findings *f, struct finding item,
                                                        const char *key, const char *fmt, va_list ap)
{
	struct finding *slot = new_item(f);
	item.key = slot ? strdup(key ? key : "") : NULL;
	if (!item.key || vasprintf(&item.message, fmt, ap) < 0) {
		free(item.key);
		f->failed = true;
		return;
	}
	*slot = item;
	f->n++;
}

void findings_add(struct findings *f, enum severity severity, unsigned line, unsigned column, const char *key,
                  const char *fmt, ...)
{
	if (f->strict)
		severity = FINDING_ERROR;
	f->errors += severity == FINDING_ERROR;
	if (f->n >= FINDINGS_MAX) {
		f->dropped++;
		return;
	}
	va_list ap;
	va_start(ap, fmt);
	store(f, (struct finding){.severity = severity, .line = line, .column = column}, key, fmt, ap);
	va_end(ap);
}

static int by_place(const void *va, const void *vb)
{
	const struct finding *a = va, *b = vb;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	if (a->column != b->column)
		return a->column < b->column ? -1 : 1;
	if (a->severity != b->severity)
		return a->severity < b->severity ? -1 : 1;
	int by_key = strcmp(a->key, b->key);
	return by_key ? by_key : strcmp(a->message, b->message);
}

__attribute__((format(printf, 2, 3))) static void add_summary(struct findings *f, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	store(f, (struct finding){.severity = f->errors ? FINDING_ERROR : FINDING_WARNING}, NULL, fmt, ap);
	va_end(ap);
}

void findings_finish(struct findings *f, size_t from)
{
	if (from < f->n)
		qsort(f->items + from, f->n - from, sizeof *f->items, by_place);
	if (f->dropped > 0)
		add_summary(f, "%zu more findings are not shown: correct these first", f->dropped);
}

int findings_to_json(const struct findings *f, const char *filename, struct buf *out)
{
	buf_append_char(out, '[');
	for (size_t i = 0; i < f->n; i++) {
		const struct finding *it = &f->items[i];
		buf_append_str(out, i ? ",{\"severity\":" : "{\"severity\":");
		json_put_cstr(out, severity_names[it->severity]);
		buf_append_str(out, ",\"file\":");
		json_put_cstr(out, filename);
		buf_printf(out, ",\"line\":%u,\"column\":%u,\"key\":", it->line, it->column);
		json_put_cstr(out, it->key);
		buf_append_str(out, ",\"message\":");
		json_put_cstr(out, it->message);
		buf_append_char(out, '}');
	}
	buf_append_char(out, ']');
	return out->failed;
}

int findings_to_text(const struct findings *f, const char *filename, struct buf *out)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct finding *it = &f->items[i];
		buf_append_str(out, filename);
		if (it->line > 0)
			buf_printf(out, ":%u:%u", it->line, it->column);
		buf_printf(out, ": %s: ", severity_names[it->severity]);
		if (*it->key)
			buf_printf(out, "%s: ", it->key);
		buf_printf(out, "%s\n", it->message);
	}
	return out->failed;
}

static bool is_simple_key(const char *key)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	return *key && key[strspn(key, ok)] == '\0' && strlen(key) <= 64;
}

void path_put_key(struct buf *path, const char *key)
{
	if (is_simple_key(key)) {
		if (path->len > 0)
			buf_append_char(path, '.');
		buf_append_str(path, key);
	} else {
		buf_printf(path, "[%s]", QUOTE(key));
	}
}

void path_put_index(struct buf *path, size_t index)
{
	buf_printf(path, "[%zu]", index);
}

/* Append one character of the source (`n` bytes at `p`) in printable form; false if there is no room. */
static bool quote_char(char *dst, size_t *pos, size_t limit, const char *p, size_t n)
{
	unsigned char c = (unsigned char)p[0];
	bool control =
	    (n == 1 && (c < 0x20 || c == 0x7f)) || (n == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0);
	bool escape = n == 1 && (c == '"' || c == '\\');
	size_t need = control ? 6 : n + (escape ? 1 : 0);
	if (*pos + need > limit)
		return false;
	if (control) {
		snprintf(dst + *pos, 7, "\\u%04x", n == 1 ? (unsigned)c : (unsigned)(unsigned char)p[1]);
	} else {
		if (escape)
			dst[(*pos)++] = '\\';
		memcpy(dst + *pos, p, n);
		need = n;
	}
	*pos += need;
	return true;
}

const char *quote_text(struct quoted *q, const char *text, size_t len)
{
	size_t pos = 0, limit = sizeof q->text - 8; /* room for ..." and NUL */
	q->text[pos++] = '"';
	for (size_t i = 0; i < len;) {
		size_t n = 1;
		while (i + n < len && n < 4 && ((unsigned char)text[i + n] & 0xC0) == 0x80)
			n++;
		if (pos > 64 || !quote_char(q->text, &pos, limit, text + i, n)) {
			memcpy(q->text + pos, "...", 3);
			pos += 3;
			break;
		}
		i += n;
	}
	q->text[pos++] = '"';
	q->text[pos] = '\0';
	return q->text;
}

const char *show_name(struct quoted *q, const char *name)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t len = strlen(name);
	if (len > 0 && len <= 64 && strspn(name, ok) == len)
		return name;
	return quote_text(q, name, len);
}
