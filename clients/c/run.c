/* Running steps: on the worker's thread for a slice of time, or on threads of its own; and what comes back
 * from them. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct tasker_worker *w)
{
	return tasker_fail_(&w->fatal, -ENOMEM, "out_of_memory", "out of memory");
}

/* The outcome is set: keep it, and forget the step. */
static int complete(struct tasker_worker *w, struct tasker_step *s)
{
	int rc = flag_get(&s->stale) ? 0 : step_keep_result(s);
	step_free(s);
	return rc < 0 ? out_of_memory(w) : 0;
}

static int refuse(struct tasker_worker *w, struct tasker_step *s, const tasker_value *callable)
{
	char name[128], text[200];
	tasker_copy(callable, name, sizeof name);
	snprintf(text, sizeof text, "this worker has no handler %s", name);
	worker_log(w, "a step came for the handler %s, which this worker never offered", name);
	step_set_failure(s, "handler_not_found", true, text);
	return complete(w, s);
}

static int run_here(struct tasker_worker *w, struct tasker_step *s)
{
	enum tasker_verdict verdict = TASKER_DONE;
	s->in_handler = true;
	if (flag_get(&s->cancelled))
		step_set_failure(s, "Cancelled", false, "cancelled before it began");
	else
		verdict = s->fn(s->arg, s);
	if (verdict == TASKER_DEFERRED) {
		s->state = STEP_DEFERRED;
		step_list_push(&w->deferred, s);
		if (!shared_returned(s))
			return 0;
		step_list_remove(&w->deferred, s);
	}
	return complete(w, s);
}

/* 0, or -ENOMEM. */
static int run_step(struct tasker_worker *w, struct tasker_step *s)
{
	const tasker_value *callable = tasker_get(tasker_get(as_value(s->o), "handler"), "callable");
	const struct handler *h = worker_find_handler(w, callable);
	s->state = STEP_RUNNING;
	w->stats.steps++;
	if (!h)
		return refuse(w, s, callable);
	s->fn = h->fn;
	s->arg = h->arg;
	if (w->threads == 0)
		return run_here(w, s);
	s->state = STEP_DEFERRED;
	s->on_thread = true;
	step_list_push(&w->deferred, s);
	shared_hand_over(w->shared, s);
	return 0;
}

int run_queue(struct tasker_worker *w)
{
	uint64_t begin = w->queue.head ? tasker_now_us_() : 0, now = begin;
	while (w->queue.head && now - begin <= w->run_slice_us) {
		struct tasker_step *s = w->queue.head;
		step_list_remove(&w->queue, s);
		s->started_us = now;
		if (run_step(w, s) < 0)
			return w->fatal.rc;
		if (w->threads == 0)
			now = tasker_now_us_();
	}
	return 0;
}

void run_give_back(struct tasker_worker *w)
{
	struct tasker_step *s;
	while ((s = w->queue.head)) {
		step_list_remove(&w->queue, s);
		step_free(s);
	}
	while ((s = shared_take_back(w->shared))) {
		step_list_remove(&w->deferred, s);
		step_free(s);
	}
}

/* ---- what threads have left ---- */

static void answer_post(struct post *p, const struct tasker_error *why)
{
	if (p->waiter)
		shared_on_reply(p->waiter, NULL, why);
	free(p);
}

void run_fail_posts(struct tasker_worker *w, const struct tasker_error *why)
{
	struct post *p;
	while ((p = w->posts)) {
		w->posts = p->next;
		answer_post(p, why);
	}
	w->posts_end = &w->posts;
}

static void send_post(struct tasker_worker *w, struct post *p)
{
	struct tasker_error err;
	int rc = p->waiter
	             ? tasker_send(w->conn, p->method, p->bytes, p->len, shared_on_reply, p->waiter, &err)
	             : tasker_notify(w->conn, p->method, p->bytes, p->len, NULL);
	if (rc < 0 && p->waiter)
		shared_on_reply(p->waiter, NULL, &err);
	free(p);
}

/* Without a connection what only tells is dropped, and what asks waits for the next one. */
static void send_posts(struct tasker_worker *w)
{
	struct post *p, *all = w->posts;
	w->posts = NULL;
	w->posts_end = &w->posts;
	while ((p = all)) {
		all = p->next;
		p->next = NULL;
		if (w->conn && w->conn->lost.rc == 0) {
			send_post(w, p);
		} else if (p->waiter) {
			*w->posts_end = p;
			w->posts_end = &p->next;
		} else {
			free(p);
		}
	}
}

int run_swept(struct tasker_worker *w)
{
	struct tasker_step *s;
	struct post *posts;
	int rc = 0;
	shared_sweep(w->shared, &s, &posts);
	*w->posts_end = posts;
	while (*w->posts_end)
		w->posts_end = &(*w->posts_end)->next;
	if (w->posts)
		send_posts(w);
	for (struct tasker_step *next; s; s = next) {
		next = s->todo_next;
		step_list_remove(&w->deferred, s);
		if (complete(w, s) < 0)
			rc = w->fatal.rc;
	}
	return rc;
}

/* ---- handlers that do not return ---- */

bool run_give_up(struct tasker_step *s)
{
	pthread_mutex_lock(&s->shared->lock);
	bool runs = s->in_handler;
	s->abandoned = runs;
	pthread_mutex_unlock(&s->shared->lock);
	return runs;
}

static void abandon(struct tasker_worker *w, struct tasker_step *s)
{
	if (!run_give_up(s))
		return;
	worker_log(w, "the handler of step %s does not return: its thread is replaced", s->step_uuid);
	step_list_remove(&w->deferred, s);
	if (!flag_get(&s->stale) && step_keep_abandoned(s) < 0)
		out_of_memory(w);
	shared_add_thread(w->shared);
}

void run_abandon(struct tasker_worker *w)
{
	uint64_t now = tasker_now_us_(), limit = (uint64_t)w->abandon_after_ms * 1000, next = 0;
	if (w->abandon_at_us == 0 || now < w->abandon_at_us)
		return;
	for (struct tasker_step *s = w->deferred.head, *after; s; s = after) {
		after = s->next;
		if (!s->on_thread || s->cancelled_us == 0)
			continue;
		if (now - s->cancelled_us >= limit)
			abandon(w, s);
		else if (next == 0 || s->cancelled_us + limit < next)
			next = s->cancelled_us + limit;
	}
	w->abandon_at_us = next;
}
