/* The look at the bytes before any parser sees them: UTF-8, and only the characters that YAML allows. Both
 * parsers behind it may rely on that. */
#include "daemon/template/yaml_build.h"

#include <errno.h>

/* Length of the valid UTF-8 sequence at `p` and its code point, or 0. */
static size_t decode(const unsigned char *p, size_t left, uint32_t *ret_code)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = p[0] < 0x80   ? 1
	           : p[0] < 0xC2 ? 0
	           : p[0] < 0xE0 ? 2
	           : p[0] < 0xF0 ? 3
	           : p[0] < 0xF5 ? 4
	                         : 0;
	if (n == 0 || n > left)
		return 0;
	uint32_t code = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3Fu);
	}
	if (code < lowest[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
		return 0;
	*ret_code = code;
	return n;
}

static bool allowed(uint32_t c)
{
	return (c >= 0x20 && c < 0x7F) || c == '\t' || c == '\n' || c == '\r' || c == 0x85 ||
	       (c >= 0xA0 && c != 0xFFFE && c != 0xFFFF);
}

int yaml_check_bytes(const char *source, size_t len, struct findings *f)
{
	const unsigned char *p = (const unsigned char *)source, *end = p + len;
	unsigned line = 1, column = 1;
	while (p < end) {
		uint32_t c = 0;
		size_t n = decode(p, (size_t)(end - p), &c);
		if (n == 0) {
			findings_add(f, FINDING_ERROR, line, column, NULL, "the byte 0x%02x is not UTF-8",
			             (unsigned)*p);
			return -EINVAL;
		}
		if (!allowed(c)) {
			findings_add(f, FINDING_ERROR, line, column, NULL,
			             "found the control character U+%04X, expected text", (unsigned)c);
			return -EINVAL;
		}
		p += n;
		column++;
		if (c == '\n' || (c == '\r' && (p == end || *p != '\n'))) {
			line++;
			column = 1;
		}
	}
	return 0;
}
