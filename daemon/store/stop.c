/* Stopping the store: let the queue run dry, ask the threads to end, and cut the connections of those that a database
 * standing still holds. */
#include "daemon/store/store_impl.h"

#include <poll.h>
#include <sys/socket.h>

static void free_requests(struct mail *m)
{
	while (m) {
		struct mail *next = m->next;
		req_free(req_of(m));
		m = next;
	}
}

struct store *store_destroy(struct store *s)
{
	s->spans = spans_free(s->spans);
	free_requests(s->hot.head);
	free_requests(s->api.head);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	pthread_cond_destroy(&s->work);
	for (size_t i = 0; i < sizeof s->wake / sizeof *s->wake; i++)
		pthread_cond_destroy(&s->wake[i]);
	pthread_mutex_destroy(&s->lock);
	free(s->conninfo);
	free(s->session_conninfo);
	free(s->node_name);
	free(s->version);
	free(s->retention);
	free(s->slots);
	free(s);
	return NULL;
}

/* The store threads have ended; or the two that serve the node. */
static bool exited(struct store *s, bool others)
{
	pthread_mutex_lock(&s->lock);
	bool r = others ? (s->presence_exited || !s->presence_started) && (s->keeper_exited || !s->keeper_started)
	                : s->n_exited == s->n_threads;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static bool wait_exited(struct store *s, bool others, int ms)
{
	usec_t end = now_mono() + (usec_t)ms * USEC_PER_MSEC;
	while (!exited(s, others) && now_mono() < end)
		poll(NULL, 0, 5);
	return exited(s, others);
}

/* A thread blocked in libpq sees its connection end. */
static void cut_connections(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < sizeof s->conns / sizeof *s->conns; i++)
		if (s->conns[i] && PQsocket(s->conns[i]) >= 0)
			shutdown(PQsocket(s->conns[i]), SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
}

static void stop_waiting(struct store *s)
{
	uint64_t one = 1;
	ssize_t ignored = write(s->stop_fd, &one, sizeof one);
	(void)ignored;
}

struct store *store_stop(struct store *s, int timeout_ms)
{
	if (!s)
		return NULL;
	lane_abandon(s);
	pthread_mutex_lock(&s->lock);
	store_wake_hot(s);
	pthread_mutex_unlock(&s->lock);
	/* Let the queue run dry first, for as long as the database answers. */
	for (usec_t end = now_mono() + (usec_t)timeout_ms * USEC_PER_MSEC;
	     store_depth(s) > 0 && store_is_up(s) && now_mono() < end;)
		poll(NULL, 0, 5);
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	store_wake_all(s);
	pthread_mutex_unlock(&s->lock);
	if (!wait_exited(s, false, store_is_up(s) ? timeout_ms : 0)) {
		stop_waiting(s);
		while (!wait_exited(s, false, 500))
			cut_connections(s);
	}
	for (int i = 0; i < s->n_threads; i++)
		pthread_join(s->threads[i], NULL);
	spans_stop(s->spans);
	stop_waiting(s);
	while (!wait_exited(s, true, 2000))
		cut_connections(s);
	if (s->presence_started)
		pthread_join(s->presence, NULL);
	if (s->keeper_started)
		pthread_join(s->keeper, NULL);
	return store_destroy(s);
}
