#include "daemon/base/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>

int mailbox_init(struct mailbox *m)
{
	*m = (struct mailbox){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	if (m->fd < 0)
		return -errno;
	m->tail = &m->head;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->nonempty, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

void mailbox_done(struct mailbox *m)
{
	if (m->fd < 0)
		return;
	close(m->fd);
	m->fd = -1;
	pthread_cond_destroy(&m->nonempty);
	pthread_mutex_destroy(&m->lock);
}

static void wake(struct mailbox *m)
{
	uint64_t one = 1;
	ssize_t ignored = write(m->fd, &one, sizeof one);
	(void)ignored; /* EAGAIN: already readable */
	pthread_cond_signal(&m->nonempty);
}

void mailbox_push(struct mailbox *m, struct mail *item)
{
	item->next = NULL;
	pthread_mutex_lock(&m->lock);
	int was_empty = m->head == NULL;
	*m->tail = item;
	m->tail = &item->next;
	m->depth++;
	pthread_mutex_unlock(&m->lock);
	if (was_empty) /* after the unlock, or the reader would wake only to wait for the lock */
		wake(m);
}

static struct mail *take_locked(struct mailbox *m)
{
	struct mail *list = m->head;
	m->head = NULL;
	m->tail = &m->head;
	m->depth = 0;
	/* Always: a wake-up may come after its item was taken. */
	uint64_t v;
	ssize_t ignored = read(m->fd, &v, sizeof v);
	(void)ignored;
	return list;
}

struct mail *mailbox_take(struct mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	struct mail *list = take_locked(m);
	pthread_mutex_unlock(&m->lock);
	return list;
}

struct mail *mailbox_wait(struct mailbox *m, int timeout_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&m->lock);
	int rc = 0;
	while (!m->head && !m->closed && rc != ETIMEDOUT)
		rc = timeout_ms < 0 ? pthread_cond_wait(&m->nonempty, &m->lock)
				    : pthread_cond_timedwait(&m->nonempty, &m->lock, &until);
	struct mail *list = take_locked(m);
	pthread_mutex_unlock(&m->lock);
	return list;
}

void mailbox_close(struct mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	m->closed = 1;
	pthread_cond_broadcast(&m->nonempty);
	pthread_mutex_unlock(&m->lock);
}

int mailbox_is_closed(struct mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	int r = m->closed;
	pthread_mutex_unlock(&m->lock);
	return r;
}

size_t mailbox_depth(struct mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	size_t r = m->depth;
	pthread_mutex_unlock(&m->lock);
	return r;
}
