/* Claims of one call are forgotten together: its slot in the node's journal is free when the last of them is recorded. */
#include "daemon/server/impl.h"

void journal_hold(struct server *srv, int slot)
{
	struct journal *j;
	HASH_FIND(hh, srv->journals, &slot, sizeof slot, j);
	if (!j) {
		j = need(calloc(1, sizeof *j));
		j->slot = slot;
		HASH_ADD(hh, srv->journals, slot, sizeof slot, j);
	}
	j->open++;
}

void journal_release(struct server *srv, int slot)
{
	struct journal *j;
	HASH_FIND(hh, srv->journals, &slot, sizeof slot, j);
	if (!j || --j->open > 0)
		return;
	HASH_DEL(srv->journals, j);
	free(j);
	store_forget(srv->store, slot);
}

void journals_free(struct server *srv)
{
	struct journal *j, *tmp;
	HASH_ITER(hh, srv->journals, j, tmp) {
		HASH_DEL(srv->journals, j);
		free(j);
	}
}
