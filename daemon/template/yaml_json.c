/* The JSON front end. A first pass over the text only decides whether it is JSON by the letter; then a second
 * pass builds, so that nothing is reported for text that turns out to be YAML. Recursion is bounded by the
 * limit on depth. */
#include "daemon/template/yaml_build.h"

#include <errno.h>
#include <string.h>

#define NOT_JSON 1

struct json {
	const char *p, *end;
	struct builder *b; /* NULL in the first pass */
	unsigned depth, max_depth;
	struct buf text; /* of the string being read */
	const char *mark_p;
	struct mark mark; /* place of mark_p */
};

static struct mark here(struct json *j)
{
	for (; j->mark_p < j->p; j->mark_p++) {
		unsigned char c = (unsigned char)*j->mark_p;
		if (c == '\n' || (c == '\r' && !(j->mark_p + 1 < j->end && j->mark_p[1] == '\n')))
			j->mark = (struct mark){j->mark.line + 1, 1};
		else if ((c & 0xC0) != 0x80)
			j->mark.column++;
	}
	return j->mark;
}

static char peek(const struct json *j)
{
	return j->p < j->end ? *j->p : '\0';
}

static void skip_blanks(struct json *j)
{
	while (j->p < j->end && memchr(" \t\r\n", *j->p, 4))
		j->p++;
}

static bool take(struct json *j, char c)
{
	skip_blanks(j);
	if (peek(j) != c)
		return false;
	j->p++;
	return true;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex4(struct json *j, uint32_t *ret)
{
	uint32_t v = 0;
	for (int i = 0; i < 4; i++) {
		int d = hex_value(peek(j));
		if (d < 0)
			return false;
		v = v << 4 | (uint32_t)d;
		j->p++;
	}
	*ret = v;
	return true;
}

static void put_utf8(struct buf *out, uint32_t c)
{
	if (c < 0x80) {
		buf_append_char(out, (char)c);
		return;
	}
	unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
	buf_append_char(out, (char)(lead[more] | c >> (6 * more)));
	while (more-- > 0)
		buf_append_char(out, (char)(0x80 | ((c >> (6 * more)) & 0x3F)));
}

static int take_unicode(struct json *j)
{
	uint32_t c = 0, low = 0;
	if (!take_hex4(j, &c))
		return NOT_JSON;
	if (c >= 0xD800 && c <= 0xDBFF) {
		if (j->end - j->p < 6 || j->p[0] != '\\' || j->p[1] != 'u')
			return NOT_JSON;
		j->p += 2;
		if (!take_hex4(j, &low) || low < 0xDC00 || low > 0xDFFF)
			return NOT_JSON;
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	} else if (c >= 0xDC00 && c <= 0xDFFF) {
		return NOT_JSON;
	}
	put_utf8(&j->text, c);
	return 0;
}

static int take_escape(struct json *j)
{
	static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	char c = peek(j);
	j->p++;
	if (c == 'u')
		return take_unicode(j);
	const char *at = c ? strchr(letters, c) : NULL;
	if (!at)
		return NOT_JSON;
	buf_append_char(&j->text, values[at - letters]);
	return 0;
}

/* After the opening quote: the text to j->text. */
static int take_string(struct json *j)
{
	buf_reset(&j->text);
	for (;;) {
		const char *from = j->p;
		while (j->p < j->end && *j->p != '"' && *j->p != '\\' && (unsigned char)*j->p >= 0x20)
			j->p++;
		buf_append(&j->text, from, (size_t)(j->p - from));
		char c = peek(j);
		if (c != '"' && c != '\\')
			return NOT_JSON;
		j->p++;
		if (c == '"')
			return j->text.failed;
		int r = take_escape(j);
		if (r != 0)
			return r;
	}
}

static int emit_scalar(struct json *j, const char *text, size_t len, bool plain, struct mark at)
{
	return j->b ? builder_scalar(j->b, text, len, plain, at) : 0;
}

static int read_string(struct json *j)
{
	struct mark at = here(j);
	j->p++;
	int r = take_string(j);
	if (r != 0)
		return r;
	const char *text = buf_text(&j->text);
	return text ? emit_scalar(j, text, j->text.len, false, at) : -ENOMEM;
}

static size_t take_digits(struct json *j)
{
	const char *from = j->p;
	while (peek(j) >= '0' && peek(j) <= '9')
		j->p++;
	return (size_t)(j->p - from);
}

static bool take_number(struct json *j)
{
	if (peek(j) == '-')
		j->p++;
	bool zero = peek(j) == '0';
	size_t n = take_digits(j);
	if (n == 0 || (zero && n > 1))
		return false;
	if (peek(j) == '.') {
		j->p++;
		if (take_digits(j) == 0)
			return false;
	}
	if (peek(j) == 'e' || peek(j) == 'E') {
		j->p++;
		if (peek(j) == '+' || peek(j) == '-')
			j->p++;
		return take_digits(j) > 0;
	}
	return true;
}

static bool take_word(struct json *j)
{
	static const char *const words[] = {"true", "false", "null"};
	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);
		if ((size_t)(j->end - j->p) >= n && memcmp(j->p, words[i], n) == 0) {
			j->p += n;
			return true;
		}
	}
	return false;
}

static int read_plain(struct json *j)
{
	struct mark at = here(j);
	const char *from = j->p;
	if (!take_word(j) && !take_number(j))
		return NOT_JSON;
	return emit_scalar(j, from, (size_t)(j->p - from), true, at);
}

static int read_value(struct json *j);

static int read_member(struct json *j)
{
	skip_blanks(j);
	if (peek(j) != '"')
		return NOT_JSON;
	int r = read_string(j);
	if (r != 0)
		return r;
	return take(j, ':') ? read_value(j) : NOT_JSON;
}

static int read_container(struct json *j, enum ynode_kind kind, char close, int (*read_entry)(struct json *j))
{
	struct mark at = here(j);
	j->p++;
	if (++j->depth > j->max_depth + 1)
		return NOT_JSON; /* far too deep: the YAML reader says so at the right place */
	int r = j->b ? builder_open(j->b, kind, at) : 0;
	bool first = true;
	while (r == 0 && !take(j, close)) {
		if (!first && !take(j, ','))
			return NOT_JSON;
		first = false;
		r = read_entry(j);
	}
	j->depth--;
	return r == 0 && j->b ? builder_close(j->b) : r;
}

static int read_value(struct json *j)
{
	skip_blanks(j);
	switch (peek(j)) {
	case '{':
		return read_container(j, YNODE_MAP, '}', read_member);
	case '[':
		return read_container(j, YNODE_SEQ, ']', read_value);
	case '"':
		return read_string(j);
	default:
		return read_plain(j);
	}
}

static int pass(struct builder *b, const char *source, size_t len, unsigned max_depth)
{
	struct json j = {.p = source,
	                 .end = source + len,
	                 .b = b,
	                 .max_depth = max_depth,
	                 .mark_p = source,
	                 .mark = {1, 1}};
	buf_init(&j.text, 0);
	int r = read_value(&j);
	skip_blanks(&j);
	buf_done(&j.text);
	return r != 0 ? r : j.p == j.end ? 0 : NOT_JSON;
}

int yaml_read_json(struct builder *b, const char *source, size_t len)
{
	size_t blanks = 0;
	while (blanks < len && memchr(" \t\r\n", source[blanks], 4))
		blanks++;
	if (blanks == len || (source[blanks] != '{' && source[blanks] != '['))
		return NOT_JSON;
	int r = pass(NULL, source, len, b->limits.max_depth);
	return r != 0 ? r : pass(b, source, len, b->limits.max_depth);
}
