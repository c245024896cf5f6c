/* From argv to a verb with its options and arguments. Global options may stand before the verb and after it;
 * the verb's own anywhere after it. No output: complaints go into a buffer. */
#include "clients/taskerctl/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/text.h"
#include "daemon/template/suggest.h"
#include "protocol/msg.h"

#define MAX_OPTS 40u
#define MAX_WORDS 64u

/* ---- the tables ---- */

const struct group *verb_group(const struct verb *verb)
{
	FOR_EACH_VERB(g, v)
		if (v == verb)
			return g;
	return NULL;
}

const struct group *group_find(const char *word)
{
	for (const struct group *g = groups; g->verbs; g++)
		if (g->name && strcmp(g->name, word) == 0)
			return g;
	return NULL;
}

const char *verb_title(const struct verb *v, char dst[64])
{
	const struct group *g = verb_group(v);
	bool two = g && g->name;
	snprintf(dst, 64, "%s%s%s", two ? g->name : "", two ? " " : "", v->name);
	return dst;
}

const struct verb *verb_find(int nwords, char *const *words, int *ret_words)
{
	FOR_EACH_VERB(g, v) {
		int n = g->name ? 2 : 1;
		if (nwords < n || strcmp(words[n - 1], v->name) != 0 || (g->name && strcmp(words[0], g->name) != 0))
			continue;
		*ret_words = n;
		return v;
	}
	return NULL;
}

const char *verb_role(const struct verb *v)
{
	int id = v->asks ? msg_find(v->asks, strlen(v->asks), MSG_TO_DAEMON) : -1;
	return id < 0 || msg_infos[id].role == ROLE_NONE ? NULL : role_names[msg_infos[id].role];
}

/* ---- what was given ---- */

const char *cli_get(const struct cli *c, const char *name)
{
	for (size_t i = c->nvalues; i-- > 0;)
		if (strcmp(c->values[i].opt->name, name) == 0)
			return c->values[i].value ? c->values[i].value : "";
	return NULL;
}

bool cli_has(const struct cli *c, const char *name)
{
	return cli_get(c, name) != NULL;
}

const char *cli_next(const struct cli *c, const char *name, size_t *pos)
{
	while (*pos < c->nvalues) {
		const struct optval *v = &c->values[(*pos)++];
		if (strcmp(v->opt->name, name) == 0)
			return v->value ? v->value : "";
	}
	return NULL;
}

/* ---- options ---- */

/* getopt's tables for the global options and those of a verb. The i-th long option is list[i]; its value is
 * LONG_BASE + i. */
#define LONG_BASE 256
struct option_set {
	const struct opt *list[MAX_OPTS];
	size_t n;
	struct option longs[MAX_OPTS + 1];
	char shorts[2 * MAX_OPTS + 3];
};

bool verb_hides(const struct verb *v, const struct opt *global)
{
	for (const struct opt *o = v ? v->opts : NULL; o && o->name; o++)
		if (strcmp(o->name, global->name) == 0 || (o->letter && o->letter == global->letter))
			return true;
	return false;
}

/* Those of `opts` that the verb does not have itself; NULL: all. */
static void add_options(struct option_set *s, const struct opt *opts, const struct verb *unless)
{
	size_t k = strlen(s->shorts);
	for (; opts && opts->name && s->n < MAX_OPTS; opts++) {
		if (verb_hides(unless, opts))
			continue;
		s->longs[s->n] = (struct option){
		    .name = opts->name, .has_arg = opts->arg != NULL, .val = LONG_BASE + (int)s->n};
		s->list[s->n++] = opts;
		if (!opts->letter)
			continue;
		s->shorts[k++] = opts->letter;
		if (opts->arg)
			s->shorts[k++] = ':';
		s->shorts[k] = '\0';
	}
	s->longs[s->n] = (struct option){0};
}

static const struct opt *option_of(const struct option_set *s, int c)
{
	if (c >= LONG_BASE)
		return s->list[c - LONG_BASE];
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i]->letter == c)
			return s->list[i];
	return NULL;
}

/* The place of `value` among the words of a kind, or -1. */
static int word_index(const struct kind *k, const char *value)
{
	for (int i = 0; k->words[i]; i++)
		if (strcmp(k->words[i], value) == 0)
			return i;
	return -1;
}

