/* JSON Web Tokens (RFC 7519), signed with one of the keys of a file. cjose does the cryptography; what is accepted is
 * decided here. */
#pragma once
#include "daemon/auth/auth.h"
#include "daemon/auth/keys.h"
#include "daemon/base/clock.h"

#define JWT_MAX 8192 /* bytes */

struct jwt_rules { /* none of them NULL */
	const char *issuer, *audience, *roles_claim, *namespaces_claim;
	unsigned algorithms; /* bits 1 << enum jwt_algorithm */
	int leeway_ms;
};

/* Who the token is for, at `now` (wall clock): name, roles and namespaces into *who. 0; -EACCES with *e, which a client
 * may read; -ENOMEM. */
int jwt_check(const struct jwt_keys *keys, const struct jwt_rules *rules, const char *token, size_t len, usec_t now,
              struct principal *who, struct err *e) must_check;
