/* What the service manager asks for and is told: reading the configuration again, and the watchdog. */
#include "daemon/server/reload.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include "daemon/auth/auth.h"
#include "daemon/auth/keys.h"
#include "daemon/base/clock.h"
#include "daemon/base/err.h"
#include "daemon/base/log.h"
#include "daemon/base/service.h"
#include "daemon/config/option_show.h"
#include "daemon/config/options.h"
#include "daemon/server/admit.h"
#include "daemon/server/api.h"
#include "daemon/server/front.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "protocol/buf.h"

static void log_lines(const char *text, bool error)
{
	while (text && *text) {
		int n = (int)strcspn(text, "\n");
		if (error)
			log_error("reload: %.*s", n, text);
		else
			log_info("reload: %.*s", n, text);
		text += n + (text[n] == '\n');
	}
}

void log_notes(const char *about, const char *text)
{
	while (text && *text) {
		int n = (int)strcspn(text, "\n");
		log_warn("%s: %.*s", about, n, text);
		text += n + (text[n] == '\n');
	}
}

static void take_over(struct server *srv)
{
	const struct options *o = srv->opt;
	log_init(o->log_level, o->log_format);
	event_add(srv->ev_poll, &(struct timeval){.tv_sec = o->poll_interval_ms / 1000,
	                                          .tv_usec = o->poll_interval_ms % 1000 * 1000});
}

/* With the files that they name. The number of values taken over, or negative. */
static int take_options(struct server *srv, struct options *fresh, struct buf *messages)
{
	struct err e = {0};
	struct buf notes;
	buf_init(&notes, 1u << 16);
	struct jwt_keys *keys = srv->auth ? auth_read_files(fresh, &notes, &e) : NULL;
	log_notes("jwt_key_file", buf_text(&notes));
	buf_done(&notes);
	int rc = e.code[0] ? -EINVAL : options_reload(srv->opt, fresh, messages);
	if (e.code[0])
		buf_printf(messages, "%s\n", e.text);
	if (rc >= 0 && srv->auth)
		auth_reload(srv->auth, keys);
	else
		auth_files_free(keys);
	return rc;
}

/* All or nothing: with an error anywhere nothing changes. */
void server_reload(struct server *srv)
{
	struct options fresh;
	struct buf messages;
	buf_init(&messages, 1u << 20);
	char begun[64];
	snprintf(begun, sizeof begun, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)now_mono());
	service_tell(begun);
	const struct access_rules *rules = srv->opt->access;
	int rc = options_load(srv->opt->argc, srv->opt->argv, &fresh, &messages);
	if (rc == 0) {
		rc = take_options(srv, &fresh, &messages);
		if (srv->opt->access != rules)
			sessions_readmit(srv);
		options_done(&fresh);
	}
	log_lines(buf_text(&messages), rc < 0);
	if (rc < 0)
		log_event(LOG_RELOAD_REFUSED, NULL, "reload: the configuration stays as it was");
	else
		log_event(LOG_RELOADED, NULL, "reload: %d options have new values", rc);
	if (rc > 0)
		take_over(srv);
	buf_done(&messages);
	service_tell("READY=1");
	server_status(srv);
	server_flush(srv);
}

void on_server_config(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct buf answer;
	(void)params;
	buf_init(&answer, 0);
	options_describe(s->srv->opt, "daemon", &answer);
	reply_answer(s, id, &answer);
	buf_done(&answer);
}
