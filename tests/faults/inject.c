/* To be preloaded (LD_PRELOAD) into a process whose memory is to run out, or whose wall clock is to jump, at a moment that a test chooses: what happens stands in the file
 * that INJECT names, which the test writes to while the process runs. Packaged tools of that kind act from the start, or some time after they were told, and change waiting
 * too. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The file, as inject.py writes it. */
struct control {
	_Atomic int64_t skip;	  /* allocations that work before those that fail */
	_Atomic int64_t fail;	  /* how many fail then; 0: none */
	_Atomic int64_t failed;	  /* have failed so far */
	_Atomic int64_t shift_ns; /* what the wall clock is ahead */
};

static struct control *control;

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("INJECT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		control = at;
}

static int refuse(void)
{
	struct control *c = control;
	if (!c || atomic_load_explicit(&c->fail, memory_order_relaxed) <= 0)
		return 0;
	if (atomic_fetch_sub(&c->skip, 1) > 0 || atomic_fetch_sub(&c->fail, 1) <= 0)
		return 0;
	atomic_fetch_add(&c->failed, 1);
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t n)
{
	return refuse() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return n > 0 && refuse() ? NULL : __libc_realloc(p, n);
}

static int is_wall(clockid_t id)
{
	return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	if (syscall(SYS_clock_gettime, id, t) < 0)
		return -1;
	if (control && is_wall(id)) {
		int64_t ns = t->tv_sec * INT64_C(1000000000) + t->tv_nsec + atomic_load(&control->shift_ns);
		t->tv_sec = ns / 1000000000;
		t->tv_nsec = ns % 1000000000;
	}
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec t;
	(void)tz;
	if (clock_gettime(CLOCK_REALTIME, &t) < 0)
		return -1;
	tv->tv_sec = t.tv_sec;
	tv->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec t = {0};
	clock_gettime(CLOCK_REALTIME, &t);
	if (ret)
		*ret = t.tv_sec;
	return t.tv_sec;
}
