/* One descriptor for programs with a loop of their own: an epoll set of the connection, whichever it is at
 * the moment, of what wakes the worker, and of a timer for heartbeats and for the next attempt to connect. */
#include "clients/c/worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int watch(int epoll_fd, int op, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	return epoll_ctl(epoll_fd, op, fd, &ev);
}

static void set_timer(const struct tasker_worker *w, uint64_t first_us, uint64_t every_us)
{
	struct itimerspec at = {.it_value = {.tv_sec = (time_t)(first_us / 1000000),
	                                     .tv_nsec = (long)(first_us % 1000000) * 1000},
	                        .it_interval = {.tv_sec = (time_t)(every_us / 1000000),
	                                        .tv_nsec = (long)(every_us % 1000000) * 1000}};
	timerfd_settime(w->timer_fd, 0, &at, NULL);
}

static void drain_fd(int fd)
{
	uint64_t n;
	ssize_t ignored = read(fd, &n, sizeof n);
	(void)ignored;
}

static void watch_connection(struct tasker_worker *w)
{
	int fd = w->conn ? w->conn->fd : -1;
	short events = w->conn ? tasker_events(w->conn) : 0;
	uint32_t mask = EPOLLIN | (events & POLLOUT ? EPOLLOUT : 0u);
	/* A descriptor that was closed has left the set; its number may be in use again. */
	if (fd >= 0 && watch(w->epoll_fd, EPOLL_CTL_ADD, fd, mask) < 0 && errno == EEXIST &&
	    (fd != w->polled_fd || events != w->polled_events))
		watch(w->epoll_fd, EPOLL_CTL_MOD, fd, mask);
	w->polled_fd = fd;
	w->polled_events = events;
}

void worker_fd_update(struct tasker_worker *w)
{
	if (w->epoll_fd < 0)
		return;
	drain_fd(w->timer_fd);
	watch_connection(w);
	if (w->conn) {
		uint64_t beat = (uint64_t)w->conn->heartbeat_ms * 250;
		set_timer(w, beat, beat);
	} else {
		uint64_t now = tasker_now_us_();
		set_timer(w, w->retry_at_us > now ? w->retry_at_us - now : 1, 100000);
	}
	if (w->queue.head || w->results.unsent)
		shared_wake(w->shared);
}

int tasker_worker_fd(tasker_worker *w)
{
	if (w->epoll_fd >= 0)
		return w->epoll_fd;
	int ep = epoll_create1(EPOLL_CLOEXEC),
	    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (ep < 0 || timer < 0 || watch(ep, EPOLL_CTL_ADD, timer, EPOLLIN) < 0 ||
	    watch(ep, EPOLL_CTL_ADD, w->shared->wake_fd, EPOLLIN) < 0) {
		if (ep >= 0)
			close(ep);
		if (timer >= 0)
			close(timer);
		return -1;
	}
	w->epoll_fd = ep;
	w->timer_fd = timer;
	worker_fd_update(w);
	return ep;
}

void worker_fd_done(struct tasker_worker *w)
{
	if (w->epoll_fd < 0)
		return;
	close(w->epoll_fd);
	close(w->timer_fd);
}
