/* Task and step identities. A task's UUID is a UUIDv7 whose low 24 bits are zero; a step's is its task's plus
 * its number plus one in those bits, so that one follows from the other without a look-up (and 2^24 - 1 steps
 * fit in a task). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid {
	uint8_t b[16];
};
#define UUID_TEXT 37 /* bytes, with the NUL */
#define TASK_MAX_STEPS ((1u << 24) - 1)

/* A new task's UUID from wall-clock milliseconds and 16 random bytes. */
struct uuid uuid_for_task(uint64_t unix_ms, const uint8_t random[16]);
/* `step_no` is below TASK_MAX_STEPS. */
struct uuid uuid_for_step(const struct uuid *task, unsigned step_no);
/* The task and number of a step's UUID; false if the low bits are zero (a task's UUID). */
bool uuid_split_step(const struct uuid *step, struct uuid *ret_task, unsigned *ret_step_no);
void uuid_format(const struct uuid *u, char out[UUID_TEXT]);
/* Accepts the 36-character form in either case. 0 or -EINVAL. */
int uuid_parse(const char *text, size_t len, struct uuid *ret);
bool uuid_eq(const struct uuid *a, const struct uuid *b);
