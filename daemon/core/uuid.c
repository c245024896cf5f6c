/* Identities in and out of their text form. Owns no state, may run on any thread, and never asks for the time
 * or for random bytes: the caller brings both. The layout must agree with tasker.step_uuid() and
 * tasker.new_task_uuid() in the database. */
#include "daemon/core/uuid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define STEP_AT 13 /* the first of the three bytes that hold a step's number plus one */

static const char hex_digits[] = "0123456789abcdef";

struct uuid uuid_for_task(uint64_t unix_ms, const uint8_t random[16])
{
	struct uuid u = {0};
	for (unsigned i = 0; i < 6; i++)
		u.b[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
	memcpy(u.b + 6, random + 6, STEP_AT - 6);
	u.b[6] = (uint8_t)(0x70 | (u.b[6] & 0x0f)); /* version 7 */
	u.b[8] = (uint8_t)(0x80 | (u.b[8] & 0x3f)); /* the RFC's variant */
	return u;
}

struct uuid uuid_for_step(const struct uuid *task, unsigned step_no)
{
	assert(step_no < TASK_MAX_STEPS);
	struct uuid u = *task;
	unsigned n = step_no + 1;
	u.b[STEP_AT] = (uint8_t)(n >> 16);
	u.b[STEP_AT + 1] = (uint8_t)(n >> 8);
	u.b[STEP_AT + 2] = (uint8_t)n;
	return u;
}

bool uuid_split_step(const struct uuid *step, struct uuid *ret_task, unsigned *ret_step_no)
{
	unsigned n =
		(unsigned)step->b[STEP_AT] << 16 | (unsigned)step->b[STEP_AT + 1] << 8 | step->b[STEP_AT + 2];
	if (n == 0)
		return false;
	*ret_task = *step;
	memset(ret_task->b + STEP_AT, 0, sizeof ret_task->b - STEP_AT);
	*ret_step_no = n - 1;
	return true;
}

/* Whether byte `i` of a UUID has a hyphen before it in the text form. */
static bool hyphen_before(unsigned i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

void uuid_format(const struct uuid *u, char out[UUID_TEXT])
{
	char *p = out;
	for (unsigned i = 0; i < sizeof u->b; i++) {
		if (hyphen_before(i))
			*p++ = '-';
		*p++ = hex_digits[u->b[i] >> 4];
		*p++ = hex_digits[u->b[i] & 15];
	}
	*p = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int uuid_parse(const char *text, size_t len, struct uuid *ret)
{
	struct uuid u;
	const char *p = text;
	if (len != UUID_TEXT - 1)
		return -EINVAL;
	for (unsigned i = 0; i < sizeof u.b; i++, p += 2) {
		if (hyphen_before(i) && *p++ != '-')
			return -EINVAL;
		int high = hex_value(p[0]), low = hex_value(p[1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		u.b[i] = (uint8_t)(high << 4 | low);
	}
	*ret = u;
	return 0;
}

bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}
