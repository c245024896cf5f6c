#include "daemon/metrics/series.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct entry {
	unsigned id; /* 0: folded */
	UT_hash_handle hh;
	size_t ns_len; /* of key, which is the two names with their ends */
	size_t key_len;
	char key[];
};

struct series {
	pthread_mutex_t lock;
	struct entry *by_name;
	unsigned max, n, folded;
	struct entry *by_id[];
};

struct series *series_new(unsigned max)
{
	struct series *s = calloc(1, sizeof *s + (max + 1u) * sizeof(struct entry *));
	if (!s)
		return NULL;
	s->max = max;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

struct series *series_free(struct series *s)
{
	struct entry *e, *tmp;
	if (!s)
		return NULL;
	HASH_ITER(hh, s->by_name, e, tmp) {
		HASH_DEL(s->by_name, e);
		free(e);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

static struct entry *entry_new(const char *key, size_t key_len, size_t ns_len)
{
	struct entry *e = calloc(1, sizeof *e + key_len);
	if (!e)
		return NULL;
	memcpy(e->key, key, key_len);
	e->key_len = key_len;
	e->ns_len = ns_len;
	return e;
}

/* With the lock held. */
static void add(struct series *s, struct entry *e)
{
	struct entry *added = NULL;
	HASH_ADD_KEYPTR(hh, s->by_name, e->key, e->key_len, e);
	HASH_FIND(hh, s->by_name, e->key, e->key_len, added);
	if (!added) { /* no memory for the table */
		free(e);
		return;
	}
	if (s->n < s->max) {
		e->id = ++s->n;
		s->by_id[e->id] = e;
	} else {
		s->folded++;
	}
}

unsigned series_of(struct series *s, const char *ns, const char *name)
{
	char key[512];
	size_t n = strlen(ns) + 1, m = strlen(name) + 1;
	struct entry *e = NULL;
	if (!s || n + m > sizeof key || (strcmp(ns, SERIES_OTHER) == 0 && strcmp(name, SERIES_OTHER) == 0))
		return 0;
	memcpy(key, ns, n);
	memcpy(key + n, name, m);
	pthread_mutex_lock(&s->lock);
	HASH_FIND(hh, s->by_name, key, n + m, e);
	if (!e && (s->n < s->max || s->folded < SERIES_FOLDED_MAX) && (e = entry_new(key, n + m, n - 1)))
		add(s, e);
	HASH_FIND(hh, s->by_name, key, n + m, e);
	unsigned id = e ? e->id : 0;
	pthread_mutex_unlock(&s->lock);
	return id;
}

unsigned series_count(struct series *s)
{
	pthread_mutex_lock(&s->lock);
	unsigned n = s->n;
	pthread_mutex_unlock(&s->lock);
	return n;
}

unsigned series_folded(struct series *s)
{
	pthread_mutex_lock(&s->lock);
	unsigned n = s->folded;
	pthread_mutex_unlock(&s->lock);
	return n;
}

void series_names(struct series *s, unsigned id, const char **ret_ns, const char **ret_name)
{
	pthread_mutex_lock(&s->lock);
	const struct entry *e = id > 0 && id <= s->n ? s->by_id[id] : NULL;
	*ret_ns = e ? e->key : SERIES_OTHER;
	*ret_name = e ? e->key + e->ns_len + 1 : SERIES_OTHER;
	pthread_mutex_unlock(&s->lock);
}
