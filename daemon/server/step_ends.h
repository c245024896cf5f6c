/* How attempts end without a result: timeouts, lost workers, cancels. */
#pragma once
#include "daemon/store/request.h"

struct open_step;
struct server;
struct session;

/* End the attempt without the worker: timeout, lost, released. Frees `o` unless the worker still owes a word. */
void step_end(struct open_step *o, enum outcome outcome, const char *message);
void steps_lost(struct session *s, enum outcome outcome, const char *message);
/* Begin to count the step's time, if it has a limit. */
void step_set_timer(struct open_step *o);
void step_send_cancel(struct open_step *o, const char *reason);
/* Give back what the session runs in namespaces where it may no longer. */
void steps_withdraw(struct session *s);
void steps_cancelled(struct server *srv, const struct uuid *what, const char *reason); /* a task or a step */
void attempt_cancelled(struct server *srv, const struct cancelled *x, const char *reason);
