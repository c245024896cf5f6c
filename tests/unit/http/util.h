/* Requests as a client writes them, read by the table of routes and by what takes parameters from them; no daemon and
 * no connection. */
#pragma once
#include "daemon/http/exchange.h"

struct asked {
	struct exchange x;
	unsigned verbs; /* of the path */
	struct buf bytes;
	struct mp_value params;
	bool read; /* there are parameters */
	int rc;
	struct err e;
};

/* `text`: VERB TARGET, lines of headers, an empty line, the body; lines end with \n alone. False: it is no request at
 * all. */
bool ask_text(struct asked *a, const char *text, size_t len);
void asked_done(struct asked *a);
