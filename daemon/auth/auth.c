#include "daemon/auth/auth.h"

#include <errno.h>
#include <string.h>

struct auth {
	const struct options *opt;
};

/* ---- principals ---- */

void principal_set_name(struct principal *p, const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@/-";
	size_t n = 0;
	for (; name[n] && n < sizeof p->name - 1; n++)
		p->name[n] = strchr(plain, name[n]) ? name[n] : '_';
	p->name[n] = '\0';
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

/* ---- asking ---- */

struct auth *auth_new(const struct options *opt, auth_done_fn *done, void *arg, struct err *e)
{
	struct auth *a = calloc(1, sizeof *a);
	(void)done, (void)arg;
	if (!a) {
		err_set(e, -ENOMEM, "internal", "out of memory");
		return NULL;
	}
	a->opt = opt;
	return a;
}

struct auth *auth_free(struct auth *a)
{
	free(a);
	return NULL;
}

/* Who shows nothing has the role that the option http_anonymous_role gives. */
static enum auth_verdict anonymous(const struct auth *a, struct principal *who, struct err *e)
{
	if (a->opt->http_anonymous_role == ROLE_NONE) {
		err_set(e, -EACCES, "permission_denied", "a token is needed: send it as Authorization: Bearer TOKEN");
		return AUTH_MISSING;
	}
	principal_set_name(who, "anonymous");
	if (principal_grant(who, 1u << a->opt->http_anonymous_role, NULL, 0) == 0)
		return AUTH_OK;
	err_set(e, -ENOMEM, "overloaded", "out of memory");
	return AUTH_INVALID;
}

enum auth_verdict http_authenticate(struct auth *a, const struct auth_question *q, struct principal *who, struct err *e)
{
	*who = (struct principal){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (!q->authorization)
		return anonymous(a, who, e);
	err_set(e, -EACCES, "permission_denied", "there is no such token");
	return AUTH_INVALID;
}
