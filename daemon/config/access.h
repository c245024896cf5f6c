/* Who may do what: the rules of the option `access`, and what of them fits a peer. Rules never change, so that any
 * thread may read them; a reload puts others in their place. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/cleanup.h"
#include "daemon/template/yaml_tree.h"
#include "protocol/buf.h"
#include "protocol/msg.h"

#define ACCESS_RULES_MAX 256
#define ACCESS_NAMESPACE_MAX 29 /* bytes of a namespace's name */

struct access_rules;

/* The role of that name, or ROLE_NONE: there is none. */
enum role role_named(const char *name, size_t len);
bool is_namespace_name(const char *s, size_t len);

/* Rules from their node in the configuration file. What is wrong becomes findings, *ret is what is left. 0 or
 * -ENOMEM. */
int access_rules_read(const struct ynode *list, struct access_rules **ret, struct findings *f) must_check;
/* One rule for everyone: `roles` are bits 1 << enum role; n 0: in all namespaces. NULL: no memory, or not a namespace's
 * name. */
struct access_rules *access_rules_grant(unsigned roles, const char *const *namespaces, size_t n) must_check;
struct access_rules *access_rules_free(struct access_rules *r); /* returns NULL, accepts NULL */
/* Keep `r` (may be NULL) with those retired before it; returns what access_rules_free frees together. */
struct access_rules *access_rules_retire(struct access_rules *r, struct access_rules *before);
/* Append them as they would be written in the file, in one line. */
void access_rules_format(const struct access_rules *r, struct buf *out);
bool access_rules_equal(const struct access_rules *a, const struct access_rules *b);

/* What a peer is granted. A value; it points to the rules. */
struct access {
	const struct access_rules *rules; /* NULL: everything */
	uint64_t fits[ACCESS_RULES_MAX / 64];
};

/* `rules` NULL: there are none, and everybody may do everything. */
struct access access_of(const struct access_rules *rules, uid_t uid, const gid_t *gids, size_t n);
/* Whether it has a role (ROLE_NONE: any at all) in some namespace, in that one, in every one. */
bool access_has(const struct access *a, enum role role);
bool access_allows(const struct access *a, enum role role, const char *ns, size_t len);
bool access_everywhere(const struct access *a, enum role role);
/* Visit the namespaces of a role that are named, each once or more. */
void access_each_namespace(const struct access *a, enum role role, void (*fn)(const char *ns, void *arg),
                           void *arg);
bool access_equal(const struct access *a, const struct access *b);
/* Whether `a` grants everything that `less` does. */
bool access_covers(const struct access *a, const struct access *less);
