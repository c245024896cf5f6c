/* Runs a fuzz target over the files of the directories given, without libFuzzer. A target aborts when it
 * fails; the file in hand is named on stderr then. Each input is in an allocation of its exact size, for the
 * sanitizers. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char current[4096]; /* the path of the input in hand */

static struct sigaction abort_before, segv_before; /* a sanitizer has its own */

/* Say what was in hand, then let the same thing happen again under the handler that was there before. */
static void on_signal(int sig)
{
	static const char head[] = "failed on ";
	ssize_t ignored = write(STDERR_FILENO, head, sizeof head - 1);
	ignored = write(STDERR_FILENO, current, strlen(current));
	ignored = write(STDERR_FILENO, "\n", 1);
	(void)ignored;
	sigaction(sig, sig == SIGABRT ? &abort_before : &segv_before, NULL);
}

static int complain(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	return -1;
}

/* 0, or -1 if the file cannot be read. */
static int replay_file(const char *path)
{
	struct stat st;
	cleanup_(cleanup_free) unsigned char *data = NULL;
	FILE *f = fopen(path, "rb");
	if (!f)
		return complain(path);
	int r = fstat(fileno(f), &st);
	size_t size = r == 0 ? (size_t)st.st_size : 0;
	if (r == 0) {
		data = malloc(size ? size : 1);
		r = data && fread(data, 1, size, f) == size ? 0 : -1;
	}
	fclose(f);
	if (r < 0)
		return complain(path);
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

static int is_visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* The number of files run, or -1. */
static int replay_directory(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, is_visible, alphasort), r = n < 0 ? complain(dir) : 0;
	for (int i = 0; i < n; i++) {
		if (r == 0 &&
		    snprintf(current, sizeof current, "%s/%s", dir, names[i]->d_name) < (int)sizeof current)
			r = replay_file(current);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return r < 0 ? r : n;
}

int main(int argc, char **argv)
{
	int total = 0;
	struct sigaction act = {.sa_handler = on_signal};
	sigaction(SIGABRT, &act, &abort_before);
	sigaction(SIGSEGV, &act, &segv_before);
	for (int i = 1; i < argc; i++) {
		int n = replay_directory(argv[i]);
		if (n < 0)
			return EXIT_FAILURE;
		total += n;
	}
	printf("%d inputs replayed\n", total);
	return total > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