/* "--state: complte is not the state of a task; did you mean complete?" and all there are. */
static int bad_word(struct buf *why, const struct opt *o, const char *value)
{
	const char *const *words = o->kind->words;
	size_t n = 0, budget = SUGGEST_BUDGET;
	while (words[n])
		n++;
	const char *near = suggest_nearest(value, words, n, &budget);
	buf_printf(why, "--%s: ", o->name);
	text_put(why, *value ? value : "nothing", 60);
	buf_printf(why, " is not %s", o->kind->what);
	if (near)
		buf_printf(why, "; did you mean %s?", near);
	buf_append_str(why, "\n  there are: ");
	for (size_t i = 0; i < n; i++)
		buf_printf(why, "%s%s", i ? ", " : "", words[i]);
	buf_append_char(why, '\n');
	return -EINVAL;
}

static int bad_value(struct buf *why, const char *option, const char *value, const char *expected)
{
	buf_printf(why, "--%s: ", option);
	text_put(why, *value ? value : "nothing", 60);
	buf_printf(why, " is not %s\n", expected);
	return -EINVAL;
}

static int check_value(const struct opt *o, const char *value, struct buf *why)
{
	int64_t ms;
	bool bound = value && o->kind && o->kind->words && o->kind->what;
	if (bound && word_index(o->kind, value) < 0)
		return bad_word(why, o, value);
	if (value && strcmp(o->name, "timeout") == 0 && parse_duration(value, &ms) < 0)
		return bad_value(why, "timeout", value, "a duration: 30, 30s, 500ms, 1m30s, 2h");
	return 0;
}

/* ---- the options of every verb ---- */

static void set_output(struct cli *c, enum output output)
{
	c->output = output;
	c->json = output == OUTPUT_JSON || output == OUTPUT_JSONL;
}

static void take_socket(struct cli *c, const char *v)
{
	c->socket = v;
}

static void take_json(struct cli *c, const char *v)
{
	(void)v;
	set_output(c, OUTPUT_JSON);
}

static void take_output(struct cli *c, const char *v)
{
	set_output(c, (enum output)word_index(&kind_output, v));
}

static void take_color(struct cli *c, const char *v)
{
	c->colour = (enum colour_mode)word_index(&kind_colour, v);
}

static void take_timeout(struct cli *c, const char *v)
{
	parse_duration(v, &c->timeout_ms);
}

static void take_quiet(struct cli *c, const char *v)
{
	(void)v;
	c->quiet = true;
}

static void take_no_pager(struct cli *c, const char *v)
{
	(void)v;
	c->no_pager = true;
}

static void take_help(struct cli *c, const char *v)
{
	(void)v;
	c->help = true;
}

static void take_version(struct cli *c, const char *v)
{
	(void)v;
	c->version = true;
}

static void take_namespace(struct cli *c, const char *v)
{
	c->space = v;
}

static void take_pager(struct cli *c, const char *v)
{
	c->pager = v;
}

static const struct {
	const char *name;
	void (*take)(struct cli *c, const char *value); /* one that was checked */
	bool profile_only;
} takers[] = {
    {"socket", take_socket, false},      {"json", take_json, false},         {"output", take_output, false},
    {"color", take_color, false},        {"timeout", take_timeout, false},   {"quiet", take_quiet, false},
    {"no-pager", take_no_pager, false},  {"help", take_help, false},         {"version", take_version, false},
    {"namespace", take_namespace, true}, {"pager", take_pager, true},
};

static void take_global(struct cli *c, const char *name, const char *value, bool profile)
{
	for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
		if (strcmp(takers[i].name, name) == 0 && (profile || !takers[i].profile_only))
			takers[i].take(c, value);
}

