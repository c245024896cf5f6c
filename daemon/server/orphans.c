/* What ran here before a restart: steps that are claimed for this node and wait, for a while, for the workers that run
 * them. */
#include "daemon/server/orphans.h"

#include <event2/event.h>
#include "daemon/base/hash.h"
#include "daemon/base/log.h"
#include "daemon/server/bounds.h"
#include "daemon/server/journal.h"
#include "daemon/server/state.h"
#include "daemon/server/step_ends.h"
#include "daemon/server/steps.h"
#include "daemon/store/request.h"

void steps_adopted(struct server *srv, struct claim *claims)
{
	unsigned n = 0;
	while (claims) {
		struct claim *c = claims;
		claims = c->next;
		journal_hold(srv, c->slot);
		struct open_step *o = step_new(srv, c);
		HASH_ADD(hh, srv->orphans, key, sizeof o->key, o);
		n++;
	}
	if (n == 0)
		return;
	log_event(LOG_STEPS_HELD, NULL,
	          "%u steps were running here before the restart; waiting %d ms for their workers", n,
	          srv->opt->resume_grace_ms);
	event_add(srv->ev_grace, &(struct timeval){.tv_sec = srv->opt->resume_grace_ms / 1000,
	                                           .tv_usec = srv->opt->resume_grace_ms % 1000 * 1000});
}

void orphans_give_up(struct server *srv)
{
	struct open_step *o, *tmp;
	unsigned n = 0;
	HASH_ITER(hh, srv->orphans, o, tmp) {
		/* A restart costs no attempt; most of these never reached a worker. But a step that takes the daemon
		 * down with its worker must end some time: claims beyond the attempts are the times it was given back
		 * before, those at checkpoints aside. */
		bool again = o->claim->fence - o->claim->attempt - o->claim->yields >= RELEASES_MAX;
		HASH_DEL(srv->orphans, o);
		srv->c_lost += again;
		n++;
		step_end(o, again ? OUTCOME_WORKER_LOST : OUTCOME_RELEASED,
		         "nobody came back for it after the daemon's restart");
	}
	if (n > 0)
		log_event(LOG_STEPS_NOT_RESUMED, NULL, "%u steps were not resumed; they go to others", n);
}
