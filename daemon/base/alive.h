/* Whether threads get on. A thread says when it begins to wait, for work or for the database, which may take as long as
 * it likes, and when it goes on; one that has been at work for longer than anything takes stands still (a lock that
 * never comes, an endless loop). The watchdog is fed only while none does. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include "daemon/base/clock.h"

struct alive {
	_Atomic usec_t since; /* at work since then; 0: it waits, or does not run */
	_Atomic usec_t asked; /* waits for an answer of the database since then; 0: it does not */
	_Atomic(const char *) call; /* which answer: of static life, or NULL */
};

/* The calling thread's from now on, at work; NULL: none any more, and the last one waits for ever. */
void alive_attach(struct alive *a);
/* The calling thread begins to wait, and goes on. Nothing if it has no struct alive. */
void alive_wait(void);
void alive_work(void);
/* Likewise, for the database to answer. */
void alive_ask(void);
/* What the calling thread is about to ask. */
void alive_call(const char *call);
/* The value of an expression that waits; that waits for the database. */
#define ALIVE_WAITING(expr) ALIVE_MEANWHILE(alive_wait, expr)
#define ALIVE_ASKING(expr) ALIVE_MEANWHILE(alive_ask, expr)
#define ALIVE_MEANWHILE(begin, expr)                                                                                                                                     \
	({                                                                                                                                                      \
		begin();                                                                                                                                        \
		__auto_type waited_for_ = (expr);                                                                                                               \
		alive_work();                                                                                                                                   \
		waited_for_;                                                                                                                                    \
	})
/* It has been at work for more than `limit`. */
bool alive_stalled(const struct alive *a, usec_t limit);
