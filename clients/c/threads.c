/* Threads that run handlers, and what any thread may leave for the worker's own: finished steps, messages to
 * send, and requests whose answer it waits for. One lock, held for a few instructions. The worker's thread is
 * woken by one write, however much there is. */
#include "clients/c/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct shared *shared_new(void)
{
	struct shared *sh = calloc(1, sizeof *sh);
	pthread_condattr_t monotonic;
	if (!sh)
		return NULL;
	sh->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (sh->wake_fd < 0) {
		free(sh);
		return NULL;
	}
	sh->refs = 1;
	sh->todo_end = &sh->todo;
	sh->done_end = &sh->done;
	sh->posts_end = &sh->posts;
	pthread_mutex_init(&sh->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&sh->work, NULL);
	pthread_cond_init(&sh->answered, &monotonic);
	pthread_cond_init(&sh->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return sh;
}

void shared_ref(struct shared *sh)
{
	__atomic_add_fetch(&sh->refs, 1, __ATOMIC_RELAXED);
}

void shared_unref(struct shared *sh)
{
	if (!sh || __atomic_sub_fetch(&sh->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	close(sh->wake_fd);
	pthread_mutex_destroy(&sh->lock);
	pthread_cond_destroy(&sh->work);
	pthread_cond_destroy(&sh->answered);
	pthread_cond_destroy(&sh->ended);
	free(sh);
}

bool shared_is_owner(const struct shared *sh)
{
	return pthread_equal(__atomic_load_n(&sh->owner, __ATOMIC_RELAXED), pthread_self());
}

void shared_wake(struct shared *sh)
{
	uint64_t one = 1;
	ssize_t ignored = write(sh->wake_fd, &one, sizeof one);
	(void)ignored;
}

void shared_awake(struct shared *sh)
{
	uint64_t n;
	ssize_t ignored = read(sh->wake_fd, &n, sizeof n);
	(void)ignored;
}

/* Under the lock. */
static void wake_once(struct shared *sh)
{
	if (flag_get(&sh->woken))
		return;
	flag_set(&sh->woken, true);
	shared_wake(sh);
}

static struct timespec after_ms(int ms)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	return ts;
}

/* ---- steps ---- */

void shared_hand_over(struct shared *sh, struct tasker_step *s)
{
	pthread_mutex_lock(&sh->lock);
	s->todo_next = NULL;
	*sh->todo_end = s;
	sh->todo_end = &s->todo_next;
	pthread_cond_signal(&sh->work);
	pthread_mutex_unlock(&sh->lock);
}

/* Under the lock. */
static struct tasker_step *pop_todo(struct shared *sh)
{
	struct tasker_step *s = sh->todo;
	if (s && !(sh->todo = s->todo_next))
		sh->todo_end = &sh->todo;
	return s;
}

struct tasker_step *shared_take_back(struct shared *sh)
{
	pthread_mutex_lock(&sh->lock);
	struct tasker_step *s = pop_todo(sh);
	pthread_mutex_unlock(&sh->lock);
	return s;
}

static struct tasker_step *wait_for_step(struct shared *sh)
{
	pthread_mutex_lock(&sh->lock);
	while (!sh->todo && !sh->closed)
		pthread_cond_wait(&sh->work, &sh->lock);
	struct tasker_step *s = sh->closed ? NULL : pop_todo(sh);
	if (s)
		s->in_handler = true;
	pthread_mutex_unlock(&sh->lock);
	return s;
}

/* Under the lock. */
static void push_done(struct shared *sh, struct tasker_step *s)
{
	s->todo_next = NULL;
	*sh->done_end = s;
	sh->done_end = &s->todo_next;
	wake_once(sh);
}

void shared_finish(struct tasker_step *s)
{
	struct shared *sh = s->shared;
	shared_ref(sh); /* the step may go as soon as it is done */
	pthread_mutex_lock(&sh->lock);
	s->finished = true;
	if (!s->in_handler)
		push_done(sh, s);
	pthread_mutex_unlock(&sh->lock);
	shared_unref(sh);
}

bool shared_returned(struct tasker_step *s)
{
	pthread_mutex_lock(&s->shared->lock);
	s->in_handler = false;
	bool finished = s->finished;
	pthread_mutex_unlock(&s->shared->lock);
	return finished;
}

/* What becomes of a step whose handler has returned on a thread. False: it was given up, and the thread with
 * it. */
static bool settle(struct shared *sh, struct tasker_step *s, enum tasker_verdict verdict)
{
	pthread_mutex_lock(&sh->lock);
	bool abandoned = s->abandoned;
	s->in_handler = false;
	if (!abandoned && (verdict == TASKER_DONE || s->finished))
		push_done(sh, s);
	pthread_mutex_unlock(&sh->lock);
	if (abandoned)
		step_free(s);
	return !abandoned;
}

static void *serve(void *arg)
{
	struct shared *sh = arg;
	struct tasker_step *s;
	while ((s = wait_for_step(sh))) {
		enum tasker_verdict verdict = TASKER_DONE;
		s->started_us = tasker_now_us_();
		if (flag_get(&s->cancelled))
			step_set_failure(s, "Cancelled", false, "cancelled before it began");
		else
			verdict = s->fn(s->arg, s);
		if (!settle(sh, s, verdict))
			break;
	}
	pthread_mutex_lock(&sh->lock);
	sh->live--;
	pthread_cond_broadcast(&sh->ended);
	pthread_mutex_unlock(&sh->lock);
	shared_unref(sh);
	return NULL;
}

int shared_add_thread(struct shared *sh)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	shared_ref(sh);
	pthread_mutex_lock(&sh->lock);
	sh->live++;
	pthread_mutex_unlock(&sh->lock);
	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int e = pthread_create(&thread, &attr, serve, sh);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (e == 0)
		return 0;
	pthread_mutex_lock(&sh->lock);
	sh->live--;
	pthread_mutex_unlock(&sh->lock);
	shared_unref(sh);
	return -e;
}

void shared_close(struct shared *sh, int timeout_ms)
{
	struct timespec until = after_ms(timeout_ms);
	pthread_mutex_lock(&sh->lock);
	sh->closed = true;
	pthread_cond_broadcast(&sh->work);
	pthread_cond_broadcast(&sh->answered);
	while (sh->live > 0)
		if (pthread_cond_timedwait(&sh->ended, &sh->lock, &until) != 0)
			break;
	pthread_mutex_unlock(&sh->lock);
}

void shared_sweep(struct shared *sh, struct tasker_step **ret_done, struct post **ret_posts)
{
	*ret_done = NULL;
	*ret_posts = NULL;
	if (!flag_get(&sh->woken))
		return;
	pthread_mutex_lock(&sh->lock);
	*ret_done = sh->done;
	*ret_posts = sh->posts;
	sh->done = NULL;
	sh->done_end = &sh->done;
	sh->posts = NULL;
	sh->posts_end = &sh->posts;
	flag_set(&sh->woken, false);
	pthread_mutex_unlock(&sh->lock);
}

/* ---- messages ---- */

static int not_there(struct tasker_error *err)
{
	return tasker_fail_(err, -ENOTCONN, "connection_lost", "the worker has ended");
}

static struct post *new_post(const char *method, const void *params, size_t len)
{
	struct post *p = malloc(sizeof *p + len);
	if (!p)
		return NULL;
	*p = (struct post){.method = method, .len = len};
	memcpy(p->bytes, params, len);
	return p;
}

/* Under the lock. */
static void push_post(struct shared *sh, struct post *p)
{
	*sh->posts_end = p;
	sh->posts_end = &p->next;
	wake_once(sh);
}

int shared_post(struct shared *sh, const char *method, const void *params, size_t len,
                struct tasker_error *err)
{
	struct post *p = new_post(method, params, len);
	if (!p)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	pthread_mutex_lock(&sh->lock);
	bool closed = sh->closed;
	if (!closed)
		push_post(sh, p);
	pthread_mutex_unlock(&sh->lock);
	if (!closed)
		return 0;
	free(p);
	return not_there(err);
}

void shared_on_reply(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct waiter *wt = arg;
	struct shared *sh = wt->shared;
	pthread_mutex_lock(&sh->lock);
	bool gone = wt->gone;
	if (!gone && err)
		wt->err = *err;
	else if (!gone)
		wt->fn(wt->arg, result, NULL);
	wt->answered = true;
	pthread_cond_broadcast(&sh->answered);
	pthread_mutex_unlock(&sh->lock);
	if (gone)
		free(wt);
	shared_unref(sh);
}

/* Under the lock. The waiter is freed here or, if there is no answer, by the one that comes too late. */
static int wait_for_answer(struct shared *sh, struct waiter *wt, int timeout_ms, struct tasker_error *err)
{
	struct timespec until = after_ms(timeout_ms);
	while (!wt->answered && !sh->closed)
		if (pthread_cond_timedwait(&sh->answered, &sh->lock, &until) != 0)
			break;
	if (!wt->answered) {
		wt->gone = true;
		return sh->closed ? not_there(err)
		                  : tasker_fail_(err, -ETIMEDOUT, "timeout",
		                                 "taskerd did not answer within %d ms", timeout_ms);
	}
	int rc = wt->err.rc;
	if (rc < 0 && err)
		*err = wt->err;
	free(wt);
	return rc;
}

int shared_call(struct shared *sh, const char *method, const void *params, size_t len, int timeout_ms,
                tasker_reply_fn *fn, void *arg, struct tasker_error *err)
{
	struct post *p = new_post(method, params, len);
	struct waiter *wt = calloc(1, sizeof *wt);
	if (!p || !wt) {
		free(p);
		free(wt);
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	}
	*wt = (struct waiter){.shared = sh, .fn = fn, .arg = arg};
	p->waiter = wt;
	pthread_mutex_lock(&sh->lock);
	int rc = -ENOTCONN;
	if (sh->closed) {
		free(p);
		free(wt);
		not_there(err);
	} else {
		shared_ref(sh); /* the waiter's */
		push_post(sh, p);
		rc = wait_for_answer(sh, wt, timeout_ms, err);
	}
	pthread_mutex_unlock(&sh->lock);
	return rc;
}
