/* Files and standard input. */
#include "clients/taskerctl/input.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int is_stdin(const char *path)
{
	return strcmp(path, "-") == 0;
}

const char *input_name(const char *path)
{
	return is_stdin(path) ? "<stdin>" : path;
}

FILE *input_open(const char *path)
{
	FILE *f = is_stdin(path) ? stdin : fopen(path, "re");
	struct stat st;
	if (!f || fstat(fileno(f), &st) < 0 || !S_ISDIR(st.st_mode))
		return f;
	input_close(f);
	errno = EISDIR; /* it opens, and seems empty */
	return NULL;
}

void input_close(FILE *f)
{
	if (f && f != stdin)
		fclose(f);
}

int input_read(const char *path, struct buf *b)
{
	FILE *f = input_open(path);
	size_t n = 1;
	if (!f)
		return -errno;
	while (n > 0 && !b->failed) {
		void *at = buf_reserve(b, 65536);
		n = at ? fread(at, 1, 65536, f) : 0;
		buf_added(b, n);
	}
	int rc = ferror(f) ? -(errno ? errno : EIO) : b->failed;
	input_close(f);
	return rc;
}
