/* Plain scalars by the core schema of YAML 1.2: what is null, a boolean or a number; all else is text.
 * (YAML 1.1's yes, no, on, off, octal by a leading zero, sexagesimal numbers and dates are text or decimal
 * here.) Pure functions, independent of the locale. */
#include "daemon/template/yaml_build.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *text;
	enum ynode_kind kind; /* FLOAT: a number that JSON does not have */
	bool value;
} words[] = {
    {"", YNODE_NULL, false},       {"~", YNODE_NULL, false},      {"null", YNODE_NULL, false},
    {"Null", YNODE_NULL, false},   {"NULL", YNODE_NULL, false},   {"true", YNODE_BOOL, true},
    {"True", YNODE_BOOL, true},    {"TRUE", YNODE_BOOL, true},    {"false", YNODE_BOOL, false},
    {"False", YNODE_BOOL, false},  {"FALSE", YNODE_BOOL, false},  {".nan", YNODE_FLOAT, false},
    {".NaN", YNODE_FLOAT, false},  {".NAN", YNODE_FLOAT, false},  {".inf", YNODE_FLOAT, false},
    {".Inf", YNODE_FLOAT, false},  {".INF", YNODE_FLOAT, false},  {"+.inf", YNODE_FLOAT, false},
    {"+.Inf", YNODE_FLOAT, false}, {"+.INF", YNODE_FLOAT, false}, {"-.inf", YNODE_FLOAT, false},
    {"-.Inf", YNODE_FLOAT, false}, {"-.INF", YNODE_FLOAT, false},
};

static size_t digits(const char *p)
{
	return strspn(p, "0123456789");
}

static const char *skip_sign(const char *p)
{
	return p + (*p == '+' || *p == '-');
}

static bool is_decimal(const char *text)
{
	const char *p = skip_sign(text);
	return *p && p[digits(p)] == '\0';
}

static bool is_based(const char *text, const char *prefix, const char *set)
{
	return strncmp(text, prefix, 2) == 0 && text[2] && text[2 + strspn(text + 2, set)] == '\0';
}

static bool is_float(const char *text)
{
	const char *p = skip_sign(text);
	size_t whole = digits(p), fraction = 0;
	p += whole;
	if (*p == '.') {
		fraction = digits(p + 1);
		p += 1 + fraction;
	}
	if (whole + fraction == 0)
		return false;
	if (*p == 'e' || *p == 'E') {
		p = skip_sign(p + 1);
		size_t exponent = digits(p);
		if (exponent == 0)
			return false;
		p += exponent;
	}
	return *p == '\0';
}

static const char *set_int(struct ynode *n, const char *text, int base)
{
	errno = 0;
	char *end = NULL;
	long long v = strtoll(text, &end, base);
	if (errno || *end)
		return "whole numbers go from -2^63 to 2^63-1; put it in quotes";
	n->kind = YNODE_INT;
	n->u.integer = v;
	return NULL;
}

static const char *set_float(struct ynode *n)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c)
		return "out of memory";
	double v = strtod_l(n->text, NULL, c);
	freelocale(c);
	if (!isfinite(v))
		return "the number is too large; put it in quotes";
	n->kind = YNODE_FLOAT;
	n->u.real = v;
	return NULL;
}

static const char *set_word(struct ynode *n, size_t i)
{
	if (words[i].kind == YNODE_FLOAT)
		return "infinity and NaN cannot be stored; put it in quotes";
	n->kind = words[i].kind;
	n->u.boolean = words[i].value;
	return NULL;
}

const char *yaml_resolve_plain(struct ynode *n)
{
	for (size_t i = 0; n->n <= 5 && i < sizeof words / sizeof words[0]; i++)
		if (strcmp(n->text, words[i].text) == 0)
			return set_word(n, i);
	if (is_decimal(n->text))
		return set_int(n, n->text, 10);
	if (is_based(n->text, "0x", "0123456789abcdefABCDEF"))
		return set_int(n, n->text + 2, 16);
	if (is_based(n->text, "0o", "01234567"))
		return set_int(n, n->text + 2, 8);
	if (is_float(n->text))
		return set_float(n);
	n->kind = YNODE_STR;
	return NULL;
}

bool yaml_leading_zero(const struct ynode *n)
{
	const char *p = skip_sign(n->text);
	return n->kind == YNODE_INT && p[0] == '0' && isdigit((unsigned char)p[1]);
}
