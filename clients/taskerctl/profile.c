#include "clients/taskerctl/profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/cleanup.h"
#include "daemon/template/suggest.h"
#include "daemon/template/yaml_tree.h"

#define SYSTEM_FILE "/etc/taskerd/taskerctl.yaml"
#define MOST 64u

const char *const profile_key_names[PROFILE_KEYS] = {"socket", "namespace", "output", "color", "pager", "timeout"};

/* The files that are read, the user's first; two of them, or one, or none. Returns how many. */
static size_t profile_files(char paths[2][512])
{
	const char *only = getenv("TASKERCTL_CONFIG"), *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	size_t n = 0;
	if (only && *only) {
		snprintf(paths[0], 512, "%s", only);
		return 1;
	}
	if (config && *config == '/')
		snprintf(paths[n++], 512, "%s/taskerd/taskerctl.yaml", config);
	else if (home && *home == '/')
		snprintf(paths[n++], 512, "%s/.config/taskerd/taskerctl.yaml", home);
	snprintf(paths[n++], 512, "%s", SYSTEM_FILE);
	return n;
}

/* ---- one file ---- */

struct store {
	struct yaml_tree *trees[2];
	char paths[2][512];
	struct profile items[MOST];
};

struct reading {
	struct profiles *into;
	struct store *store;
	const char *path;
	struct findings f;
	bool own; /* what it says has been said already by a file before it */
};

static const char *nearest(const char *word, const char *const *names, size_t n)
{
	size_t budget = SUGGEST_BUDGET;
	return suggest_nearest(word, names, n, &budget);
}

