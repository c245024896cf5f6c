/* Values of options: parsing, printing, hiding passwords. Pure but for getcwd, which makes paths absolute; no
 * state. */
#include "daemon/config/option_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/base/listen.h"
#include "daemon/trace/collector_text.h"

const char *const jwt_algorithm_names[JWT_ALGORITHMS] = {"RS256", "RS384", "RS512", "PS256", "PS384",
                                                         "PS512", "ES256", "ES384", "ES512"};

static void *field(const struct options *o, const struct option_row *row)
{
	return (char *)(uintptr_t)o + row->offset;
}

bool option_is_text(const struct option_row *row)
{
	static const bool text[] = {[OPT_NAME] = true,
	                            [OPT_PATH] = true,
	                            [OPT_DATABASE] = true,
	                            [OPT_EMBEDDED] = true,
	                            [OPT_LISTEN] = true,
	                            [OPT_LOG_FORMAT] = false,
	                            [OPT_ROLE] = false,
	                            [OPT_TEXT] = true,
	                            [OPT_ALGORITHMS] = false,
	                            [OPT_URL] = true,
	                            [OPT_HEADERS] = true};
	return text[row->type];
}

bool option_is_secret(const struct option_row *row)
{
	return row->type == OPT_DATABASE || row->type == OPT_HEADERS;
}

bool option_hides(const struct option_row *row, const char *text)
{
	return option_is_secret(row) || (row->type == OPT_URL && text && strchr(text, '@'));
}

char **option_text_at(struct options *o, const struct option_row *row)
{
	return field(o, row);
}

void option_clear(struct options *o, const struct option_row *row)
{
	free(*option_text_at(o, row));
	*option_text_at(o, row) = NULL;
}

/* ---- from text ---- */

static int digits(const char **p, int base, long long max, long long *ret)
{
	const char *start = *p;
	long long v = 0;
	for (; **p >= '0' && **p < '0' + base; (*p)++)
		if (__builtin_mul_overflow(v, (long long)base, &v) ||
		    __builtin_add_overflow(v, (long long)(**p - '0'), &v) || v > max)
			return -ERANGE;
	*ret = v;
	return *p == start ? -EINVAL : 0;
}

static int set_int(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	long long v;
	if (digits(&text, 10, row->max, &v) < 0 || *text || v < row->min) {
		buf_printf(expected, "a whole number from %lld to %lld", row->min, row->max);
		return -EINVAL;
	}
	*(int *)field(o, row) = (int)v;
	return 0;
}

static int set_octal(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	long long v;
	if (strncmp(text, "0o", 2) == 0)
		text += 2;
	if (digits(&text, 8, row->max, &v) < 0 || *text) {
		buf_printf(expected, "an octal number from 0 to %llo", (unsigned long long)row->max);
		return -EINVAL;
	}
	*(int *)field(o, row) = (int)v;
	return 0;
}

static const struct {
	const char *name;
	int shift;
} units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"K", 10}, {"M", 20}, {"G", 30}};

static void put_size(long long v, struct buf *out)
{
	for (int i = 4; i >= 2; i--)
		if (v && v % (1LL << units[i].shift) == 0) {
			buf_printf(out, "%lld %s", v >> units[i].shift, units[i].name);
			return;
		}
	buf_printf(out, "%lld", v);
}

static int set_size(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	long long v;
	int shift = -1;
	if (digits(&text, 10, row->max, &v) == 0) {
		while (*text == ' ')
			text++;
		for (size_t i = 0; i < sizeof units / sizeof *units; i++)
			if (strcasecmp(text, units[i].name) == 0)
				shift = units[i].shift;
	}
	if (shift < 0 || v > (row->max >> shift) || (v << shift) < row->min) {
		buf_append_str(expected, "a size from ");
		put_size(row->min, expected);
		buf_append_str(expected, " to ");
		put_size(row->max, expected);
		return -EINVAL;
	}
	*(size_t *)field(o, row) = (size_t)(v << shift);
	return 0;
}

static int parse_bool(const char *text)
{
	static const char *const words[][2] = {{"false", "true"}, {"no", "yes"}, {"off", "on"}, {"0", "1"}};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		for (int v = 0; v < 2; v++)
			if (strcasecmp(text, words[i][v]) == 0)
				return v;
	return -EINVAL;
}

