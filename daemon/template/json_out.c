/* The JSON writer of this layer: no tree, straight into the buffer, so that a template of 10,000 steps costs
 * only its bytes. */
#include "daemon/template/json_out.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One letter after the backslash for the usual ones; 'u' means \u00XX; 0 stands for itself. */
static const char escapes[128] = {
    ['\0'] = 'u', [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u',   [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u',   [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u',   [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\', [127] = 'u',
};

void json_put_str(struct buf *out, const char *text, size_t len)
{
	size_t from = 0;
	if (out->failed)
		return; /* a long text is not read for nothing */
	buf_append_char(out, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		char e = c < 128 ? escapes[c] : 0;
		if (!e)
			continue;
		buf_append(out, text + from, i - from);
		from = i + 1;
		if (e == 'u')
			buf_printf(out, "\\u%04x", (unsigned)c);
		else
			buf_append(out, (const char[]){'\\', e}, 2);
	}
	buf_append(out, text + from, len - from);
	buf_append_char(out, '"');
}

void json_put_cstr(struct buf *out, const char *text)
{
	if (text)
		json_put_str(out, text, strlen(text));
	else
		buf_append(out, "null", 4);
}

static void print_shortest(char *text, size_t size, double value)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, size, "%.*g", digits, value);
		char *end = NULL;
		double back = strtod(text, &end);
		if (!(back < value) && !(back > value))
			break;
	}
}

void json_put_double(struct buf *out, double value)
{
	char text[40] = "0";
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c) {
		out->failed = out->failed ? out->failed : -ENOMEM;
		return;
	}
	locale_t before = uselocale(c);
	print_shortest(text, sizeof text, value);
	uselocale(before);
	freelocale(c);
	buf_append_str(out, text);
	if (!strpbrk(text, ".e"))
		buf_append(out, ".0", 2);
}

void json_put_int(struct buf *out, int64_t value)
{
	char text[24];
	char *p = text + sizeof text;
	uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do
		*--p = (char)('0' + left % 10);
	while (left /= 10);
	if (value < 0)
		*--p = '-';
	buf_append(out, p, (size_t)(text + sizeof text - p));
}
