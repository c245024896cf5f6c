/* Claims of one call are forgotten together: its slot in the node's journal is free when the last of them is
 * recorded. */
#pragma once
#include <stdbool.h>

struct server;

void journal_hold(struct server *srv, int slot);
void journal_release(struct server *srv, int slot);
void journals_free(struct server *srv);
bool journals_empty(const struct server *srv);