static int set_bool(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	int v = parse_bool(text);
	if (v < 0) {
		buf_append_str(expected, "true or false");
		return -EINVAL;
	}
	*(bool *)field(o, row) = v;
	return 0;
}

static int set_level(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	if (log_level_parse(text, field(o, row)) < 0) {
		buf_append_str(expected, "error, warn, info or debug");
		return -EINVAL;
	}
	return 0;
}

static int set_log_format(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	for (int i = 0; i < LOG_FORMAT_COUNT; i++)
		if (strcasecmp(text, log_format_names[i]) == 0) {
			*(enum log_format *)field(o, row) = (enum log_format)i;
			return 0;
		}
	buf_append_str(expected, "auto, text, json or journal");
	return -EINVAL;
}

static int put_text(struct options *o, const struct option_row *row, char *copy)
{
	if (!copy)
		return -ENOMEM;
	option_clear(o, row);
	*option_text_at(o, row) = copy;
	return 0;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			return false;
	return true;
}

static bool is_name(const char *text)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("._-", *text))
			return false;
	return true;
}

static int set_name(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	size_t n = strlen(text);
	if (n > (size_t)row->max || n == 0 || !is_name(text)) {
		buf_printf(expected, "1 to %lld letters, digits, dots, dashes or underscores", row->max);
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

static char *absolute(const char *path)
{
	if (path[0] == '/')
		return strdup(path);
	cleanup_(cleanup_free) char *cwd = getcwd(NULL, 0);
	char *r = NULL;
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	return !cwd || asprintf(&r, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path) < 0 ? NULL : r;
}

static int set_path(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	cleanup_(cleanup_free) char *path = text[0] && is_printable(text) ? absolute(text) : NULL;
	if (!path || strlen(path) > (size_t)row->max) {
		buf_printf(expected, "a path of at most %lld bytes", row->max);
		return -EINVAL;
	}
	return put_text(o, row, TAKE_PTR(path));
}

static bool is_uri(const char *text)
{
	return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0;
}

static int set_database(struct options *o, const struct option_row *row, const char *text,
                        struct buf *expected)
{
	if (strlen(text) > (size_t)row->max || !is_printable(text) || (!is_uri(text) && !strchr(text, '='))) {
		buf_append_str(expected, "a URI (postgresql://user@host/database) or keywords "
		                         "(host=/run/postgresql dbname=tasker)");
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

static int set_embedded(struct options *o, const struct option_row *row, const char *text,
                        struct buf *expected)
{
	int word = text[0] ? parse_bool(text) : 1;
	if (word == 0) {
		option_clear(o, row);
		return 0;
	}
	if (word == 1)
		return put_text(o, row, strdup(EMBEDDED_DEFAULT));
	if (!strchr(text, '/') || !is_printable(text) || strlen(text) > (size_t)row->max) {
		buf_append_str(expected, "true, false or a directory, written with a slash (./here)");
		return -EINVAL;
	}
	return put_text(o, row, absolute(text));
}

static int set_listen(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	struct listen_address at[LISTEN_MAX];
	int off = parse_bool(text);
	if (off == 0 && strcmp(text, "0") != 0) /* YAML has many words for it */
		return put_text(o, row, strdup("off"));
	if (strlen(text) > (size_t)row->max || !is_printable(text) || listen_parse(text, at) < 0) {
		buf_printf(
			expected,
			"off, or at most %d addresses: absolute paths of Unix sockets, PORT, ADDRESS:PORT or [ADDRESS]:PORT",
			LISTEN_MAX);
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

static int set_role(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	for (int r = ROLE_NONE; r < ROLE_COUNT; r++)
		if (strcmp(text, role_names[r]) == 0) {
			*(enum role *)field(o, row) = (enum role)r;
			return 0;
		}
	buf_append_str(expected, "none, read, submit, work, operate or admin");
	return -EINVAL;
}

static int set_any_text(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	if (!text[0] || strlen(text) > (size_t)row->max || !is_printable(text)) {
		buf_printf(expected, "a text of 1 to %lld bytes", row->max);
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

static int set_url(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	if (strlen(text) > (size_t)row->max || !collector_url_ok(text)) {
		buf_append_str(
			expected,
			"a URL like http://localhost:4318 or https://collector.example/v1/traces, without user, query or fragment");
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

static int set_headers(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	if (strlen(text) > (size_t)row->max || !collector_headers_ok(text)) {
		buf_append_str(
			expected,
			"name=value,name=value: names of letters, digits, dots, dashes and underscores, values of visible ASCII with %2C for a comma and %25 for %");
		return -EINVAL;
	}
	return put_text(o, row, strdup(text));
}

/* 0: there is none of this name. */
static unsigned algorithm_bit(const char *name, size_t len)
{
	for (int i = 0; i < JWT_ALGORITHMS; i++)
		if (strlen(jwt_algorithm_names[i]) == len && memcmp(jwt_algorithm_names[i], name, len) == 0)
			return 1u << i;
	return 0;
}

static int set_algorithms(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	static const char gaps[] = " ,";
	unsigned all = 0, bit = 1;
	for (text += strspn(text, gaps); *text && bit; text += strspn(text, gaps)) {
		size_t n = strcspn(text, gaps);
		bit = algorithm_bit(text, n);
		all |= bit;
		text += n;
	}
	if (!all || !bit) {
		buf_append_str(
			expected,
			"some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and ES512: those with a public "
			"key, so neither none nor HS256 to HS512");
		return -EINVAL;
	}
	*(unsigned *)field(o, row) = all;
	return 0;
}

static void put_algorithms(unsigned bits, struct buf *out)
{
	const char *gap = "";
	for (int i = 0; i < JWT_ALGORITHMS; i++)
		if (bits & 1u << i) {
			buf_printf(out, "%s%s", gap, jwt_algorithm_names[i]);
			gap = " ";
		}
}

int option_set(struct options *o, const struct option_row *row, const char *text, struct buf *expected)
{
	typedef int setter(struct options *, const struct option_row *, const char *, struct buf *);
	static setter *const setters[] = {
	    [OPT_BOOL] = set_bool,         [OPT_INT] = set_int,     [OPT_SIZE] = set_size,
	    [OPT_OCTAL] = set_octal,       [OPT_NAME] = set_name,   [OPT_PATH] = set_path,
	    [OPT_DATABASE] = set_database, [OPT_LEVEL] = set_level, [OPT_EMBEDDED] = set_embedded,
	    [OPT_LISTEN] = set_listen,     [OPT_ROLE] = set_role,   [OPT_TEXT] = set_any_text,
	    [OPT_LOG_FORMAT] = set_log_format, [OPT_ALGORITHMS] = set_algorithms,
	    [OPT_URL] = set_url,           [OPT_HEADERS] = set_headers,
	};
	return setters[row->type](o, row, text, expected);
}

/* ---- copies ---- */

static size_t plain_size(const struct option_row *row)
{
	static const size_t sizes[] = {[OPT_BOOL] = sizeof(bool),
	                               [OPT_INT] = sizeof(int),
	                               [OPT_SIZE] = sizeof(size_t),
	                               [OPT_OCTAL] = sizeof(int),
	                               [OPT_LEVEL] = sizeof(enum log_level),
	                               [OPT_LOG_FORMAT] = sizeof(enum log_format),
	                               [OPT_ROLE] = sizeof(enum role),
	                               [OPT_ALGORITHMS] = sizeof(unsigned)};
	return sizes[row->type];
}

bool option_equal(const struct options *a, const struct options *b, const struct option_row *row)
{
	if (!option_is_text(row))
		return memcmp(field(a, row), field(b, row), plain_size(row)) == 0;
	const char *x = *(char *const *)field(a, row), *y = *(char *const *)field(b, row);
	return x && y ? strcmp(x, y) == 0 : x == y;
}

int option_copy(struct options *to, const struct options *from, const struct option_row *row)
{
	if (!option_is_text(row)) {
		memcpy(field(to, row), field(from, row), plain_size(row));
		return 0;
	}
	const char *text = *(char *const *)field(from, row);
	if (text)
		return put_text(to, row, strdup(text));
	option_clear(to, row);
	return 0;
}

int option_set_source(struct options *o, const struct option_row *row, enum option_source from, const char *place,
                      size_t len)
{
	size_t i = (size_t)(row - option_table);
	char *copy = from == FROM_DEFAULT || !place ? NULL : strndup(place, len);
	if (from != FROM_DEFAULT && place && !copy)
		return -ENOMEM;
	o->source[i] = (unsigned char)from;
	free(o->place[i]);
	o->place[i] = copy;
	return 0;
}

/* ---- to text ---- */

/* Length of the value that begins at `p`: of a URI up to & or #, of keywords up to a blank, or quoted with
 * backslashes. */
static size_t value_length(const char *p, bool uri)
{
	if (uri)
		return strcspn(p, "&#");
	size_t n = 0;
	bool quoted = p[0] == '\'';
	for (n = quoted; p[n]; n++) {
		if (p[n] == '\\' && p[n + 1])
			n++;
		else if (quoted ? p[n] == '\'' : isspace((unsigned char)p[n]))
			return n + (quoted ? 1 : 0);
	}
	return n;
}

/* "password=" and "sslpassword=" wherever they stand, in any case, with blanks around the sign as libpq
 * allows. */
static void redact_keywords(const char *p, bool uri, struct buf *out)
{
	static const char word[] = "password";
	while (*p) {
		size_t n = sizeof word - 1;
		if (strncasecmp(p, word, n) != 0) {
			buf_append_char(out, *p++);
			continue;
		}
		n += strspn(p + n, " ");
		if (p[n] != '=') {
			buf_append_char(out, *p++);
			continue;
		}
		n++;
		n += strspn(p + n, uri ? "" : " ");
		buf_append(out, p, n);
		buf_append_str(out, "***");
		p += n + value_length(p + n, uri);
	}
}

void options_redact(const char *database, struct buf *out)
{
	if (!is_uri(database)) {
		redact_keywords(database, false, out);
		return;
	}
	const char *user = strstr(database, "://") + 3;
	size_t before_query = strcspn(user, "?#"), at = before_query;
	/* The last @ counts: one in a password should have been escaped, and may not be. */
	while (at > 0 && user[at - 1] != '@')
		at--;
	if (at == 0 && strrchr(user, '@') && !strchr(user, '='))
		at = (size_t)(strrchr(user, '@') - user) + 1; /* a password with an unescaped ? or # */
	size_t colon = at ? strcspn(user, ":") : 0;
	if (at == 0 || colon >= at) {
		redact_keywords(database, true, out);
		return;
	}
	buf_append(out, database, (size_t)(user - database) + colon);
	buf_append_str(out, ":***@");
	redact_keywords(user + at, true, out);
}

/* The names are no secret. */
static void redact_headers(const char *text, struct buf *out)
{
	for (const char *gap = ""; *text; gap = ",") {
		size_t n = strcspn(text, "="), len = n + strcspn(text + n, ",");
		buf_append_str(out, gap);
		buf_append(out, text, n);
		buf_append_str(out, "=***");
		text += len;
		text += strspn(text, " ,");
	}
}

static void put_text_value(const struct option_row *row, const char *text, struct buf *out)
{
	if (!text)
		return;
	if (row->type == OPT_DATABASE)
		options_redact(text, out);
	else if (row->type == OPT_HEADERS)
		redact_headers(text, out);
	else
		buf_append_str(out, text);
}

void options_format(const struct options *o, const struct option_row *row, struct buf *out)
{
	const void *f = field(o, row);
	switch (row->type) {
	case OPT_BOOL:
		buf_append_str(out, *(const bool *)f ? "true" : "false");
		break;
	case OPT_INT:
		buf_printf(out, "%d", *(const int *)f);
		break;
	case OPT_OCTAL:
		buf_printf(out, "%04o", (unsigned)*(const int *)f);
		break;
	case OPT_SIZE:
		put_size((long long)*(const size_t *)f, out);
		break;
	case OPT_LEVEL:
		buf_append_str(out, log_level_name(*(const enum log_level *)f));
		break;
	case OPT_LOG_FORMAT:
		buf_append_str(out, log_format_names[*(const enum log_format *)f]);
		break;
	case OPT_ALGORITHMS:
		put_algorithms(*(const unsigned *)f, out);
		break;
	case OPT_ROLE:
		buf_append_str(out, role_names[*(const enum role *)f]);
		break;
	case OPT_NAME:
	case OPT_PATH:
	case OPT_DATABASE:
	case OPT_EMBEDDED:
	case OPT_LISTEN:
	case OPT_TEXT:
	case OPT_URL:
	case OPT_HEADERS:
		put_text_value(row, *(char *const *)f, out);
		break;
	}
}
