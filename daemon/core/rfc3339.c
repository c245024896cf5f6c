/* A small reader over a shape; no state. */
#include "daemon/core/rfc3339.h"

#include <string.h>

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static int number(const char *s, int digits)
{
	int v = 0;
	for (int i = 0; i < digits; i++)
		v = v * 10 + (s[i] - '0');
	return v;
}

static int days_in(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	return days[month - 1] + (month == 2 && leap);
}

/* 'd' stands for a digit, 'T' for what may separate date and time. */
static bool has_shape(const char *s, size_t len, const char *shape)
{
	size_t n = strlen(shape);
	if (len < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool fits = shape[i] == 'd' ? digit(s[i])
		                            : s[i] == shape[i] || (shape[i] == 'T' && (s[i] == ' ' || s[i] == 't'));
		if (!fits)
			return false;
	}
	return true;
}

static bool zone_valid(const char *s, size_t len)
{
	if (len == 1)
		return *s == 'Z' || *s == 'z';
	return len == 6 && (*s == '+' || *s == '-') && has_shape(s + 1, 5, "dd:dd") && number(s + 1, 2) < 15 &&
	       number(s + 4, 2) < 60;
}

bool rfc3339_valid(const char *s, size_t len)
{
	size_t at = 19;
	if (!has_shape(s, len, "dddd-dd-ddTdd:dd:dd"))
		return false;
	int year = number(s, 4), month = number(s + 5, 2), day = number(s + 8, 2);
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
		return false;
	if (number(s + 11, 2) > 23 || number(s + 14, 2) > 59 || number(s + 17, 2) > 59)
		return false;
	if (at < len && s[at] == '.') {
		size_t from = ++at;
		while (at < len && digit(s[at]))
			at++;
		if (at == from || at - from > 9)
			return false;
	}
	return zone_valid(s + at, len - at);
}
