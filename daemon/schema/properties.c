/* Unicode properties in patterns: the general categories, under their short and long names. */
#include <stdlib.h>
#include <string.h>

#include "daemon/schema/charset.h"

static const struct {
	const char *name, *members; /* beginnings of categories, with blanks between */
} properties[] = {
    {"Any", "C L M N P S Z"},
    {"Letter", "L"},	       {"Cased_Letter", "Lu Ll Lt"},	{"LC", "Lu Ll Lt"},	    {"Uppercase_Letter", "Lu"},
    {"Lowercase_Letter", "Ll"}, {"Titlecase_Letter", "Lt"},	{"Modifier_Letter", "Lm"},  {"Other_Letter", "Lo"},
    {"Mark", "M"},	       {"Combining_Mark", "M"},		{"Nonspacing_Mark", "Mn"},  {"Spacing_Mark", "Mc"},
    {"Enclosing_Mark", "Me"},  {"Number", "N"},			{"Decimal_Number", "Nd"},   {"digit", "Nd"},
    {"Letter_Number", "Nl"},   {"Other_Number", "No"},		{"Punctuation", "P"},	    {"punct", "P"},
    {"Connector_Punctuation", "Pc"}, {"Dash_Punctuation", "Pd"}, {"Open_Punctuation", "Ps"}, {"Close_Punctuation",
     "Pe"},
    {"Initial_Punctuation", "Pi"}, {"Final_Punctuation", "Pf"}, {"Other_Punctuation", "Po"}, {"Symbol", "S"},
    {"Math_Symbol", "Sm"},     {"Currency_Symbol", "Sc"},	{"Modifier_Symbol", "Sk"},  {"Other_Symbol", "So"},
    {"Separator", "Z"},	       {"Space_Separator", "Zs"},	{"Line_Separator", "Zl"},   {"Paragraph_Separator",
     "Zp"},
    {"Other", "C"},	       {"Control", "Cc"},		{"cntrl", "Cc"},	    {"Format", "Cf"},
    {"Surrogate", "Cs"},       {"Private_Use", "Co"},		{"Unassigned", "Cn"},
};

static int add_categories(struct charset *s, const char *prefix, size_t len, bool *found)
{
	int rc = 0;
	for (const struct category *c = categories; rc == 0 && c->name; c++) {
		if (len == 0 || len > 2 || strncmp(c->name, prefix, len) != 0)
			continue;
		*found = true;
		for (size_t i = 0; rc == 0 && i < c->n; i++)
			rc = charset_add(s, c->ranges[i].lo, c->ranges[i].hi);
	}
	return rc;
}

static int add_members(struct charset *s, const char *members, bool *found)
{
	int rc = 0;
	while (rc == 0 && *members) {
		size_t n = strcspn(members, " ");
		rc = add_categories(s, members, n, found);
		members += n + (members[n] == ' ');
	}
	return rc;
}

static bool is(const char *name, size_t len, const char *what)
{
	return strlen(what) == len && memcmp(name, what, len) == 0;
}

int charset_add_property(struct charset *s, const char *name, size_t len, bool negated)
{
	struct charset one = {0};
	bool found = false;
	int rc = 0;
	const char *equals = memchr(name, '=', len);
	size_t key = equals ? (size_t)(equals - name) : 0;
	if (equals && !is(name, key, "gc") && !is(name, key, "General_Category"))
		return 1;
	if (equals) {
		len -= key + 1;
		name += key + 1;
	}
	for (size_t i = 0; rc == 0 && i < sizeof properties / sizeof *properties; i++)
		if (is(name, len, properties[i].name))
			rc = add_members(&one, properties[i].members, &found);
	if (rc == 0 && is(name, len, "ASCII"))
		rc = charset_add(&one, 0, 127), found = true;
	if (rc == 0 && !found)
		rc = add_categories(&one, name, len, &found);
	if (rc == 0)
		rc = charset_finish(&one, negated);
	for (uint32_t i = 0; rc == 0 && i < one.n; i++)
		rc = charset_add(s, one.ranges[i].lo, one.ranges[i].hi);
	free(one.ranges);
	return rc == 0 && !found ? 1 : rc;
}
