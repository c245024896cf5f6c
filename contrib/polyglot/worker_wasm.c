/* One more than the step before, as a WASI command: the step as JSON on stdin, the result on stdout. Its context holds
 * no other "n" than those of the steps before, and the largest is that of the last one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
	static char input[65536];
	long most = -2;
	size_t len = fread(input, 1, sizeof input - 1, stdin);
	input[len] = '\0';
	for (char *at = strstr(input, "\"n\":"); at; at = strstr(at + 4, "\"n\":")) {
		long n = strtol(at + 4, NULL, 10);
		most = n > most ? n : most;
	}
	printf("{\"n\":%ld,\"language\":\"WASM\",\"runtime\":\"C, %s\"}", most + 1, __VERSION__);
	return 0;
}
