/* What is answered from memory: server.info, ping. */
#include "daemon/server/info.h"

#include <unistd.h>
#include "daemon/base/clock.h"
#include "daemon/server/hangs.h"
#include "daemon/server/reply.h"
#include "daemon/server/session.h"
#include "daemon/server/state.h"
#include "daemon/store/store.h"
#include "protocol/buf.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

void on_ping(struct session *s, uint32_t id, const msgpack_object *params)
{
	(void)params;
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 0);
	reply_end(s, mark);
}

const char *database_state(const struct server *srv)
{
	return !srv->ever_up      ? "waiting"
	       : !srv->db_up      ? "lost"
	       : srv->db_stuck[0] ? "stuck"
	       : srv->adopted     ? "up"
	                          : "waiting";
}

static void write_database(struct server *srv, struct buf *out)
{
	const char *error = !srv->db_up ? srv->db_error : srv->db_stuck;
	mp_str(out, "database");
	mp_map(out, error[0] ? 7 : 6);
	mp_str(out, "state");
	mp_str(out, database_state(srv));
	mp_str(out, "version");
	mp_int(out, srv->db_server_version);
	mp_str(out, "schema");
	mp_int(out, srv->db_schema_version);
	mp_str(out, "pgmq");
	mp_str(out, srv->db_pgmq);
	hangs_write(srv, out);
	if (error[0]) {
		mp_str(out, "error");
		mp_str(out, error);
	}
}

void on_server_info(struct session *s, uint32_t id, const msgpack_object *params)
{
	struct server *srv = s->srv;
	struct store_stats st;
	(void)params;
	store_get_stats(srv->store, &st);
	const struct {
		const char *name;
		uint64_t v;
	} counters[] = {{"frames", srv->c_frames},
	                {"steps_sent", srv->c_steps_sent},
	                {"results", srv->c_results},
	                {"workers_lost_steps", srv->c_lost},
	                {"timeouts", srv->c_timeouts},
	                {"protocol_errors", srv->c_protocol_errors},
	                {"denied", srv->c_denied},
	                {"events_queued", srv->c_events_queued},
	                {"events_fast", srv->c_events_fast},
	                {"events_pushed", srv->c_events_pushed},
	                {"events_lost", srv->c_events_lost},
	                {"events_refused", srv->c_events_refused},
	                {"batches", st.batches},
	                {"recorded", st.results},
	                {"created", st.creates},
	                {"claims", st.claims},
	                {"queries", st.api},
	                {"database_reconnects", st.reconnects},
	                {"database_retries", st.retries}};
	size_t mark = reply_begin(s, id);
	mp_map(&s->wire.out, 9);
	mp_str(&s->wire.out, "server");
	mp_str(&s->wire.out, "taskerd");
	mp_str(&s->wire.out, "version");
	mp_str(&s->wire.out, TASKERD_VERSION);
	mp_str(&s->wire.out, "protocol");
	mp_array(&s->wire.out, 2);
	mp_uint(&s->wire.out, PROTOCOL_MAJOR);
	mp_uint(&s->wire.out, PROTOCOL_MINOR);
	mp_str(&s->wire.out, "node");
	mp_str(&s->wire.out, srv->opt->node_name);
	mp_str(&s->wire.out, "pid");
	mp_int(&s->wire.out, getpid());
	mp_str(&s->wire.out, "uptime_ms");
	mp_uint(&s->wire.out, (now_mono() - srv->started) / USEC_PER_MSEC);
	write_database(srv, &s->wire.out);
	mp_str(&s->wire.out, "counters");
	mp_map(&s->wire.out, sizeof counters / sizeof *counters);
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
		mp_str(&s->wire.out, counters[i].name);
		mp_uint(&s->wire.out, counters[i].v);
	}
	mp_str(&s->wire.out, "sessions");
	mp_uint(&s->wire.out, srv->n_sessions);
	reply_end(s, mark);
}
