/* To be preloaded (LD_PRELOAD) into a process whose memory is to run out, whose wall clock is to jump, whose n-th call
 * to read or write is to fail or to be its last, at a moment that a test chooses: what happens stands in the file that
 * INJECT names, which the test writes to while the process runs. Packaged tools of that kind act from the start, or
 * some time after they were told, and change waiting too. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The file, as inject.py writes it. */
struct control {
	_Atomic int64_t skip;	  /* allocations that work before those that fail */
	_Atomic int64_t fail;	  /* how many fail then; 0: none */
	_Atomic int64_t failed;	  /* have failed so far */
	_Atomic int64_t shift_ns; /* what the wall clock is ahead */
	_Atomic int64_t call_skip;   /* calls that work before the one that does not */
	_Atomic int64_t call_armed;  /* whether there is to be one */
	_Atomic int64_t call_error;  /* what it fails with; 0, -1: the process is killed before it, after it */
	_Atomic int64_t call_struck; /* so far */
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

/* ---- calls ---- */

static long die(void)
{
	return kill(getpid(), SIGKILL) + pause();
}

/* Whether it is this call's turn. Only what the world can spoil: sockets and files, not the pipes and counters by which
 * threads wake each other. */
static int is_struck(int fd)
{
	struct control *c = control;
	struct stat st;
	if (!c || atomic_load_explicit(&c->call_armed, memory_order_relaxed) <= 0 || fstat(fd, &st) < 0 ||
	    !(S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode)))
		return 0;
	if (atomic_fetch_sub(&c->call_skip, 1) > 0 || atomic_exchange(&c->call_armed, 0) <= 0)
		return 0;
	atomic_fetch_add(&c->call_struck, 1);
	return 1;
}

/* A system call, with what is to happen to it. */
static long call(long no, int fd, long a, long b, long c, long d, long e)
{
	int struck = is_struck(fd);
	int64_t error = struck ? atomic_load(&control->call_error) : 0;
	if (struck && error > 0) {
		errno = (int)error;
		return -1;
	}
	if (struck && error == 0)
		return die();
	long ret = syscall(no, fd, a, b, c, d, e);
	return struck ? die() : ret;
}

ssize_t read(int fd, void *p, size_t n)
{
	return call(SYS_read, fd, (long)p, (long)n, 0, 0, 0);
}

ssize_t write(int fd, const void *p, size_t n)
{
	return call(SYS_write, fd, (long)p, (long)n, 0, 0, 0);
}

ssize_t readv(int fd, const struct iovec *v, int n)
{
	return call(SYS_readv, fd, (long)v, n, 0, 0, 0);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return call(SYS_writev, fd, (long)v, n, 0, 0, 0);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
	return call(SYS_recvfrom, fd, (long)p, (long)n, flags, 0, 0);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	return call(SYS_sendto, fd, (long)p, (long)n, flags, 0, 0);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	return call(SYS_recvmsg, fd, (long)m, flags, 0, 0, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	return call(SYS_sendmsg, fd, (long)m, flags, 0, 0, 0);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags)
{
	return (int)call(SYS_accept4, fd, (long)address, (long)size, flags, 0, 0);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	return (int)call(SYS_connect, fd, (long)address, (long)size, 0, 0, 0);
}