static void unknown_key(struct reading *r, const struct ypair *p, const char *const *names, size_t n)
{
	const char *near = nearest(p->key, names, n);
	findings_add(&r->f, FINDING_ERROR, p->line, p->column, p->key, "no such key%s%s%s",
	             near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* What is wrong with a value, as the option of the command line has it. */
static void check_value(struct reading *r, const struct ynode *v, enum profile_key key)
{
	struct buf why;
	buf_init(&why, 1024);
	if (cli_check_global(profile_key_names[key], v->text, &why) < 0) {
		const char *text = buf_text(&why), *colon = text ? strstr(text, ": ") : NULL;
		char line[400];
		snprintf(line, sizeof line, "%s", colon ? colon + 2 : "not a value for it");
		for (char *nl = strchr(line, '\n'); nl; nl = strchr(line, '\n'))
			*nl = nl[1] ? ';' : '\0';
		findings_add(&r->f, FINDING_ERROR, v->line, v->column, profile_key_names[key], "%s", line);
	}
	buf_done(&why);
}

static void read_value(struct reading *r, const struct ypair *p, struct profile *into)
{
	const struct ynode *v = p->value;
	size_t key = 0;
	while (key < PROFILE_KEYS && strcmp(profile_key_names[key], p->key) != 0)
		key++;
	if (key == PROFILE_KEYS) {
		unknown_key(r, p, profile_key_names, PROFILE_KEYS);
		return;
	}
	if (!v || v->kind == YNODE_INVALID)
		return;
	if (v->kind == YNODE_SEQ || v->kind == YNODE_MAP || v->kind == YNODE_NULL) {
		findings_add(&r->f, FINDING_ERROR, v->line, v->column, p->key, "expected a single value, found %s",
		             DESCRIBE(v));
		return;
	}
	check_value(r, v, (enum profile_key)key);
	into->values[key] = v->text;
}

static void read_profile(struct reading *r, const struct ypair *p)
{
	struct profiles *all = r->into;
	const struct ynode *v = p->value;
	struct profile one = {.name = p->key, .file = r->path, .line = p->line};
	if (!ynode_is(v, YNODE_MAP)) {
		if (v && v->kind != YNODE_INVALID)
			findings_add(&r->f, FINDING_ERROR, v->line, v->column, p->key,
			             "expected keys such as \"socket: PATH\", found %s", DESCRIBE(v));
		return;
	}
	for (size_t i = 0; i < v->n; i++)
		read_value(r, &v->u.pairs[i], &one);
	if (profile_find(all, p->key, NULL))
		return; /* the user's own holds */
	if (all->n == MOST)
		findings_add(&r->f, FINDING_ERROR, p->line, p->column, p->key, "more than %u profiles", MOST);
	else
		r->store->items[all->n++] = one;
}

static void read_profiles(struct reading *r, const struct ynode *v)
{
	if (ynode_is(v, YNODE_MAP))
		for (size_t i = 0; i < v->n; i++)
			read_profile(r, &v->u.pairs[i]);
	else if (v && v->kind != YNODE_INVALID && v->kind != YNODE_NULL)
		findings_add(&r->f, FINDING_ERROR, v->line, v->column, "profiles",
		             "expected names of profiles with their keys, found %s", DESCRIBE(v));
}

static void read_default(struct reading *r, const struct ynode *v)
{
	const char *name = ynode_str(v);
	if (!name && v && v->kind != YNODE_INVALID)
		findings_add(&r->f, FINDING_ERROR, v->line, v->column, "default",
		             "expected the name of a profile, found %s", DESCRIBE(v));
	else if (name && !r->into->chosen_by_default)
		r->into->chosen_by_default = name;
}

static void read_root(struct reading *r, const struct ynode *root)
{
	static const char *const keys[] = {"profiles", "default"};
	if (!root || root->kind == YNODE_NULL)
		return;
	if (root->kind != YNODE_MAP) {
		findings_add(&r->f, FINDING_ERROR, root->line, root->column, NULL, "expected \"profiles:\", found %s",
		             DESCRIBE(root));
		return;
	}
	for (size_t i = 0; i < root->n; i++)
		if (strcmp(root->u.pairs[i].key, "profiles") == 0)
			read_profiles(r, root->u.pairs[i].value);
		else if (strcmp(root->u.pairs[i].key, "default") == 0)
			read_default(r, root->u.pairs[i].value);
		else
			unknown_key(r, &root->u.pairs[i], keys, 2);
}

/* A default that no file has a profile for; said at its place. */
static void check_default(struct reading *r, const struct ynode *root)
{
	const struct ynode *v = ynode_get(root, "default");
	if (ynode_str(v) && !profile_find(r->into, ynode_str(v), NULL))
		findings_add(&r->f, FINDING_ERROR, v->line, v->column, "default", "there is no profile %s",
		             QUOTE(ynode_str(v)));
}

static bool says_nothing(const struct buf *b)
{
	bool comment = false;
	for (size_t i = 0; i < b->len; i++) {
		char ch = (char)b->data[i];
		comment = ch != '\n' && (comment || ch == '#');
		if (!comment && !strchr(" \t\r\n", ch))
			return false;
	}
	return true;
}

/* 0, -ENOENT, or -EINVAL with complaints. */
static int read_file(struct reading *r, struct yaml_tree **tree, struct buf *why)
{
	static const struct yaml_limits limits = {.max_bytes = 1 << 20, .max_nodes = 20000, .max_depth = 8};
	if (access(r->path, F_OK) < 0)
		return -ENOENT; /* or out of reach, and so not this user's: sudo and setpriv keep the HOME of others */
	struct buf b;
	buf_init(&b, 1 << 20);
	int rc = input_read(r->path, &b);
	if (rc < 0)
		buf_printf(why, "%s: cannot be read: %s\n", r->path, strerrordesc_np(-rc));
	else if (!says_nothing(&b))
		rc = yaml_tree_parse((const char *)b.data, b.len, &limits, tree, &r->f);
	buf_done(&b);
	if (rc == 0 && *tree)
		read_root(r, yaml_tree_root(*tree));
	return rc;
}

static int finish_file(struct reading *r, const struct yaml_tree *tree, struct buf *why)
{
	if (tree)
		check_default(r, yaml_tree_root(tree));
	findings_finish(&r->f, 0);
	int rc = r->f.errors > 0 ? -EINVAL : 0;
	if (rc < 0)
		findings_to_text(&r->f, r->path, why);
	findings_done(&r->f);
	return rc;
}

int profiles_read(struct profiles *ret, struct buf *why)
{
	struct store *s = calloc(1, sizeof *s);
	struct reading r[2] = {0};
	int rc = 0;
	*ret = (struct profiles){.store = s};
	if (!s)
		return -ENOMEM;
	ret->items = s->items;
	size_t n = profile_files(s->paths);
	for (size_t i = 0; i < n; i++) {
		r[i] = (struct reading){.into = ret, .store = s, .path = s->paths[i]};
		int one = read_file(&r[i], &s->trees[i], why);
		rc = one < 0 && one != -ENOENT ? -EINVAL : rc;
	}
	/* Only now all names are known. */
	for (size_t i = 0; i < n; i++)
		if (finish_file(&r[i], s->trees[i], why) < 0)
			rc = -EINVAL;
	return rc;
}

void profiles_done(struct profiles *p)
{
	struct store *s = p->store;
	for (size_t i = 0; s && i < 2; i++)
		yaml_tree_free(s->trees[i]);
	free(s);
	*p = (struct profiles){0};
}

/* ---- use ---- */

const struct profile *profile_find(const struct profiles *p, const char *name, struct buf *why)
{
	const char *names[MOST];
	char paths[2][512];
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->items[i].name, name) == 0)
			return &p->items[i];
		names[i] = p->items[i].name;
	}
	if (!why)
		return NULL;
	const char *near = nearest(name, names, p->n);
	buf_append_str(why, "no profile ");
	text_put(why, *name ? name : "without a name", 60);
	if (near)
		buf_printf(why, "; did you mean %s?", near);
	size_t n = profile_files(paths);
	buf_printf(why, "\n  profiles are in %s%s%s; see: taskerctl profile list\n", paths[0], n > 1 ? " and " : "",
	           n > 1 ? paths[1] : "");
	return NULL;
}

int profile_choose(const struct profiles *p, const struct cli *cli, const struct profile **ret, struct buf *why)
{
	const char *env = getenv("TASKERCTL_PROFILE"), *name = cli_get(cli, "profile");
	*ret = NULL;
	if (!name)
		name = env && *env ? env : p->chosen_by_default;
	if (!name)
		return 0;
	*ret = profile_find(p, name, why);
	return *ret ? 0 : -EINVAL;
}

void profile_apply(const struct profile *p, struct cli *cli)
{
	const char *env = getenv("TASKERD_SOCKET");
	bool named = cli_has(cli, "profile");
	for (size_t i = 0; i < PROFILE_KEYS; i++) {
		/* An environment that names a socket means it more than one that names a profile. */
		bool other = i == PROFILE_SOCKET && !named && env && *env;
		if (p->values[i] && !other)
			cli_default(cli, profile_key_names[i], p->values[i]);
	}
}
