/* The service manager's watchdog: fed from the loop. */
#include "daemon/server/watchdog.h"

#include <errno.h>
#include <event2/event.h>
#include <systemd/sd-daemon.h>
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/service.h"
#include "daemon/server/state.h"
#include "daemon/store/store.h"

/* Fed only while the loop turns, or this would not run, and no thread of the store stands still. */
static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	struct server *srv = arg;
	(void)fd, (void)what;
	if (!store_stalled(srv->store, srv->watchdog_us / 2))
		service_tell("WATCHDOG=1");
	else
		log_event(LOG_STANDSTILL, NULL, "a thread of the store stands still: the watchdog is not fed");
}

int server_watchdog(struct server *srv)
{
	if (sd_watchdog_enabled(0, &srv->watchdog_us) <= 0)
		return 0;
	usec_t period = srv->watchdog_us / 3;
	srv->ev_watchdog = event_new(srv->base, -1, EV_PERSIST, on_watchdog, srv);
	if (!srv->ev_watchdog)
		return -ENOMEM;
	return event_add(srv->ev_watchdog, &(struct timeval){.tv_sec = (time_t)(period / USEC_PER_SEC),
	                                                     .tv_usec = (suseconds_t)(period % USEC_PER_SEC)});
}
