/* Who asks over HTTP. Everything here is for the loop thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "daemon/base/err.h"
#include "daemon/config/access.h"
#include "daemon/config/options.h"

#define PRINCIPAL_NAME_MAX 128

/* Whom requests are made for: what he may do, and under which name it is on record. */
struct principal {
	char name[PRINCIPAL_NAME_MAX]; /* letters, digits and ._:@/- only; empty: the user `uid` of this host */
	uid_t uid;		       /* of the peer of a Unix socket, as the kernel has it; else (uid_t)-1 */
	gid_t gid;
	pid_t pid; /* the same; else 0 */
	struct access access;
	struct access_rules *own; /* access.rules, if they were made for this principal; or NULL */
};
void principal_set_name(struct principal *p, const char *name); /* what may not be in it becomes _ */
/* `roles` are bits 1 << enum role; n 0: in all namespaces. 0, -ENOMEM, or -EINVAL: not the name of a namespace. */
int principal_grant(struct principal *p, unsigned roles, const char *const *namespaces, size_t n) must_check;
void principal_done(struct principal *p);

/* What a request shows of who makes it. Pointers are good for the call only. */
struct auth_question {
	uint64_t ticket;	   /* names the request in a later answer */
	const char *authorization; /* value of the header, or NULL */
	const char *peer;	   /* address, for logs */
};

enum auth_verdict {
	AUTH_OK,
	AUTH_MISSING, /* nothing is shown, and something is needed */
	AUTH_INVALID, /* unknown, malformed or expired: *e says which */
	AUTH_LATER,   /* auth_done will be called with the ticket */
};
typedef void auth_done_fn(void *arg, uint64_t ticket, enum auth_verdict v, struct principal *who, const struct err *e); /* takes what `who` holds */

struct auth;
/* `opt` changes with a reload. `done` may be called for questions whose request is gone. NULL with *e. */
struct auth *auth_new(const struct options *opt, auth_done_fn *done, void *arg, struct err *e) must_check;
struct auth *auth_free(struct auth *a); /* returns NULL, accepts NULL */

/* Who makes a request over TCP. AUTH_OK: *who is the caller's, with principal_done; AUTH_MISSING and AUTH_INVALID: *e is what the client is told. */
enum auth_verdict http_authenticate(struct auth *a, const struct auth_question *q, struct principal *who, struct err *e) must_check;
