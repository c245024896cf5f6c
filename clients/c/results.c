/* Results that the daemon has not acknowledged: kept in the order they were made, found by step and attempt,
 * sent again after a reconnect. Pure data, one owner. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned bucket_of(const char *uuid, size_t n)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)uuid[i]) * 16777619u;
	return (h ^ h >> 16) % RESULT_BUCKETS;
}

int results_add(struct results *r, const char *step_uuid, int64_t attempt, const msgpack_object *claim,
                const void *bytes, size_t len)
{
	struct kept_result *k = malloc(sizeof *k + len);
	if (!k)
		return -ENOMEM;
	*k = (struct kept_result){.prev = r->tail, .attempt = attempt, .len = len};
	snprintf(k->step_uuid, sizeof k->step_uuid, "%s", step_uuid);
	memcpy(k->bytes, bytes, len);
	if (claim && claim->type == MSGPACK_OBJECT_BIN && claim->via.bin.size <= sizeof k->claim) {
		k->claim_len = claim->via.bin.size;
		memcpy(k->claim, claim->via.bin.ptr, k->claim_len);
	}
	k->bucket = bucket_of(k->step_uuid, strlen(k->step_uuid));
	k->chain = r->buckets[k->bucket];
	r->buckets[k->bucket] = k;
	if (r->tail)
		r->tail->next = k;
	else
		r->head = k;
	r->tail = k;
	if (!r->unsent)
		r->unsent = k;
	r->count++;
	return 0;
}

void results_drop(struct results *r, struct kept_result *k)
{
	struct kept_result **p = &r->buckets[k->bucket];
	while (*p != k)
		p = &(*p)->chain;
	*p = k->chain;
	if (r->unsent == k)
		r->unsent = k->next;
	if (k->prev)
		k->prev->next = k->next;
	else
		r->head = k->next;
	if (k->next)
		k->next->prev = k->prev;
	else
		r->tail = k->prev;
	r->count--;
	free(k);
}

bool results_ack(struct results *r, const tasker_value *step_uuid, int64_t attempt)
{
	size_t n;
	const char *uuid = tasker_text(step_uuid, &n);
	if (!uuid)
		return false;
	struct kept_result *oldest = NULL;
	for (struct kept_result *k = r->buckets[bucket_of(uuid, n)]; k; k = k->chain)
		if (k->attempt == attempt && strlen(k->step_uuid) == n && memcmp(k->step_uuid, uuid, n) == 0)
			oldest = k;
	if (oldest)
		results_drop(r, oldest);
	return oldest != NULL;
}

void results_rewind(struct results *r)
{
	r->unsent = r->head;
}

void results_done(struct results *r)
{
	while (r->head)
		results_drop(r, r->head);
}