static const struct opt *global_option(const char *name)
{
	for (const struct opt *o = global_options; o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

static bool is_global(const struct opt *o)
{
	return global_option(o->name) == o;
}

int cli_check_global(const char *name, const char *value, struct buf *why)
{
	const struct opt *o = global_option(name);
	if (!*value && strcmp(name, "pager") != 0)
		return bad_value(why, name, value, "a value");
	return o ? check_value(o, value, why) : 0;
}

/* The option itself, not one of the verb that has its name. */
static bool given(const struct cli *c, const char *name)
{
	for (size_t i = 0; i < c->nvalues; i++)
		if (is_global(c->values[i].opt) && strcmp(c->values[i].opt->name, name) == 0)
			return true;
	return false;
}

void cli_default(struct cli *c, const char *name, const char *value)
{
	bool format = strcmp(name, "output") == 0 && given(c, "json");
	if (!format && !given(c, name))
		take_global(c, name, value, true);
}

const char *cli_namespace(const struct cli *c)
{
	const char *own = cli_get(c, "namespace");
	return !own ? c->space : *own ? own : NULL;
}

/* On verbs that write files --output names one: what is meant for the other --output would become a strange file. */
static int check_file(const struct opt *o, const char *value, struct buf *why)
{
	if (is_global(o) || !value || strcmp(o->name, "output") != 0 || word_index(&kind_output, value) < 0)
		return 0;
	buf_printf(
		why,
		"--output names a file here, and %s would be one\n  for JSON: --json; for a file of that name: --output ./%s\n",
		value, value);
	return -EINVAL;
}


static int keep(struct cli *c, const struct opt *o, const char *value, struct buf *why)
{
	if (c->nvalues == CLI_MAX_OPTIONS) {
		buf_printf(why, "more than %u options\n", CLI_MAX_OPTIONS);
		return -EINVAL;
	}
	c->values[c->nvalues++] = (struct optval){.opt = o, .value = value};
	int rc = check_value(o, value, why);
	if (rc == 0)
		rc = check_file(o, value, why);
	if (rc == 0 && is_global(o))
		take_global(c, o->name, value, false);
	return rc;
}

static void unknown_option(const struct option_set *s, const char *given, struct buf *why)
{
	const char *names[MAX_OPTS];
	char word[64];
	size_t budget = SUGGEST_BUDGET;
	for (size_t i = 0; i < s->n; i++)
		names[i] = s->list[i]->name;
	buf_append_str(why, "unknown option ");
	text_put(why, given, 60);
	snprintf(word, sizeof word, "%.*s", (int)strcspn(given + strspn(given, "-"), "="),
	         given + strspn(given, "-"));
	const char *near = strncmp(given, "--", 2) == 0 ? suggest_nearest(word, names, s->n, &budget) : NULL;
	if (near)
		buf_printf(why, "; did you mean --%s?", near);
	buf_append_char(why, '\n');
}

/* Two options begin with what was given? */
static bool ambiguous(const struct option_set *s, const char *given)
{
	size_t n = strncmp(given, "--", 2) == 0 ? strcspn(given + 2, "=") : 0, hits = 0;
	for (size_t i = 0; n > 0 && i < s->n; i++)
		hits += strncmp(s->list[i]->name, given + 2, n) == 0;
	return hits > 1;
}

static int complain(const struct option_set *s, int c, const char *given, struct buf *why)
{
	const struct opt *o = optopt ? option_of(s, optopt) : NULL;
	if (c == ':' && o)
		buf_printf(why, "--%s needs an argument: %s\n", o->name, o->arg);
	else if (o && !o->arg && optopt >= LONG_BASE)
		buf_printf(why, "--%s takes no argument\n", o->name);
	else if (ambiguous(s, given)) {
		buf_append_str(why, "more than one option begins with ");
		text_put(why, given, 60);
		buf_append_char(why, '\n');
	} else if (optopt && optopt < LONG_BASE)
		buf_printf(why, "unknown option -%c\n", optopt > 0x20 && optopt < 0x7F ? optopt : '?');
	else
		unknown_option(s, given, why);
	return -EINVAL;
}

/* Read options from argv[first]. With `stop` at the first word that is none, otherwise all, words moved to
 * the end. *ret_rest is where the words begin. */
static int read_options(int argc, char **argv, int first, const struct option_set *s, bool stop,
                        struct cli *c, int *ret_rest, struct buf *why)
{
	char shorts[sizeof s->shorts + 2];
	int opt, base = first - 1;
	char **from = argv + base; /* getopt passes over its first element */
	snprintf(shorts, sizeof shorts, "%s:%s", stop ? "+" : "", s->shorts);
	opterr = 0;
	optind = 0;
	while ((opt = getopt_long(argc - base, from, shorts, s->longs, NULL)) >= 0) {
		const struct opt *o = opt == '?' || opt == ':' ? NULL : option_of(s, opt);
		int rc =
		    o ? keep(c, o, o->arg ? optarg : NULL, why) : complain(s, opt, from[optind - 1], why);
		if (rc < 0)
			return rc;
	}
	*ret_rest = base + optind;
	return 0;
}

/* ---- verbs ---- */

/* What may stand where `words[0]` stands, or with a group `words[1]`. */
static size_t possible_words(const struct group *group, const char **names)
{
	size_t n = 0;
	FOR_EACH_VERB(g, v) {
		const char *name = group || !g->name ? v->name : g->name;
		bool fits = group ? g == group : v == g->verbs || !g->name;
		if (fits && !(v->flags & VERB_HIDDEN) && n < MAX_WORDS)
			names[n++] = name;
	}
	return n;
}

static void unknown_verb(char **words, struct buf *why)
{
	const char *names[MAX_WORDS];
	const struct group *g = group_find(words[0]);
	size_t n = possible_words(g, names), budget = SUGGEST_BUDGET;
	const char *word = g ? words[1] : words[0], *before = g ? g->name : "", *gap = g ? " " : "";
	buf_printf(why, "unknown command %s%s", before, gap);
	text_put(why, word, 60);
	const char *near = suggest_nearest(word, names, n, &budget);
	if (near)
		buf_printf(why, "; did you mean %s%s%s?", before, gap, near);
	buf_printf(why, "\nsee: taskerctl help%s%s\n", gap, before);
}

static bool asks_for_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int find_verb(int nwords, char **words, struct cli *c, int *ret_words, struct buf *why)
{
	c->verb = verb_find(nwords, words, ret_words);
	if (c->verb || (nwords == 0 && (c->help || c->version)))
		return 0;
	const struct group *group = nwords > 0 ? group_find(words[0]) : NULL;
	if (group && (c->help || (nwords > 1 && asks_for_help(words[1])))) {
		c->help = true;
		c->group = group;
		return 0;
	}
	if (nwords == 0)
		help_all(why);
	else if (group && nwords == 1)
		help_group(why, group);
	else
		unknown_verb(words, why);
	return -EINVAL;
}

static int check_count(const struct cli *c, struct buf *why)
{
	const struct verb *v = c->verb;
	char title[64];
	bool few = c->nargs < v->min_args, many = v->max_args >= 0 && c->nargs > v->max_args;
	if (c->help || (!few && !many))
		return 0;
	verb_title(v, title);
	if (few)
		buf_printf(why, "%s: something is missing\n", title);
	else {
		buf_printf(why, "%s: what is this for: ", title);
		text_put(why, c->args[v->max_args], 60);
		buf_append_char(why, '\n');
	}
	buf_printf(why, "usage: taskerctl %s%s%s\nsee: taskerctl help %s\n", title, v->args ? " " : "",
	           v->args ? v->args : "", title);
	return -EINVAL;
}

int cli_parse(int argc, char **argv, struct cli *ret, struct buf *why)
{
	struct option_set set = {.n = 0}, all = {.n = 0};
	int rest, words = 0;
	*ret = (struct cli){.timeout_ms = -1};
	add_options(&set, global_options, NULL);
	int rc = read_options(argc, argv, 1, &set, true, ret, &rest, why);
	if (rc == 0)
		rc = find_verb(argc - rest, argv + rest, ret, &words, why);
	if (rc < 0 || !ret->verb)
		return rc;
	add_options(&all, global_options, ret->verb);
	add_options(&all, ret->verb->opts, NULL);
	rc = read_options(argc, argv, rest + words, &all, false, ret, &rest, why);
	if (rc < 0) {
		char title[64];
		buf_printf(why, "see: taskerctl help %s\n", verb_title(ret->verb, title));
		return rc;
	}
	ret->args = argv + rest;
	ret->nargs = argc - rest;
	return check_count(ret, why);
}
