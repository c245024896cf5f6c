/* The few small things without which the daemon would lose track of something that it has already taken on. If there is
 * no memory for one it ends at once: the database and the next start know what is to be done. */
#pragma once
#include <stdlib.h>
#include "daemon/base/log.h"

static inline void *need(void *p)
{
	if (!p) {
		log_error(
			"out of memory in the middle of something that cannot be put off: ending, to be started again");
		abort();
	}
	return p;
}
