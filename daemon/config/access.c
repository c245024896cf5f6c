/* The option `access`. Names of users and groups are looked up once, when the file is read: the loop thread never
 * asks a directory service. */
#include "daemon/config/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/template/suggest.h"

#define LOOKUP_MAX (1u << 20) /* bytes of an entry of the user database: a group may have many members */

struct ids {
	unsigned *v;
	size_t n;
};

struct access_rule {
	unsigned roles; /* bits 1 << enum role */
	bool everyone;
	struct ids uids, gids;
	char **namespaces; /* NULL: all */
	size_t n_namespaces;
};

struct access_rules {
	struct access_rules *retired; /* that these have replaced: somebody may still hold them */
	size_t n;
	struct access_rule rule[];
};

enum role role_named(const char *name, size_t len)
{
	for (int r = ROLE_NONE + 1; r < ROLE_COUNT; r++)
		if (strlen(role_names[r]) == len && memcmp(name, role_names[r], len) == 0)
			return (enum role)r;
	return ROLE_NONE;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool is_namespace_name(const char *s, size_t len)
{
	bool ok = len > 0 && len <= ACCESS_NAMESPACE_MAX && is_letter(s[0]);
	for (size_t i = 1; ok && i < len; i++)
		ok = is_letter(s[i]) || (s[i] >= '0' && s[i] <= '9');
	return ok;
}

/* What the roles bring with them. */
static unsigned with_implied(unsigned roles)
{
	if (roles & 1u << ROLE_ADMIN)
		return (1u << ROLE_COUNT) - 1;
	if (roles & 1u << ROLE_OPERATE)
		roles |= 1u << ROLE_READ;
	return roles;
}

static void rule_done(struct access_rule *r)
{
	for (size_t i = 0; i < r->n_namespaces; i++)
		free(r->namespaces[i]);
	free(r->namespaces);
	free(r->uids.v);
	free(r->gids.v);
}

struct access_rules *access_rules_free(struct access_rules *r)
{
	while (r) {
		struct access_rules *before = r->retired;
		for (size_t i = 0; i < r->n; i++)
			rule_done(&r->rule[i]);
		free(r);
		r = before;
	}
	return NULL;
}

struct access_rules *access_rules_retire(struct access_rules *r, struct access_rules *before)
{
	if (!r)
		return before;
	r->retired = before;
	return r;
}

/* ---- reading ---- */

struct reading {
	struct access_rule *rule;
	struct findings *f;
	const char *key; /* of the file, for findings: access[2].user */
	int rc;
};

static void complain(struct reading *rd, const struct ynode *n, const char *expected)
{
	findings_add(rd->f, FINDING_ERROR, n->line, n->column, rd->key, "expected %s, found %s", expected,
	             DESCRIBE(n));
}

static void put_id(struct reading *rd, struct ids *ids, unsigned id)
{
	unsigned *v = realloc(ids->v, (ids->n + 1) * sizeof *v);
	if (!v) {
		rd->rc = -ENOMEM;
		return;
	}
	ids->v = v;
	ids->v[ids->n++] = id;
}

/* The id of a user's or group's name. 0, -ENOENT, or what the user database says. */
static int look_up(const char *name, bool group, unsigned *ret)
{
	cleanup_(cleanup_free) char *room = malloc(LOOKUP_MAX);
	struct passwd pw, *user = NULL;
	struct group gr, *found = NULL;
	if (!room)
		return -ENOMEM;
	int rc = group ? getgrnam_r(name, &gr, room, LOOKUP_MAX, &found)
	               : getpwnam_r(name, &pw, room, LOOKUP_MAX, &user);
	if (rc != 0)
		return -rc;
	if (found)
		*ret = found->gr_gid;
	else if (user)
		*ret = user->pw_uid;
	return found || user ? 0 : -ENOENT;
}

static void take_named(struct reading *rd, const struct ynode *n, bool group)
{
	unsigned id = 0;
	const char *name = ynode_str(n);
	if (!name || !name[0]) {
		complain(rd, n, group ? "the name of a group" : "the name of a user");
		return;
	}
	int rc = look_up(name, group, &id);
	if (rc == 0)
		put_id(rd, group ? &rd->rule->gids : &rd->rule->uids, id);
	else if (rc == -ENOMEM)
		rd->rc = rc;
	else
		findings_add(rd->f, FINDING_ERROR, n->line, n->column, rd->key,
		             "there is no %s %s on this host; of one that comes later give the number: %s",
		             group ? "group" : "user", QUOTE(name), group ? "gid: 1000" : "uid: 1000");
}

static void take_user(struct reading *rd, const struct ynode *n)
{
	take_named(rd, n, false);
}

static void take_group(struct reading *rd, const struct ynode *n)
{
	take_named(rd, n, true);
}

static void take_number(struct reading *rd, const struct ynode *n, struct ids *ids)
{
	if (n->kind == YNODE_INT && n->u.integer >= 0 && n->u.integer < UINT32_MAX)
		put_id(rd, ids, (unsigned)n->u.integer);
	else
		complain(rd, n, "a number from 0 to 4294967294");
}

static void take_uid(struct reading *rd, const struct ynode *n)
{
	take_number(rd, n, &rd->rule->uids);
}

static void take_gid(struct reading *rd, const struct ynode *n)
{
	take_number(rd, n, &rd->rule->gids);
}

static void take_everyone(struct reading *rd, const struct ynode *n)
{
	if (n->kind != YNODE_BOOL || !n->u.boolean)
		complain(rd, n, "true");
	else
		rd->rule->everyone = true;
}

static void take_role(struct reading *rd, const struct ynode *n)
{
	const char *name = ynode_str(n);
	enum role r = name ? role_named(name, strlen(name)) : ROLE_NONE;
	if (r != ROLE_NONE)
		rd->rule->roles |= 1u << r;
	else
		complain(rd, n, "read, submit, work, operate or admin");
}

static bool is_namespace(const char *s)
{
	return is_namespace_name(s, strlen(s));
}

static void take_namespace(struct reading *rd, const struct ynode *n)
{
	const char *name = ynode_str(n);
	if (!name || !is_namespace(name)) {
		complain(rd, n, "the name of a namespace, or \"*\" alone for all");
		return;
	}
	char **v = realloc(rd->rule->namespaces, (rd->rule->n_namespaces + 1) * sizeof *v);
	if (v)
		rd->rule->namespaces = v;
	char *copy = v ? strdup(name) : NULL;
	if (copy)
		v[rd->rule->n_namespaces++] = copy;
	else
		rd->rc = -ENOMEM;
}

static bool is_star(const struct ynode *n)
{
	const char *s = ynode_str(n);
	return s && strcmp(s, "*") == 0;
}

static const struct part {
	const char *name;
	void (*take)(struct reading *rd, const struct ynode *n);
	bool subject; /* says for whom the rule is */
} parts[] = {{"user", take_user, true},     {"group", take_group, true},       {"uid", take_uid, true},
             {"gid", take_gid, true},       {"everyone", take_everyone, true}, {"roles", take_role, false},
             {"namespaces", take_namespace, false}};

static const struct part *part_find(const char *name)
{
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (strcmp(parts[i].name, name) == 0)
			return &parts[i];
	return NULL;
}

static void unknown_part(struct reading *rd, const struct ypair *p)
{
	const char *names[sizeof parts / sizeof *parts];
	size_t budget = SUGGEST_BUDGET;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		names[i] = parts[i].name;
	const char *like =
	    strlen(p->key) < 64 ? suggest_nearest(p->key, names, sizeof parts / sizeof *parts, &budget) : NULL;
	findings_add(rd->f, FINDING_ERROR, p->line, p->column, rd->key, "no such key in a rule%s%s%s",
	             like ? "; did you mean " : "", like ? like : "", like ? "?" : "");
}

/* A single value, or a list of them. */
static void take_part(struct reading *rd, const struct part *part, const struct ypair *p)
{
	const struct ynode *v = p->value;
	if (!v || v->kind == YNODE_INVALID)
		return; /* reported already */
	if (part->take == take_namespace &&
	    (is_star(v) || (v->kind == YNODE_SEQ && v->n == 1 && is_star(v->u.items[0]))))
		return; /* all, which is the default */
	if (v->kind != YNODE_SEQ) {
		part->take(rd, v);
		return;
	}
	if (v->n == 0)
		complain(rd, v, "at least one value");
	for (size_t i = 0; i < v->n; i++)
		if (v->u.items[i] && v->u.items[i]->kind != YNODE_INVALID)
			part->take(rd, v->u.items[i]);
}

static int read_rule(const struct ynode *n, size_t index, struct access_rule *rule, struct findings *f)
{
	char key[96];
	bool subject = false, roles = false;
	struct reading rd = {.rule = rule, .f = f, .key = key};
	snprintf(key, sizeof key, "access[%zu]", index);
	if (n->kind != YNODE_MAP) {
		complain(&rd, n, "a rule: a map of user, group, uid, gid or everyone, roles and namespaces");
		return 0;
	}
	for (size_t i = 0; i < n->n; i++) {
		const struct ypair *p = &n->u.pairs[i];
		const struct part *part = part_find(p->key);
		snprintf(key, sizeof key, "access[%zu].%.60s", index, p->key);
		subject |= part && part->subject;
		roles |= part && part->take == take_role;
		if (part)
			take_part(&rd, part, p);
		else
			unknown_part(&rd, p);
	}
	snprintf(key, sizeof key, "access[%zu]", index);
	if (!subject)
		findings_add(f, FINDING_ERROR, n->line, n->column, key,
		             "for whom? one of user, group, uid, gid and everyone is needed");
	if (!roles)
		findings_add(f, FINDING_ERROR, n->line, n->column, key,
		             "roles are missing: some of read, submit, work, operate and admin");
	rule->roles = with_implied(rule->roles);
	return rd.rc;
}

int access_rules_read(const struct ynode *list, struct access_rules **ret, struct findings *f)
{
	int rc = 0;
	*ret = NULL;
	if (list->kind != YNODE_SEQ || list->n > ACCESS_RULES_MAX) {
		findings_add(f, FINDING_ERROR, list->line, list->column, "access",
		             "expected a list of at most %d rules, found %s", ACCESS_RULES_MAX, DESCRIBE(list));
		return 0;
	}
	struct access_rules *r = calloc(1, sizeof *r + list->n * sizeof *r->rule);
	if (!r)
		return -ENOMEM;
	for (; rc == 0 && r->n < list->n; r->n++)
		if (list->u.items[r->n] && list->u.items[r->n]->kind != YNODE_INVALID)
			rc = read_rule(list->u.items[r->n], r->n, &r->rule[r->n], f);
	*ret = rc == 0 ? r : access_rules_free(r);
	return rc;
}

struct access_rules *access_rules_grant(unsigned roles, const char *const *namespaces, size_t n)
{
	struct access_rules *r = calloc(1, sizeof *r + sizeof *r->rule);
	struct access_rule *rule = r ? &r->rule[0] : NULL;
	if (!r)
		return NULL;
	r->n = 1;
	rule->everyone = true;
	rule->roles = with_implied(roles & ~(1u << ROLE_NONE));
	rule->namespaces = n ? calloc(n, sizeof *rule->namespaces) : NULL;
	for (size_t i = 0; rule->namespaces && i < n; i++)
		if (is_namespace(namespaces[i]) && (rule->namespaces[i] = strdup(namespaces[i])))
			rule->n_namespaces++;
		else
			break;
	return rule->n_namespaces == n ? r : access_rules_free(r);
}

/* ---- printing and comparing ---- */

static void put_ids(struct buf *out, const char *key, const struct ids *ids)
{
	if (ids->n == 0)
		return;
	buf_printf(out, "%s: [", key);
	for (size_t i = 0; i < ids->n; i++)
		buf_printf(out, "%s%u", i ? ", " : "", ids->v[i]);
	buf_append_str(out, "], ");
}

static void put_rule(struct buf *out, const struct access_rule *r)
{
	const char *gap = "";
	buf_append_char(out, '{');
	if (r->everyone)
		buf_append_str(out, "everyone: true, ");
	put_ids(out, "uid", &r->uids);
	put_ids(out, "gid", &r->gids);
	buf_append_str(out, "roles: [");
	for (int role = ROLE_NONE + 1; role < ROLE_COUNT; role++)
		if (r->roles & 1u << role) {
			buf_printf(out, "%s%s", gap, role_names[role]);
			gap = ", ";
		}
	buf_append_str(out, "], namespaces: [");
	for (size_t i = 0; i < r->n_namespaces; i++)
		buf_printf(out, "%s%s", i ? ", " : "", r->namespaces[i]);
	buf_append_str(out, r->n_namespaces ? "]}" : "\"*\"]}");
}

void access_rules_format(const struct access_rules *r, struct buf *out)
{
	buf_append_char(out, '[');
	for (size_t i = 0; r && i < r->n; i++) {
		buf_append_str(out, i ? ", " : "");
		put_rule(out, &r->rule[i]);
	}
	buf_append_char(out, ']');
}

bool access_rules_equal(const struct access_rules *a, const struct access_rules *b)
{
	struct buf x, y;
	buf_init(&x, 0);
	buf_init(&y, 0);
	access_rules_format(a, &x);
	access_rules_format(b, &y);
	bool same = !a == !b && !x.failed && x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
	buf_done(&x);
	buf_done(&y);
	return same;
}

/* ---- asking ---- */

static bool ids_have(const struct ids *ids, unsigned id)
{
	for (size_t i = 0; i < ids->n; i++)
		if (ids->v[i] == id)
			return true;
	return false;
}

static bool rule_is_for(const struct access_rule *r, uid_t uid, const gid_t *gids, size_t n)
{
	if (r->everyone || ids_have(&r->uids, uid))
		return true;
	for (size_t i = 0; i < n; i++)
		if (ids_have(&r->gids, gids[i]))
			return true;
	return false;
}

struct access access_of(const struct access_rules *rules, uid_t uid, const gid_t *gids, size_t n)
{
	struct access a = {.rules = rules};
	for (size_t i = 0; rules && i < rules->n; i++)
		if (rule_is_for(&rules->rule[i], uid, gids, n))
			a.fits[i / 64] |= UINT64_C(1) << i % 64;
	return a;
}

/* Whether `fn` holds for a rule that fits the peer and has the role. */
static bool some_rule(const struct access *a, enum role role,
                      bool (*fn)(const struct access_rule *r, const char *ns, size_t len), const char *ns, size_t len)
{
	unsigned wanted = role == ROLE_NONE ? ~0u : 1u << role;
	if (!a->rules)
		return true;
	for (size_t i = 0; i < a->rules->n; i++) {
		const struct access_rule *r = &a->rules->rule[i];
		if ((a->fits[i / 64] >> i % 64 & 1) && (r->roles & wanted) && fn(r, ns, len))
			return true;
	}
	return false;
}

static bool anywhere(const struct access_rule *r, const char *ns, size_t len)
{
	(void)r, (void)ns, (void)len;
	return true;
}

static bool everywhere(const struct access_rule *r, const char *ns, size_t len)
{
	(void)ns, (void)len;
	return r->n_namespaces == 0;
}

static bool there(const struct access_rule *r, const char *ns, size_t len)
{
	for (size_t i = 0; i < r->n_namespaces; i++)
		if (strlen(r->namespaces[i]) == len && memcmp(r->namespaces[i], ns, len) == 0)
			return true;
	return r->n_namespaces == 0;
}

bool access_has(const struct access *a, enum role role)
{
	return some_rule(a, role, anywhere, NULL, 0);
}

bool access_allows(const struct access *a, enum role role, const char *ns, size_t len)
{
	return some_rule(a, role, there, ns, len);
}

bool access_everywhere(const struct access *a, enum role role)
{
	return some_rule(a, role, everywhere, NULL, 0);
}

void access_each_namespace(const struct access *a, enum role role, void (*fn)(const char *ns, void *arg), void *arg)
{
	for (size_t i = 0; a->rules && i < a->rules->n; i++) {
		const struct access_rule *r = &a->rules->rule[i];
		if (!(a->fits[i / 64] >> i % 64 & 1) || !(r->roles & 1u << role))
			continue;
		for (size_t j = 0; j < r->n_namespaces; j++)
			fn(r->namespaces[j], arg);
	}
}

bool access_equal(const struct access *a, const struct access *b)
{
	return a->rules == b->rules && memcmp(a->fits, b->fits, sizeof a->fits) == 0;
}

struct covering {
	const struct access *a;
	enum role role;
	bool all;
};

static void look_covered(const char *ns, void *arg)
{
	struct covering *c = arg;
	c->all = c->all && access_allows(c->a, c->role, ns, strlen(ns));
}

bool access_covers(const struct access *a, const struct access *less)
{
	struct covering c = {.a = a, .all = true};
	for (int role = ROLE_NONE + 1; role < ROLE_COUNT; role++) {
		c.role = (enum role)role;
		if (access_everywhere(a, c.role))
			continue;
		if (access_everywhere(less, c.role))
			return false;
		access_each_namespace(less, c.role, look_covered, &c);
	}
	return c.all;
}
