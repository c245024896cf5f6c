/* Starting the store, and what it says of itself. Its queue is in queue.c, its threads in threads.c, the calls they
 * make in calls.c, its end in stop.c. */
#include "daemon/store/store_impl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

void store_post(struct store *s, struct done *d)
{
	spans_note(s->spans, d);
	mailbox_push(s->cfg.answers, &d->mail);
}

bool store_is_up(struct store *s)
{
	return atomic_load(&s->up);
}

const unsigned char *store_secret(struct store *s)
{
	return s->node.secret;
}

bool store_stalled(const struct store *s, usec_t limit)
{
	for (size_t i = 0; i < sizeof s->alive / sizeof *s->alive; i++)
		if (alive_stalled(&s->alive[i], limit))
			return true;
	return false;
}

void store_set_load(struct store *s, const struct store_load *l)
{
	pthread_mutex_lock(&s->lock);
	s->load = *l;
	pthread_mutex_unlock(&s->lock);
}

void store_keep_lease(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->keep_lease = true;
	pthread_mutex_unlock(&s->lock);
}

void store_set_draining(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->draining = true;
	pthread_mutex_unlock(&s->lock);
}

void store_get_stats(struct store *s, struct store_stats *ret)
{
	*ret = (struct store_stats){
		.batches = atomic_load(&s->n_batches),
		.results = atomic_load(&s->n_results),
		.creates = atomic_load(&s->n_creates),
		.claims = atomic_load(&s->n_claims),
		.api = atomic_load(&s->n_api),
		.reconnects = atomic_load(&s->n_reconnects),
		.retries = atomic_load(&s->n_retries),
		.reclaims = atomic_load(&s->n_reclaims),
		.reclaimed_steps = atomic_load(&s->n_reclaimed_steps),
		.leases_lost = atomic_load(&s->n_leases_lost),
		.late = atomic_load(&s->n_late),
		.removed = atomic_load(&s->n_removed),
	};
}

void store_get_state(struct store *s, struct store_state *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = (struct store_state){.threads = (unsigned)s->n_threads,
	                            .idle = (unsigned)s->n_idle,
	                            .hot = s->hot.n,
	                            .api = s->api.n,
	                            .bytes = atomic_load(&s->bytes)};
	pthread_mutex_unlock(&s->lock);
}

/* Threads inherit a mask with every signal blocked: the loop handles them. */
static int spawn(struct store *s, pthread_t *t, void *(*fn)(void *))
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(t, NULL, fn, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int store_start(const struct store_config *cfg, struct store **ret, struct err *e)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "internal", "out of memory");
	s->cfg = *cfg;
	s->conninfo = strdup(cfg->conninfo);
	s->session_conninfo = strdup(cfg->session_conninfo);
	s->node_name = strdup(cfg->node_name);
	s->version = strdup(cfg->version);
	s->retention = strdup(cfg->retention);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	store_list_init(&s->hot);
	store_list_init(&s->api);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	for (size_t i = 0; i < sizeof s->wake / sizeof *s->wake; i++)
		pthread_cond_init(&s->wake[i], NULL);
	if (!s->conninfo || !s->session_conninfo || !s->node_name || !s->version || !s->retention || s->stop_fd < 0) {
		store_destroy(s);
		return err_set(e, -ENOMEM, "internal", "out of memory or descriptors");
	}
	int r = spans_start(s, &s->spans, e);
	if (r < 0) {
		store_destroy(s);
		return r;
	}
	r = spawn(s, &s->presence, presence_main);
	s->presence_started = r == 0;
	if (r == 0)
		r = spawn(s, &s->keeper, keeper_main);
	s->keeper_started = s->presence_started && r == 0;
	for (; r == 0 && s->n_threads < cfg->threads; s->n_threads++)
		if ((r = spawn(s, &s->threads[s->n_threads], store_thread_main)) < 0)
			break;
	if (r < 0) {
		store_stop(s, 0);
		return err_set(e, r, "internal", "cannot start a thread: %s", strerror(-r));
	}
	*ret = s;
	return 0;
}
