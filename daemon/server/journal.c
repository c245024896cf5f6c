/* Claims of one call are forgotten together: its slot in the node's journal is free when the last of them is
 * recorded. */
#include "daemon/server/journal.h"

#include <stdlib.h>
#include "daemon/base/hash.h"
#include "daemon/base/need.h"
#include "daemon/server/state.h"
#include "daemon/store/store.h"

/* Steps claimed by one call and not yet all recorded. */
struct journal {
	int slot;
	UT_hash_handle hh;
	unsigned open;
};

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

bool journals_empty(const struct server *srv)
{
	return !srv->journals;
}

void journals_free(struct server *srv)
{
	struct journal *j, *tmp;
	HASH_ITER(hh, srv->journals, j, tmp) {
		HASH_DEL(srv->journals, j);
		free(j);
	}
}
