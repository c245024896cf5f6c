/* Steps of the time before a restart, whose workers have not come back yet. */
#pragma once
#include "daemon/store/request.h"

struct server;

void steps_adopted(struct server *srv, struct claim *claims);
void orphans_give_up(struct server *srv);
