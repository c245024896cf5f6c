/* The embedded PostgreSQL while the daemon runs: watched, and started again if it ends. */
#include "daemon/server/embedded.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/base/mailbox.h"
#include "daemon/embed/embed.h"
#include "daemon/server/state.h"
#include "daemon/store/request.h"

/* Crash recovery can take long, so a thread of its own waits for it; it owns srv->em until its answer has been read. */
static void *revive_main(void *arg)
{
	struct server *srv = arg;
	struct done *d = done_new(DONE_REVIVED);
	struct err e = {0};
	if (!d)
		abort();
	d->failed = embed_restart(srv->em, &e) < 0;
	d->err = e;
	mailbox_push(&srv->answers, &d->mail);
	return NULL;
}

static void on_embedded_exit(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	event_free(srv->ev_embedded);
	srv->ev_embedded = NULL;
	close(srv->embedded_fd);
	srv->embedded_fd = -1;
	if (srv->stop || srv->draining)
		return;
	log_event(LOG_EMBEDDED_ENDED, NULL, "the embedded PostgreSQL has ended unexpectedly; starting it again");
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	srv->reviving = pthread_create(&srv->reviver, NULL, revive_main, srv) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void embedded_revived(struct server *srv, struct done *d)
{
	pthread_join(srv->reviver, NULL);
	srv->reviving = false;
	if (!d->failed) {
		log_event(LOG_EMBEDDED_BACK, NULL, "the embedded PostgreSQL is running again");
		embedded_watch(srv);
		return;
	}
	struct err e;
	err_set(&e, -EIO, "internal", "the embedded PostgreSQL cannot be started again: %.300s", d->err.text);
	server_fail(srv, &e);
}

void embedded_watch(struct server *srv)
{
	if (!srv->em || embed_pid(srv->em) <= 0)
		return;
	srv->embedded_fd = (int)syscall(SYS_pidfd_open, embed_pid(srv->em), 0);
	if (srv->embedded_fd < 0)
		return;
	srv->ev_embedded = event_new(srv->base, srv->embedded_fd, EV_READ, on_embedded_exit, srv);
	if (srv->ev_embedded)
		event_add(srv->ev_embedded, NULL);
}

void embedded_unwatch(struct server *srv)
{
	if (srv->reviving)
		pthread_join(srv->reviver, NULL);
	if (srv->ev_embedded)
		event_free(srv->ev_embedded);
	if (srv->embedded_fd >= 0)
		close(srv->embedded_fd);
}
