/* Server-sent events. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "protocol/mp.h"

struct exchange;

void stream_begin(struct exchange *x, const msgpack_object *result);
void stream_notified(struct exchange *x, const char *method, size_t n, const msgpack_object *params);
void stream_tick(struct exchange *x);
void stream_free(struct exchange *x);
/* True: the client has seen the end already, and is told so. */
bool stream_is_over(struct exchange *x);
