/* How a collector of spans is written in options. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* http:// or https://, a host or address, a port or none, a path or none; no user, query or fragment. */
bool collector_url_ok(const char *url);
/* The next of "name=value,name=value", whose values may be escaped with % (as OTEL_EXPORTER_OTLP_HEADERS is written),
 * as the line "Name: value" for the caller to free, and *at behind it. NULL: there is no other, and **at is 0; or this
 * is none, or there is no memory. */
char *collector_next_header(const char **at);
bool collector_headers_ok(const char *text);
