/* A many-to-one queue between threads. Items are intrusive; the reader takes the whole list at once. The eventfd
 * becomes readable when the list stops being empty and is cleared by mailbox_take. Bounded softly: mailbox_depth tells
 * producers to stop reading their sources; a push itself never fails, so an accepted fact is never dropped. */
#pragma once
#include <pthread.h>
#include <stddef.h>
#include "daemon/base/cleanup.h"

struct mail {
	struct mail *next;
};

struct mailbox {
	pthread_mutex_t lock;
	pthread_cond_t nonempty;
	struct mail *head, **tail;
	size_t depth;
	int fd; /* eventfd, nonblocking, cloexec */
	int closed;
};

int mailbox_init(struct mailbox *m) must_check;
void mailbox_done(struct mailbox *m);
/* Takes `item`. */
void mailbox_push(struct mailbox *m, struct mail *item);
/* Returns the list in order (caller owns), or NULL. Never blocks. */
struct mail *mailbox_take(struct mailbox *m);
/* Like mailbox_take but waits until there is something, the mailbox is closed (then NULL), or `timeout_ms` passed (then
 * NULL; < 0: no limit). */
struct mail *mailbox_wait(struct mailbox *m, int timeout_ms);
void mailbox_close(struct mailbox *m);
int mailbox_is_closed(struct mailbox *m);
size_t mailbox_depth(struct mailbox *m);
