#include "daemon/auth/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/hash.h"
#include "daemon/base/need.h"

struct token {
	char id[TOKEN_ID_LEN + 1];
	UT_hash_handle hh;
	uint8_t hash[TOKEN_HASH_LEN];
	char *name, **namespaces;
	size_t n_namespaces; /* 0: all */
	unsigned roles;
	usec_t expires; /* wall clock, 0: never */
	bool used;
};

struct tokens {
	struct token *table; /* by id */
	char seen[65];
	usec_t asked;
};

static void token_free(struct token *t)
{
	for (size_t i = 0; i < t->n_namespaces; i++)
		free(t->namespaces[i]);
	free(t->namespaces);
	free(t->name);
	free(t);
}

static void table_free(struct token **table)
{
	struct token *t, *tmp;
	HASH_ITER(hh, *table, t, tmp)
	{
		HASH_DEL(*table, t);
		token_free(t);
	}
}

struct tokens *tokens_new(void)
{
	return calloc(1, sizeof(struct tokens));
}

struct tokens *tokens_free(struct tokens *t)
{
	if (t)
		table_free(&t->table);
	free(t);
	return NULL;
}

usec_t tokens_asked(const struct tokens *t)
{
	return t->asked;
}

/* ---- from the database ---- */

/* With a NUL; what is copied has none. */
static char *copied(const char *p, size_t n)
{
	char *text = malloc(n + 1);
	if (text) {
		memcpy(text, p, n);
		text[n] = '\0';
	}
	return text;
}

static bool read_namespaces(struct token *t, const msgpack_object *list)
{
	size_t n = list->via.array.size;
	t->namespaces = calloc(n, sizeof *t->namespaces);
	for (; t->namespaces && t->n_namespaces < n; t->n_namespaces++) {
		const msgpack_object *o = &list->via.array.ptr[t->n_namespaces];
		char *name = o->type == MSGPACK_OBJECT_STR ? copied(o->via.str.ptr, o->via.str.size) : NULL;
		if (!name)
			return false;
		t->namespaces[t->n_namespaces] = name;
	}
	return t->namespaces && n > 0;
}

static bool read_roles(struct token *t, const msgpack_object *list)
{
	for (uint32_t i = 0; i < list->via.array.size; i++) {
		const msgpack_object *o = &list->via.array.ptr[i];
		if (o->type != MSGPACK_OBJECT_STR)
			return false;
		t->roles |= 1u << role_named(o->via.str.ptr, o->via.str.size);
	}
	t->roles &= ~(1u << ROLE_NONE);
	return true;
}

static bool read_token(const msgpack_object *o, struct token *t)
{
	const char *id = "", *hash = "", *name = "";
	size_t id_n = 0, hash_n = 0, name_n = 0;
	const msgpack_object *roles = NULL, *namespaces = NULL;
	int64_t expires = 0;
	if (mp_get_str(o, "id", &id, &id_n) != 1 || id_n != TOKEN_ID_LEN ||
	    mp_get_str(o, "hash", &hash, &hash_n) != 1 || hash_n != 2 * TOKEN_HASH_LEN ||
	    !hex_read(hash, t->hash, TOKEN_HASH_LEN) || mp_get_str(o, "name", &name, &name_n) != 1 ||
	    mp_get_array(o, "roles", &roles) != 1 || !read_roles(t, roles))
		return false;
	memcpy(t->id, id, TOKEN_ID_LEN);
	if (mp_get_int(o, "expires_us", 1, INT64_MAX, &expires) < 0)
		return false;
	t->expires = (usec_t)expires;
	t->name = copied(name, name_n);
	int has = mp_get_array(o, "namespaces", &namespaces);
	return t->name && (has == 0 || (has == 1 && read_namespaces(t, namespaces)));
}

/* A table of the list's tokens. 0 or negative. */
static int read_table(const msgpack_object *list, const struct token *old, struct token **ret)
{
	for (uint32_t i = 0; i < list->via.array.size; i++) {
		struct token *t = calloc(1, sizeof *t), *before = NULL;
		if (!t || list->via.array.ptr[i].type != MSGPACK_OBJECT_MAP ||
		    !read_token(&list->via.array.ptr[i], t)) {
			if (t)
				token_free(t);
			return t ? -EINVAL : -ENOMEM;
		}
		HASH_FIND_STR(old, t->id, before);
		t->used = before && before->used;
		HASH_ADD_STR(*ret, id, t);
	}
	return 0;
}

int tokens_take(struct tokens *t, const msgpack_object *answer, usec_t asked)
{
	const char *seen = "";
	size_t n = 0;
	const msgpack_object *list = NULL;
	struct token *table = NULL;
	if (mp_get_str(answer, "seen", &seen, &n) != 1 || n >= sizeof t->seen)
		return -EINVAL;
	if (asked < t->asked)
		return 0; /* overtaken by a later one */
	if (mp_get_array(answer, "tokens", &list) == 1) {
		int rc = read_table(list, t->table, &table);
		if (rc < 0) {
			table_free(&table);
			return rc;
		}
		table_free(&t->table);
		t->table = table;
		memcpy(t->seen, seen, n);
		t->seen[n] = '\0';
	}
	t->asked = asked;
	return 0;
}

void tokens_question(struct tokens *t, struct buf *json)
{
	struct token *x, *tmp;
	const char *gap = "";
	buf_printf(json, "{\"seen\":\"%s\",\"used\":[", t->seen);
	HASH_ITER(hh, t->table, x, tmp)
	{
		if (!x->used)
			continue;
		buf_printf(json, "%s\"%s\"", gap, x->id);
		gap = ",";
		x->used = false;
	}
	buf_append_str(json, "]}");
}

/* ---- asking ---- */

static struct token *good(const struct tokens *t, const char *id, usec_t now)
{
	struct token *found = NULL;
	HASH_FIND_STR(t->table, id, found);
	return found && (found->expires == 0 || now < found->expires) ? found : NULL;
}

bool tokens_have(const struct tokens *t, const char *id, usec_t now)
{
	return good(t, id, now);
}

int tokens_find(struct tokens *t, const struct token_text *text, usec_t now, struct principal *who)
{
	struct token *x = good(t, text->id, now);
	char name[PRINCIPAL_NAME_MAX];
	if (!x || !token_hash_equal(x->hash, text->hash))
		return -EACCES;
	snprintf(name, sizeof name, "token:%.100s", x->name);
	snprintf(who->token, sizeof who->token, "%s", x->id);
	if (!principal_set_name(who, name) ||
	    principal_grant(who, x->roles, (const char *const *)x->namespaces, x->n_namespaces) < 0)
		return -ENOMEM;
	who->expires = x->expires;
	x->used = true;
	return 0;
}
