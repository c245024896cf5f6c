/* A WASI command: the step as JSON on stdin, the result as JSON on stdout.
 *
 *   clang-14 --target=wasm32-wasi -O2 -o greet.wasm greet.c
 *
 * There is no JSON library here; a handler of this size can do without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char input[65536];

/* The string behind "key":, in place; NULL if there is none. */
static char *text_field(char *json, const char *key)
{
	char pattern[64];
	snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
	char *at = strstr(json, pattern);
	if (!at)
		return NULL;
	at += strlen(pattern);
	char *end = strchr(at, '"');
	if (!end || memchr(at, '\\', (size_t)(end - at)))
		return NULL;
	*end = '\0';
	return at;
}

int main(void)
{
	size_t n = fread(input, 1, sizeof input - 1, stdin);
	input[n] = '\0';
	char *context = strstr(input, "\"context\":"), *name = context ? text_field(context, "name") : NULL;
	if (!name) {
		/* Status 2: there is no use in trying again. */
		printf("{\"message\":\"a short plain name is needed\",\"error_code\":\"NO_NAME\"}");
		return 2;
	}
	fprintf(stderr, "greeting %s\n", name); /* goes to the daemon's log */
	printf("{\"greeting\":\"Hello, %s\"}", name);
	return 0;
}
