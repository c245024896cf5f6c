#include "daemon/base/alive.h"

static _Thread_local struct alive *mine;

void alive_attach(struct alive *a)
{
	alive_wait();
	mine = a;
	alive_work();
}

static void set(usec_t since, usec_t asked)
{
	if (!mine)
		return;
	atomic_store_explicit(&mine->since, since, memory_order_relaxed);
	atomic_store_explicit(&mine->asked, asked, memory_order_relaxed);
}

void alive_wait(void)
{
	set(0, 0);
}

void alive_work(void)
{
	set(now_mono(), 0);
}

void alive_ask(void)
{
	set(0, now_mono());
}

void alive_call(const char *call)
{
	if (mine)
		atomic_store_explicit(&mine->call, call, memory_order_relaxed);
}

bool alive_stalled(const struct alive *a, usec_t limit)
{
	usec_t since = atomic_load_explicit(&a->since, memory_order_relaxed);
	return since != 0 && now_mono() > since + limit;
}
