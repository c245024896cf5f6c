#include "daemon/trace/context.h"

#include <endian.h>
#include <openssl/sha.h>
#include <string.h>

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* upper case is not allowed */
}

static bool read_hex(const char *p, size_t n, uint8_t *out)
{
	for (size_t i = 0; i < n; i++) {
		int high = nibble(p[2 * i]), low = nibble(p[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void write_hex(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

bool traceparent_parse(const char *p, size_t n, struct trace_context *ret)
{
	struct trace_context c = {0};
	uint8_t version, flags;
	*ret = c;
	if (n < TRACEPARENT_LEN || p[2] != '-' || p[35] != '-' || p[52] != '-')
		return false;
	if (!read_hex(p, 1, &version) || !read_hex(p + 3, 16, c.trace) || !read_hex(p + 36, 8, c.parent.b) ||
	    !read_hex(p + 53, 1, &flags))
		return false;
	if (version == 0xff || (version == 0 && n != TRACEPARENT_LEN) ||
	    (n > TRACEPARENT_LEN && p[TRACEPARENT_LEN] != '-'))
		return false;
	if (is_zero(c.trace, sizeof c.trace) || is_zero(c.parent.b, sizeof c.parent.b))
		return false;
	c.given = true;
	c.sampled = flags & 1;
	*ret = c;
	return true;
}

void traceparent_format(const struct trace_context *c, const struct span_id *parent, char out[TRACEPARENT_LEN + 1])
{
	memcpy(out, "00-", 3);
	write_hex(c->trace, sizeof c->trace, out + 3);
	out[35] = '-';
	write_hex(parent->b, sizeof parent->b, out + 36);
	memcpy(out + 52, c->sampled ? "-01" : "-00", 4);
}

/* Eight bytes of a digest, as a number. */
static uint64_t digest(const void *data, size_t n)
{
	uint8_t md[SHA256_DIGEST_LENGTH];
	uint64_t be;
	SHA256(data, n, md);
	memcpy(&be, md, sizeof be);
	return be64toh(be);
}

struct trace_context trace_of_task(const struct trace_context *given, const uint8_t uuid[16], unsigned percent)
{
	struct trace_context c = {0};
	if (given->given)
		return *given;
	memcpy(c.trace, uuid, sizeof c.trace);
	c.sampled = digest(uuid, 16) % 100 < percent;
	return c;
}

struct span_id span_id_of(const uint8_t uuid[16], uint32_t no)
{
	uint8_t of[20];
	struct span_id id;
	uint32_t be = htobe32(no);
	memcpy(of, uuid, 16);
	memcpy(of + 16, &be, 4);
	uint64_t h = htobe64(digest(of, sizeof of));
	memcpy(id.b, &h, sizeof id.b);
	return id;
}

void trace_id_format(const uint8_t trace[16], char out[TRACE_ID_TEXT])
{
	write_hex(trace, 16, out);
}

void span_id_format(const struct span_id *id, char out[SPAN_ID_TEXT])
{
	write_hex(id->b, sizeof id->b, out);
}
