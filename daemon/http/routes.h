/* The resources of HTTP as one table. Each row is a message of the protocol, or (health and such) a function; the
 * router, the reading of parameters and the OpenAPI document derive from it. */
#pragma once
#include <event2/http.h>
#include <stdbool.h>
#include <stddef.h>
#include "protocol/msg.h"

#define ROUTE_VARS_MAX 4
#define ROUTE_TEXT_MAX 1024 /* of a path that has a resource */

struct exchange;
typedef void local_fn(struct exchange *x);

/* A member of a body, or a key of a query, that goes by another name in the protocol. A dot reaches into a map. */
struct alias {
	const char *from, *to;
};

enum route_flags {
	ROUTE_BODY = 1,	   /* takes a body of JSON, whose members are parameters */
	ROUTE_SOURCE = 2,  /* or of YAML, which is the parameter source */
	ROUTE_CREATES = 4, /* 201 if the answer says `created` */
	ROUTE_WAITS = 8,   /* the answer may take as long as the request says */
	ROUTE_STREAM = 16, /* server-sent events */
	ROUTE_TEXT = 32,   /* the answer is no JSON */
	ROUTE_HTML = 64,   /* but this */
};

struct route {
	enum evhttp_cmd_type verb;
	const char *path; /* with {parameters} */
	enum msg_id msg;  /* MSG_COUNT: `fn` */
	local_fn *fn;
	unsigned flags;
	const char *fixed; /* parameters that the path means, as JSON; or NULL */
	const char *defaults; /* parameters that hold if they are not given, as JSON; or NULL. Not if */
	const char *unless;   /* one of these words (or NULL) is in the query */
	/* what of the result is the answer: an array, whose next page is in the header Link; NULL: all */
	const char *pick;
	const struct shape *shape; /* of the answer; NULL: as the protocol has it */
	enum msg_id then; /* task.get or step.get: what was done to that is answered with how it is then; 0: not */
	const struct alias *aliases;
	const char *answer; /* its schema in the OpenAPI document */
	const char *tag, *summary;
};

/* health.c, openapi.c: answered from memory */
local_fn on_health, on_live, on_ready, on_detailed, on_openapi, on_api_docs;

extern const struct route routes[];
extern const size_t route_count;

struct route_match {
	char text[ROUTE_TEXT_MAX]; /* the path, in decoded segments */
	size_t n;
	struct {
		const char *name; /* {name} in the route's path, not terminated */
		size_t name_len;
		const char *value;
	} var[ROUTE_VARS_MAX];
};

/* The row for a path as it came; NULL: none, *ret_verbs is what the path takes (0: there is no such path). */
const struct route *route_find(enum evhttp_cmd_type verb, const char *path, struct route_match *m, unsigned *ret_verbs);
const char *verb_name(unsigned verb);
