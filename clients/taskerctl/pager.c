/* What is longer than the terminal goes through a pager. Output is kept in memory until all of it is there: only then
 * is it known whether one is needed, and a pager that is handed a file can go to its end. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/taskerctl/ctl.h"

static const char *pager_of(const struct ctl *c)
{
	const char *own = getenv("TASKERCTL_PAGER"), *env = getenv("PAGER");
	const char *p = own ? own : c->cli->pager ? c->cli->pager : env ? env : "less";
	return *p && strcmp(p, "cat") != 0 ? p : NULL;
}

void pager_begin(struct ctl *c)
{
	const char *term = getenv("TERM");
	bool dumb = !term || !*term || strcmp(term, "dumb") == 0;
	if (!c->out_tty || dumb || c->cli->no_pager || c->cli->json || !pager_of(c))
		return;
	int fd = memfd_create("taskerctl", MFD_CLOEXEC), screen = dup(STDOUT_FILENO);
	if (fd >= 0 && screen >= 0 && fflush(stdout) == 0 && dup2(fd, STDOUT_FILENO) >= 0)
		c->screen = screen;
	else if (screen >= 0)
		close(screen);
	if (fd >= 0)
		close(fd);
}

/* Rows that the text takes: a line that is wider than the terminal takes several. Colours take no room. */
static size_t rows_of(const char *text, size_t len, size_t width)
{
	size_t rows = 0, column = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char ch = (unsigned char)text[i];
		if (ch == 0x1B)
			while (i + 1 < len && text[i] != 'm')
				i++;
		else if (ch == '\n') {
			rows += 1 + (column > 0 && width ? (column - 1) / width : 0);
			column = 0;
		} else {
			column += (ch & 0xC0) != 0x80;
		}
	}
	return rows + (column > 0);
}

static void write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

/* In the child: standard input is the text, standard output the terminal. */
static void become(const char *pager)
{
	setenv("LESS", "FRX", 0);
	setenv("LESSSECURE", "1", 0);
	setenv("LESSCHARSET", "utf-8", 0);
	execl("/bin/sh", "sh", "-c", pager, (char *)NULL);
	_exit(127);
}

/* 0 if the pager ran; it may have been left before the end. */
static int run_pager(const char *pager, int in, int out)
{
	int status;
	lseek(in, 0, SEEK_SET);
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		become(pager);
	}
	/* An interrupt is for the pager. */
	void (*before)(int) = signal(SIGINT, SIG_IGN);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	signal(SIGINT, before);
	return WIFEXITED(status) && (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127) ? -ENOENT : 0;
}

void pager_end(struct ctl *c)
{
	if (c->screen <= 0)
		return;
	fflush(stdout);
	int kept = dup(STDOUT_FILENO);
	off_t len = kept < 0 ? 0 : lseek(kept, 0, SEEK_END);
	char *text = len > 0 ? mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, kept, 0) : MAP_FAILED;
	dup2(c->screen, STDOUT_FILENO);
	close(c->screen);
	c->screen = 0;
	ctl_measure(c);
	bool fits = text == MAP_FAILED || rows_of(text, (size_t)len, c->width) < c->height;
	if (text != MAP_FAILED && (fits || run_pager(pager_of(c), kept, STDOUT_FILENO) < 0))
		write_all(STDOUT_FILENO, text, (size_t)len);
	if (text != MAP_FAILED)
		munmap(text, (size_t)len);
	if (kept >= 0)
		close(kept);
}
