/* Names and literals that a language allows. */
#include "clients/taskerctl/gen.h"
#include "clients/taskerctl/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool plain(char c)
{
	return isalnum((unsigned char)c) && (unsigned char)c < 128;
}

char *gen_pascal(const char *text)
{
	struct buf b;
	bool up = true;
	buf_init(&b, 0);
	for (const char *p = text; *p; p++) {
		if (plain(*p))
			buf_append_char(&b, up ? (char)toupper((unsigned char)*p) : *p);
		up = !plain(*p);
	}
	if (b.len == 0 || isdigit(b.data[0])) {
		struct buf with = {0};
		buf_init(&with, 0);
		buf_printf(&with, "Type%s", b.len ? buf_text(&b) : "");
		buf_done(&b);
		b = with;
	}
	return buf_take_text(&b);
}

/* A word begins behind anything that is no letter or digit, and where a capital follows a small letter. */
char *gen_snake(const char *text)
{
	struct buf b;
	buf_init(&b, 0);
	for (const char *p = text; *p; p++) {
		bool hump = p > text && isupper((unsigned char)*p) &&
		            (islower((unsigned char)p[-1]) || isdigit((unsigned char)p[-1]));
		if ((hump || !plain(*p)) && b.len && b.data[b.len - 1] != '_')
			buf_append_char(&b, '_');
		if (plain(*p))
			buf_append_char(&b, (char)tolower((unsigned char)*p));
	}
	while (b.len > 1 && b.data[b.len - 1] == '_')
		b.len--;
	if (b.len == 0)
		buf_append_str(&b, "value");
	return buf_take_text(&b);
}

static bool is_reserved(const struct gen_language *l, const char *name)
{
	for (const char *const *r = l->reserved; *r; r++)
		if (strcmp(*r, name) == 0)
			return true;
	return false;
}

/* The key with underscores for what may not be in a name, none in front. */
static char *as_it_is(const char *key)
{
	struct buf b;
	buf_init(&b, 0);
	while (*key == '_')
		key++;
	for (; *key; key++)
		buf_append_char(&b, plain(*key) ? *key : '_');
	if (b.len == 0 || strspn(buf_text(&b), "_") == b.len) {
		buf_reset(&b);
		buf_append_str(&b, "value");
	}
	return buf_take_text(&b);
}

char *gen_ident(const struct gen_language *l, const char *key)
{
	char *name = l->snake ? gen_snake(key) : as_it_is(key), *longer = NULL;
	if (!name)
		return NULL;
	const char *before = isdigit((unsigned char)*name) || *name == '_' ? "n" : "";
	if (asprintf(&longer, "%s%s%s", before, name, is_reserved(l, name) ? "_" : "") < 0)
		longer = NULL;
	free(name);
	return longer;
}

static bool taken(const struct gen_record *r, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(r->fields[i].name, name) == 0)
			return true;
	return false;
}

int gen_name_fields(const struct gen_model *m, const struct gen_language *l)
{
	for (struct gen_record *r = m->first; r; r = r->next) {
		for (size_t i = 0; i < r->n; i++) {
			char *name = gen_ident(l, r->fields[i].key), *base = name ? strdup(name) : NULL;
			for (int k = 2; name && base && taken(r, i, name); k++) {
				free(name);
				if (asprintf(&name, "%s_%d", base, k) < 0)
					name = NULL;
			}
			free(base);
			if (!name)
				return -ENOMEM;
			free(r->fields[i].name);
			r->fields[i].name = name;
		}
	}
	return 0;
}

void gen_about(struct buf *b, const char *text)
{
	cleanup_(buf_done) struct buf line = {0};
	buf_init(&line, 0);
	text_put(&line, text, 0);
	for (const char *p = buf_text(&line); p && *p; p++) {
		bool ends = (p[0] == '*' && p[1] == '/') || p[0] == '"' || p[0] == '\\';
		buf_append_char(b, ends ? '\'' : *p);
	}
}

void gen_quoted(struct buf *b, const char *text)
{
	buf_append_char(b, '"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_printf(b, "\\%c", *text);
		else if (*text == '\n')
			buf_append_str(b, "\\n");
		else if ((unsigned char)*text >= ' ' && *text != 127)
			buf_append_char(b, *text);
	}
	buf_append_char(b, '"');
}

const struct gen_language *const gen_languages[] = {&gen_python, &gen_ruby, &gen_typescript, &gen_rust, &gen_c, NULL};

const struct gen_language *gen_language_named(const char *name)
{
	for (const struct gen_language *const *l = gen_languages; *l; l++)
		if (strcmp((*l)->name, name) == 0)
			return *l;
	return NULL;
}
