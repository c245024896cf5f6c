/* Rules for single values that the tables cannot express: names, versions, how the keys of `retry` go
 * together. */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/template/fields.h"

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
static const char namespace_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

static bool has_control(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f ||
		    ((unsigned char)text[0] == 0xc2 && (unsigned char)text[1] < 0xa0))
			return true;
	return false;
}

void rule_name(struct check *c, const struct path *p, const struct ynode *n)
{
	if (has_control(n->text))
		check_error(c, p, n, "found %s, expected a name on one line, without control characters",
		            DESCRIBE(n));
	else if (n->text[strspn(n->text, name_characters)])
		check_warning(c, p, n,
		              "found %s, recommended are letters, digits, '_', '-' and '.' only: "
		              "on command lines the name needs quotes",
		              DESCRIBE(n));
}

void rule_namespace(struct check *c, const struct path *p, const struct ynode *n)
{
	if (n->n == 0 || n->n > NAMESPACE_MAX || isdigit((unsigned char)n->text[0]) ||
	    n->text[strspn(n->text, namespace_characters)])
		check_error(c, p, n, "found %s, expected " NAMESPACE_EXPECTS, DESCRIBE(n));
}

#define VERSION_DIGITS_MAX 9 /* the database sorts versions by 32-bit numbers */

static const char *skip_number(const char *p)
{
	size_t n = strspn(p, "0123456789");
	return n == 0 || n > VERSION_DIGITS_MAX || (n > 1 && *p == '0') ? NULL : p + n;
}

/* Identifiers between dots; numbers among them have no leading zero if `strict`. */
static const char *skip_identifiers(const char *p, bool strict)
{
	for (;;) {
		size_t n = strspn(p, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");
		bool number = strspn(p, "0123456789") == n;
		if (n == 0 || (strict && number && n > 1 && *p == '0'))
			return NULL;
		p += n;
		if (*p != '.')
			return p;
		p++;
	}
}

static bool is_semver(const char *p)
{
	for (int i = 0; i < 3; i++) {
		p = skip_number(p);
		if (!p || (i < 2 && *p++ != '.'))
			return false;
	}
	if (*p == '-')
		p = skip_identifiers(p + 1, true);
	if (p && *p == '+')
		p = skip_identifiers(p + 1, false);
	return p && *p == '\0';
}

/* What keeps a version from being one of ours though it may be a semantic version. */
static const char *version_bound(const struct ynode *n)
{
	const char *p = n->text;
	for (int i = 0; i < 3; i++) {
		size_t digits = strspn(p, "0123456789");
		if (digits > VERSION_DIGITS_MAX)
			return ", numbers of at most nine digits";
		p += digits;
		if (*p != '.')
			break;
		p++;
	}
	return n->n > VERSION_MAX ? ", at most 64 characters" : "";
}

void rule_version(struct check *c, const struct path *p, const struct ynode *n)
{
	if (n->n > VERSION_MAX || !is_semver(n->text))
		check_error(c, p, n, "found %s, expected " VERSION_EXPECTS "%s", DESCRIBE(n), version_bound(n));
}

static bool is_event_name(const char *p)
{
	unsigned parts = 0;
	for (;; p++) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_");
		if (n == 0 || isdigit((unsigned char)*p))
			return false;
		parts++;
		p += n;
		if (*p != '.')
			return *p == '\0' && parts >= 2;
	}
}

void rule_event_name(struct check *c, const struct path *p, const struct ynode *n)
{
	if (n->n > 0 && !is_event_name(n->text))
		check_warning(c, p, n,
		              "found %s, recommended are lower-case words joined by at least one dot, "
		              "like payment.charged: used as written",
		              DESCRIBE(n));
}

static bool is_identifier_start(char c)
{
	return isalpha((unsigned char)c) || c == '_';
}

void rule_publisher(struct check *c, const struct path *p, const struct ynode *n)
{
	const char *t = n->text;
	while (is_identifier_start(*t)) {
		t += strspn(t, namespace_characters);
		if (*t == '\0')
			return;
		size_t joint = *t == '.' ? 1 : strncmp(t, "::", 2) == 0 ? 2 : 0;
		if (joint == 0)
			break;
		t += joint;
	}
	check_error(c, p, n, "found %s, expected names joined by '.' or '::', like Depot::ManifestPublisher",
	            DESCRIBE(n));
}

static void check_retry(struct check *c, const struct path *p, const struct ynode *n, int64_t base_default,
                        int64_t cap_default)
{
	const struct ynode *base = field_get(n, retry_fields, "backoff_base_ms");
	const struct ynode *cap = field_get(n, retry_fields, "max_backoff_ms");
	int64_t base_ms = ynode_is(base, YNODE_INT) ? base->u.integer : base_default;
	int64_t cap_ms = ynode_is(cap, YNODE_INT) ? cap->u.integer : cap_default;
	if ((base || cap) && base_ms > cap_ms)
		check_warning(c, PATH_KEY(p, base ? "backoff_base_ms" : "max_backoff_ms"), base ? base : cap,
		              "backoff_base_ms is %" PRId64 " and max_backoff_ms %" PRId64
		              ": every wait is %" PRId64 " ms",
		              base_ms, cap_ms, cap_ms);
}

void rule_retry(struct check *c, const struct path *p, const struct ynode *n)
{
	check_retry(c, p, n, 1000, 30000);
}

/* An override may name one of the two and leave the other as it is. */
void rule_retry_override(struct check *c, const struct path *p, const struct ynode *n)
{
	check_retry(c, p, n, INT64_MIN, INT64_MAX);
}
