/* What the service manager is told (sd_notify(3)), without ever waiting for it: the library's own call waits for room
 * in a socket that the manager may never read. What it does not take at once is kept, in order, and offered again. For
 * the loop thread. */
#pragma once
#include <stdbool.h>
#include "daemon/base/cleanup.h"
#include "daemon/base/clock.h"

/* Lines of VARIABLE=value. A STATUS takes the place of the last one that still waits, a WATCHDOG is not kept. Nothing
 * without a service manager. */
void service_tell(const char *text);
/* Offer again what it has not taken yet. True: nothing is left. */
bool service_offer(void);
/* The same with a descriptor, after all that was said before, within `timeout`. Negative: it was not taken (-ENOTCONN:
 * there is no manager). */
int service_give(const char *text, int fd, usec_t timeout) must_check;
/* Wait until it has read all of that. Negative: it has not, as far as is known. */
int service_barrier(usec_t timeout) must_check;
