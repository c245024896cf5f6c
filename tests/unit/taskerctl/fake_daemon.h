/* A daemon that follows a script, on a thread of its own: it does one act after the other and records every
 * message it was sent. It never asserts; what went wrong is in `failure`, for the test to look at after
 * fake_join. */
#pragma once
#include <pthread.h>
#include "clients/c/tasker.h"
#include "protocol/mp.h"

enum act_kind {
	ACT_END,
	ACT_ACCEPT,      /* take a connection */
	ACT_EXPECT,      /* read a message; `text` is its method. Heartbeats are passed over. */
	ACT_REPLY,       /* answer the last request with the JSON `text` */
	ACT_REPLY_ERROR, /* the same with an error */
	ACT_REPLY_FIRST, /* answer the request before the last one */
	ACT_NOTE,        /* a notification: "method {params}" */
	ACT_EXECUTE,     /* step.execute of `n` steps of handler `text`, numbered on from the last one sent */
	ACT_RAW,         /* `n` bytes of `text` as they are */
	ACT_CLOSE,
	ACT_WAIT_CLOSE, /* read until the peer closes */
};
struct act {
	enum act_kind kind;
	const char *text;
	size_t n;
};

#define WELCOME                                                                                              \
	"{\"protocol\":[1,0],\"server\":\"taskerd/"                                                          \
	"9.9.9\",\"node\":\"n1\",\"session\":\"s-1\",\"resumed\":false,"                                     \
	"\"worker_uuid\":\"w-1\",\"heartbeat_ms\":60000,\"limits\":{\"max_frame\":65536,\"max_items\":"      \
	"10000,"                                                                                             \
	"\"max_depth\":30,\"max_bulk\":100,\"max_context\":10000,\"max_result\":10000},\"features\":[]}"
#define ACTS_GREET                                                                                           \
	{ACT_ACCEPT, NULL, 0}, {ACT_EXPECT, "hello", 0},                                                     \
	{                                                                                                    \
		ACT_REPLY, WELCOME, 0                                                                        \
	}

#define FAKE_SEEN_MAX 32u
struct seen {
	unsigned char *bytes;
	struct mp_value v;
};

struct fake {
	char dir[64], path[96];
	const struct act *script;
	pthread_t thread;
	int listener, fd;
	uint32_t ids[FAKE_SEEN_MAX]; /* of the requests seen, in order */
	size_t nids, nsteps;
	struct seen seen[FAKE_SEEN_MAX];
	size_t nseen;
	char failure[200];
};

/* Listen, and follow `script` (which must stay) in the background. */
void fake_start(struct fake *f, const struct act *script);
/* Wait for the end of the script. `failure` is empty if all went as written. */
void fake_join(struct fake *f);
void fake_done(struct fake *f);
/* Parameters of the i-th message seen (hello is the first), after fake_join. */
const tasker_value *fake_params(const struct fake *f, size_t i);
/* The uuid of the i-th step that ACT_EXECUTE has sent; `dst` takes 37 bytes. */
void fake_step_uuid(size_t i, char *dst);
