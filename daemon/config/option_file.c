/* The configuration file: one YAML map of options. Its syntax and bounds are those of template files (same
 * reader); a scalar is taken as it is written, so that `socket_mode: 0660` and `batch_max: "500"` mean what
 * they say on the command line too. */
#include "daemon/config/option_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/access.h"
#include "daemon/config/option_value.h"
#include "daemon/template/suggest.h"
#include "daemon/template/yaml_tree.h"

static char canonical(char c)
{
	return c == '-' ? '_' : c;
}

const struct option_row *option_find(const char *name, size_t n)
{
	for (size_t i = 0; i < option_count; i++) {
		const char *have = option_table[i].name;
		size_t k = 0;
		while (k < n && have[k] && canonical(name[k]) == have[k])
			k++;
		if (k == n && !have[k])
			return &option_table[i];
	}
	return NULL;
}

const struct option_row *option_like(const char *name, size_t n)
{
	const char *names[sizeof((struct options *)0)->source];
	char word[64];
	size_t budget = SUGGEST_BUDGET;
	if (n >= sizeof word)
		return NULL;
	for (size_t i = 0; i < n; i++)
		word[i] = canonical(name[i]);
	word[n] = '\0';
	for (size_t i = 0; i < option_count; i++)
		names[i] = option_table[i].name;
	const char *best = suggest_nearest(word, names, option_count, &budget);
	return best ? option_find(best, strlen(best)) : NULL;
}

/* The reader warns that 0660 is the number 660 in YAML 1.2; for a value that is octal by itself that would
 * mislead. */
static void drop_warning_at(struct findings *f, unsigned line, unsigned column)
{
	size_t kept = 0;
	for (size_t i = 0; i < f->n; i++) {
		struct finding *it = &f->items[i];
		if (it->severity == FINDING_WARNING && it->line == line && it->column == column) {
			free(it->key);
			free(it->message);
		} else {
			f->items[kept++] = *it;
		}
	}
	f->n = kept;
}

static int note_place(struct options *o, const struct option_row *row, unsigned line)
{
	char place[4400];
	int n = snprintf(place, sizeof place, "%.4300s:%u", o->reading, line);
	return option_set_source(o, row, FROM_FILE, place, (size_t)n);
}

/* Set one value from its node; what is wrong with it becomes a finding. 0 or -ENOMEM. */
static int apply_value(struct options *o, const struct option_row *row, const struct ynode *v,
                       struct findings *f)
{
	struct buf expected;
	buf_init(&expected, 1024);
	int rc = -EINVAL;
	if (v->kind == YNODE_SEQ || v->kind == YNODE_MAP)
		buf_append_str(&expected, "a single value");
	else
		rc = option_set(o, row, v->text, &expected);
	const char *why = buf_text(&expected);
	bool secret = option_hides(row, v->text); /* it may hold a password */
	if (rc == -EINVAL)
		findings_add(f, FINDING_ERROR, v->line, v->column, row->name, "expected %s%s%s",
		             why ? why : "another value", secret ? "" : ", found ",
		             secret ? "" : DESCRIBE(v));
	if (rc == 0)
		rc = note_place(o, row, v->line);
	if (rc == 0 && row->type == OPT_OCTAL)
		drop_warning_at(f, v->line, v->column);
	buf_done(&expected);
	return rc == -ENOMEM ? rc : 0;
}

/* The only option that is more than a value. */
static int apply_access(struct options *o, const struct ynode *v, struct findings *f)
{
	if (!v || v->kind == YNODE_INVALID || v->kind == YNODE_NULL)
		return 0;
	access_rules_free(o->access);
	free(o->access_place);
	if (asprintf(&o->access_place, "%s:%u", o->reading, v->line) < 0)
		o->access_place = NULL;
	return access_rules_read(v, &o->access, f);
}

static int apply_pair(struct options *o, const struct ypair *p, struct findings *f)
{
	if (strcmp(p->key, "access") == 0)
		return apply_access(o, p->value, f);
	const struct option_row *row = option_find(p->key, strlen(p->key));
	const struct option_row *like = row ? NULL : option_like(p->key, strlen(p->key));
	if (!row && strncmp(p->key, "x-", 2) == 0)
		return 0;
	if (!row || !(row->flags & OPT_IN_FILE)) {
		findings_add(f, FINDING_ERROR, p->line, p->column, p->key, "%s%s%s%s",
		             row ? "belongs on the command line, not in the file" : "no such option",
		             like ? "; did you mean " : "", like ? like->name : "", like ? "?" : "");
		return 0;
	}
	const struct ynode *v = p->value;
	if (!v || v->kind == YNODE_INVALID || v->kind == YNODE_NULL)
		return 0; /* reported already, or left at its default on purpose */
	return apply_value(o, row, v, f);
}

static int apply_root(struct options *o, const struct ynode *root, struct findings *f)
{
	if (!root || root->kind == YNODE_NULL)
		return 0; /* an empty file */
	if (root->kind != YNODE_MAP) {
		findings_add(f, FINDING_ERROR, root->line, root->column, NULL,
		             "expected \"option: value\" lines, found %s", DESCRIBE(root));
		return 0;
	}
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < root->n; i++)
		rc = apply_pair(o, &root->u.pairs[i], f);
	return rc;
}

/* Only blanks and comments: a file in which every option was commented out. */
static bool says_nothing(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '#')
			while (i < len && text[i] != '\n')
				i++;
		else if (!strchr(" \t\r\n", text[i]) || !text[i])
			return false;
	}
	return true;
}

int option_file_apply(struct options *o, const char *text, size_t len, const char *filename,
                      struct buf *messages)
{
	static const struct yaml_limits limits = {
	    .max_bytes = OPTION_FILE_MAX, .max_nodes = 20000, .max_depth = 6};
	struct findings f = {0};
	struct yaml_tree *tree = NULL;
	if (says_nothing(text, len))
		return 0;
	o->reading = filename;
	int rc = yaml_tree_parse(text, len, &limits, &tree, &f);
	if (rc == 0)
		rc = apply_root(o, yaml_tree_root(tree), &f);
	yaml_tree_free(tree);
	o->reading = NULL;
	findings_finish(&f, 0);
	if (rc != -ENOMEM) {
		int put = findings_to_text(&f, filename, messages);
		rc = put < 0 || f.failed ? -ENOMEM : f.errors > 1000 ? 1000 : (int)f.errors;
	}
	findings_done(&f);
	return rc;
}
