#include "clients/taskerctl/complete.h"

#include <stdio.h>
#include <string.h>
#include "clients/taskerctl/text.h"

static bool begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

void offer(struct offers *o, const char *value, const char *about)
{
	for (const unsigned char *p = (const unsigned char *)value; *p; p++)
		if (*p < 0x20 || *p == 0x7F)
			return;
	if (!begins(value, o->prefix))
		return;
	buf_printf(o->buf, "%.*s%s", o->before_len, o->before ? o->before : "", value);
	if (about && *about) {
		buf_append_char(o->buf, '\t');
		text_put(o->buf, about, 60);
	}
	buf_append_char(o->buf, '\n');
}

/* ---- what has been written ---- */

const char *line_value(const struct line *l, const char *option)
{
	for (size_t i = l->nvalues; i-- > 0;)
		if (strcmp(l->values[i].opt->name, option) == 0)
			return l->values[i].value;
	return NULL;
}

static const struct opt *find_in(const struct opt *opts, const char *name, size_t len, char letter)
{
	for (; opts && opts->name; opts++)
		if (name ? strlen(opts->name) == len && strncmp(opts->name, name, len) == 0 : opts->letter == letter)
			return opts;
	return NULL;
}

/* By its name, or by its letter if `name` is NULL. The verb's own come first. */
static const struct opt *find_option(const struct line *l, const char *name, size_t len, char letter)
{
	const struct opt *o = l->verb ? find_in(l->verb->opts, name, len, letter) : NULL;
	return o ? o : find_in(global_options, name, len, letter);
}

static void keep_value(struct line *l, const struct opt *o, const char *value)
{
	if (l->nvalues < LINE_OPTIONS)
		l->values[l->nvalues++] = (struct optval){.opt = o, .value = value};
}

static void take_long(struct line *l, const char *word)
{
	size_t len = strcspn(word, "=");
	const struct opt *o = find_option(l, word, len, 0);
	if (o && o->arg && word[len] == '=')
		keep_value(l, o, word + len + 1);
	else if (o && o->arg)
		l->awaits = o;
}

/* -q, -jq, -n NAME, -nNAME */
static void take_letters(struct line *l, const char *letters)
{
	for (; *letters; letters++) {
		const struct opt *o = find_option(l, NULL, 0, *letters);
		if (!o || !o->arg)
			continue;
		if (letters[1])
			keep_value(l, o, letters + 1);
		else
			l->awaits = o;
		return;
	}
}

static void take_argument(struct line *l, const char *word)
{
	char *const words[] = {(char *)(uintptr_t)(l->group ? l->group->name : word), (char *)(uintptr_t)word};
	int n;
	if (l->verb && l->nargs < LINE_ARGS)
		l->args[l->nargs] = word;
	if (l->verb)
		l->nargs++;
	else if (!l->group && group_find(word))
		l->group = group_find(word);
	else if (!(l->verb = verb_find(l->group ? 2 : 1, words, &n)))
		l->lost = true;
}

static void take(struct line *l, const char *word)
{
	if (l->awaits) {
		keep_value(l, l->awaits, word);
		l->awaits = NULL;
	} else if (!l->ended && strcmp(word, "--") == 0) {
		l->ended = true;
	} else if (!l->ended && begins(word, "--")) {
		take_long(l, word + 2);
	} else if (!l->ended && word[0] == '-' && word[1]) {
		take_letters(l, word + 1);
	} else {
		take_argument(l, word);
	}
}

/* ---- what may follow ---- */

static void offer_verbs(const struct group *group, struct offers *o)
{
	FOR_EACH_VERB(g, v) {
		if (v->flags & VERB_HIDDEN)
			continue;
		if (group ? g == group : !g->name)
			offer(o, v->name, v->summary);
		else if (!group && v == g->verbs)
			offer(o, g->name, g->summary);
	}
}

static void offer_options(const struct opt *opts, struct offers *o)
{
	char text[72];
	for (; opts && opts->name; opts++) {
		snprintf(text, sizeof text, "--%s", opts->name);
		offer(o, text, opts->help);
	}
}

static const struct kind *offer_values(const struct kind *k, const struct line *l, struct offers *o)
{
	if (!k)
		return NULL;
	for (size_t i = 0; k->words && k->words[i]; i++)
		offer(o, k->words[i], "");
	if (k == &kind_verb)
		offer_verbs(l->nargs > 0 ? group_find(l->args[0]) : NULL, o);
	if (k->files && (k != &kind_json || *o->prefix == '@'))
		buf_append_str(o->buf, ":files\n");
	if (k->dirs)
		buf_append_str(o->buf, ":dirs\n");
	return k;
}

static const struct kind *argument_kind(const struct line *l)
{
	const struct verb *v = l->verb;
	size_t i = 0, n = sizeof v->kinds / sizeof *v->kinds;
	if (v->max_args >= 0 && l->nargs >= v->max_args)
		return NULL;
	while (i < (size_t)l->nargs && i + 1 < n && v->kinds[i + 1])
		i++;
	return v->kinds[i];
}

/* "--state=comp": the value of an option in one word with it. */
static const struct opt *option_with_value(const struct line *l, const char *word, struct offers *o)
{
	size_t len = strcspn(word, "=");
	const struct opt *opt = begins(word, "--") && word[len] ? find_option(l, word + 2, len - 2, 0) : NULL;
	if (!opt || !opt->arg)
		return NULL;
	o->before = word;
	o->before_len = (int)len + 1;
	o->prefix = word + len + 1;
	return opt;
}

const struct kind *complete_words(int nwords, char *const *words, struct line *ret, struct offers *o)
{
	*ret = (struct line){.nargs = 0};
	for (int i = 0; i + 1 < nwords; i++)
		take(ret, words[i]);
	o->prefix = nwords > 0 ? words[nwords - 1] : "";
	const struct opt *opt = ret->awaits || ret->ended ? ret->awaits : option_with_value(ret, o->prefix, o);
	if (opt)
		return offer_values(opt->kind, ret, o);
	if (*o->prefix == '-' && !ret->ended) {
		offer_options(ret->verb ? ret->verb->opts : NULL, o);
		offer_options(global_options, o);
		return NULL;
	}
	if (ret->lost)
		return NULL;
	if (ret->verb)
		return offer_values(argument_kind(ret), ret, o);
	offer_verbs(ret->group, o);
	return NULL;
}
