/* Answers to what is no request. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct conn;

void broken_watch(struct conn *c);
void broken_unwatch(struct conn *c);
/* See what has been received of the next request; `added`: the last bytes of it are new. False: it is none, which was
 * said; the connection is to end. */
bool broken_look(struct conn *c, size_t added);
/* Its time is up: say so, if it has begun. */
void broken_late(struct conn *c);
/* evhttp is done with it, but the client may still be sending what was refused, and would not see the answer if the
 * connection were closed. */
void broken_linger(struct conn *c);
