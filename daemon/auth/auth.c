#include "daemon/auth/auth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/auth/jwt.h"
#include "daemon/auth/tokens.h"

struct auth {
	const struct options *opt;
	struct tokens *tokens;
	struct jwt_keys *keys; /* NULL: no JSON Web Tokens are taken */
	bool shown;	       /* somebody has shown a bearer token */
};

/* ---- principals ---- */

bool principal_set_name(struct principal *p, const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@/|+=~-";
	size_t n = 0;
	for (; *name; name++) {
		bool stays = strchr(plain, *name);
		if (n + (stays ? 1 : 3) >= sizeof p->name)
			return false;
		n += (size_t)snprintf(p->name + n, sizeof p->name - n, stays ? "%c" : "%%%02X", (unsigned char)*name);
	}
	p->name[n] = '\0';
	return true;
}

int principal_grant(struct principal *p, unsigned roles, const char *const *namespaces, size_t n)
{
	struct access_rules *rules = access_rules_grant(roles, namespaces, n);
	if (!rules)
		return n > 0 ? -EINVAL : -ENOMEM;
	access_rules_free(p->own);
	p->own = rules;
	p->access = access_of(rules, p->uid, NULL, 0);
	return 0;
}

void principal_done(struct principal *p)
{
	p->own = access_rules_free(p->own);
	p->access.rules = NULL;
}

/* ---- life ---- */

struct jwt_keys *auth_read_files(const struct options *opt, struct buf *notes, struct err *e)
{
	return opt->jwt_key_file ? jwt_keys_load(opt->jwt_key_file, notes, e) : NULL;
}

void auth_files_free(struct jwt_keys *keys)
{
	jwt_keys_free(keys);
}

void auth_reload(struct auth *a, struct jwt_keys *keys)
{
	jwt_keys_free(a->keys);
	a->keys = keys;
}

struct auth *auth_new(const struct options *opt, struct buf *notes, struct err *e)
{
	struct auth *a = calloc(1, sizeof *a);
	if (!a || !(a->tokens = tokens_new())) {
		err_set(e, -ENOMEM, "internal", "out of memory");
		return auth_free(a);
	}
	a->opt = opt;
	a->keys = auth_read_files(opt, notes, e);
	return e->code[0] ? auth_free(a) : a;
}

struct auth *auth_free(struct auth *a)
{
	if (!a)
		return NULL;
	jwt_keys_free(a->keys);
	tokens_free(a->tokens);
	free(a);
	return NULL;
}

/* ---- tokens ---- */

void auth_sync_question(struct auth *a, struct buf *json)
{
	tokens_question(a->tokens, json);
}

bool auth_tokens_shown(const struct auth *a)
{
	return a->shown;
}

int auth_sync_answer(struct auth *a, const msgpack_object *answer, usec_t asked)
{
	return tokens_take(a->tokens, answer, asked);
}

/* What was heard of the tokens is too old to go by it. */
static bool is_stale(const struct auth *a)
{
	usec_t asked = tokens_asked(a->tokens);
	return asked == 0 || now_mono() - asked > AUTH_STALE_US;
}

static enum auth_verdict by_token(struct auth *a, const struct token_text *t, struct principal *who, struct err *e)
{
	a->shown = true;
	if (is_stale(a)) {
		err_set(e, -EAGAIN, "database_unavailable",
		        "tokens cannot be checked: the database has not answered for a while");
		return AUTH_INVALID;
	}
	int rc = tokens_find(a->tokens, t, now_wall(), who);
	if (rc == 0)
		return AUTH_OK;
	if (rc == -EACCES)
		err_set(e, rc, "permission_denied", "there is no such token, or it has expired or was revoked");
	else
		err_set(e, rc, "overloaded", "out of memory");
	return AUTH_INVALID;
}

/* ---- JSON Web Tokens ---- */

static enum auth_verdict by_jwt(const struct auth *a, const char *text, size_t len, struct principal *who,
                                struct err *e)
{
	const struct options *o = a->opt;
	if (!a->keys || !o->jwt_issuer || !o->jwt_audience) {
		err_set(e, -EACCES, "permission_denied",
		        "there is no such token (and JSON Web Tokens are not taken: jwt_key_file)");
		return AUTH_INVALID;
	}
	const struct jwt_rules rules = {.issuer = o->jwt_issuer,
	                                .audience = o->jwt_audience,
	                                .roles_claim = o->jwt_roles_claim,
	                                .namespaces_claim = o->jwt_namespaces_claim,
	                                .algorithms = o->jwt_algorithms,
	                                .leeway_ms = o->jwt_leeway_ms};
	return jwt_check(a->keys, &rules, text, len, now_wall(), who, e) == 0 ? AUTH_OK : AUTH_INVALID;
}

/* ---- asking ---- */

/* Who shows nothing has the role that the option http_anonymous_role gives. */
static enum auth_verdict anonymous(const struct auth *a, struct principal *who, struct err *e)
{
	if (a->opt->http_anonymous_role == ROLE_NONE) {
		err_set(e, -EACCES, "permission_denied", "a token is needed: send it as Authorization: Bearer TOKEN");
		return AUTH_MISSING;
	}
	if (principal_set_name(who, "anonymous") &&
	    principal_grant(who, 1u << a->opt->http_anonymous_role, NULL, 0) == 0)
		return AUTH_OK;
	err_set(e, -ENOMEM, "overloaded", "out of memory");
	return AUTH_INVALID;
}

enum auth_verdict http_authenticate(struct auth *a, const struct auth_question *q, struct principal *who, struct err *e)
{
	static const char scheme[] = "Bearer ";
	cleanup_(cleanup_token) struct token_text t;
	*who = (struct principal){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (!q->authorization)
		return anonymous(a, who, e);
	if (strncasecmp(q->authorization, scheme, sizeof scheme - 1) != 0) {
		err_set(e, -EACCES, "permission_denied",
		        "the only way to show who one is, is Authorization: Bearer TOKEN");
		return AUTH_INVALID;
	}
	const char *text = q->authorization + sizeof scheme - 1;
	text += strspn(text, " ");
	size_t len = strlen(text);
	enum auth_verdict v = token_read(text, len, &t) ? by_token(a, &t, who, e) : by_jwt(a, text, len, who, e);
	if (v != AUTH_OK)
		principal_done(who);
	return v;
}

bool auth_still(const struct auth *a, const struct principal *who)
{
	usec_t now = now_wall();
	if (who->expires && now >= who->expires)
		return false;
	return !who->token[0] || (!is_stale(a) && tokens_have(a->tokens, who->token, now));
}
