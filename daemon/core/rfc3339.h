/* Times as RFC 3339 writes them. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* A date and time with its zone that exists in the calendar, from the year 1970 to 9999: "2030-01-31T09:00:00Z",
 * "2030-01-31 09:00:00.25+01:00". PostgreSQL reads all of these. */
bool rfc3339_valid(const char *s, size_t len);
