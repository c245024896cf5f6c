#include "daemon/base/alive.h"

static _Thread_local struct alive *mine;

void alive_attach(struct alive *a)
{
	alive_wait();
	mine = a;
	alive_work();
}

void alive_wait(void)
{
	if (mine)
		atomic_store_explicit(&mine->since, 0, memory_order_relaxed);
}

void alive_work(void)
{
	if (mine)
		atomic_store_explicit(&mine->since, now_mono(), memory_order_relaxed);
}

bool alive_stalled(const struct alive *a, usec_t limit)
{
	usec_t since = atomic_load_explicit(&a->since, memory_order_relaxed);
	return since != 0 && now_mono() > since + limit;
}
