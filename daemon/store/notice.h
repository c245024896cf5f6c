/* Notifications about domain events, from other nodes and from whoever may notify: "e NODE ID PART PARTS TEXT", a piece
 * of an event (its pieces come in order, with nothing between them), and "q NODE NAMESPACE", the namespace's queue has
 * messages. See tasker.notify_event. */
#pragma once
#include "daemon/store/request.h"

#define NOTICE_MAX (1u << 20) /* bytes of one event's JSON */

struct notice { /* what has come of an event; {0} is none */
	char id[40];
	unsigned next, parts;
	struct buf text;
};

void notice_reset(struct notice *p);
/* What is to be told to the loop, or NULL: a piece that is not the last, something of this node's own, or nonsense. */
struct done *notice_read(struct notice *p, int own_node, const char *payload);
