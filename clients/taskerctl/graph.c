/* Drawings. The only place that starts another program: graphviz' `dot`, for SVG, with the drawing on its
 * standard input. */
#include "clients/taskerctl/graph.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int graph_format_option(const struct ctl *c, enum drawing *ret)
{
	static const char *const names[] = {"text", "mermaid", "dot", "svg"};
	const char *given = cli_get(c->cli, "format");
	*ret = DRAW_TEXT;
	if (!given)
		return EXIT_OK;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(given, names[i]) == 0) {
			*ret = (enum drawing)i;
			return EXIT_OK;
		}
	return ctl_fail(c, EXIT_USAGE, "--format: %s is not text, mermaid, dot or svg", given);
}

static int write_fd(int fd, const struct buf *b)
{
	for (size_t done = 0; done < b->len;) {
		ssize_t n = write(fd, b->data + done, b->len - done);
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int spawn_dot(int in, int out, pid_t *ret)
{
	posix_spawn_file_actions_t fa;
	static char dot[] = "dot", svg[] = "-Tsvg";
	char *argv[] = {dot, svg, NULL};
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&fa, out, STDOUT_FILENO);
	int rc = posix_spawnp(ret, "dot", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return -rc;
}

/* `b` through dot to the descriptor `out`. */
static int run_dot(const struct ctl *c, const struct buf *b, int out)
{
	int p[2], status = 0;
	pid_t pid;
	if (pipe2(p, O_CLOEXEC) < 0)
		return ctl_fail(c, EXIT_NO, "cannot make a pipe: %s", strerrordesc_np(errno));
	int rc = spawn_dot(p[0], out, &pid);
	close(p[0]);
	if (rc < 0) {
		close(p[1]);
		return ctl_fail(c, EXIT_NO,
		                "svg needs the program dot: %s. Install graphviz (apt install graphviz), or use "
		                "--format mermaid or text",
		                strerrordesc_np(-rc));
	}
	rc = write_fd(p[1], b);
	close(p[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return ctl_fail(c, EXIT_NO, "dot failed to make the drawing");
	return EXIT_OK;
}

static int open_output(const struct ctl *c, int *ret)
{
	const char *path = cli_get(c->cli, "output");
	*ret = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : dup(STDOUT_FILENO);
	return *ret < 0 ? ctl_fail(c, EXIT_NO, "cannot write to %s: %s", path ? path : "standard output",
	                           strerrordesc_np(errno))
	                : EXIT_OK;
}

int graph_draw(const struct ctl *c, const struct template *t, const struct graph_state *states,
               enum drawing how)
{
	static const enum graph_format formats[] = {GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT, GRAPH_DOT};
	cleanup_(cleanup_buf) struct buf b = {0};
	cleanup_(cleanup_close) int out = -1;
	/* In the drawings for other programs colour marks the states. */
	bool colour = how == DRAW_TEXT ? c->colour && !cli_has(c->cli, "output") : states != NULL;
	buf_init(&b, 0);
	if (template_graph(t, formats[how], states, colour, &b) < 0)
		return ctl_fail(c, EXIT_NO, "out of memory");
	int code = open_output(c, &out);
	if (code)
		return code;
	(void)ctl_flush();
	if (how == DRAW_SVG)
		return run_dot(c, &b, out);
	int rc = write_fd(out, &b);
	return rc < 0 && rc != -EPIPE
	           ? ctl_fail(c, EXIT_NO, "cannot write the drawing: %s", strerrordesc_np(-rc))
	           : EXIT_OK;
}

int graph_template_of(const struct ctl *c, const json_t *answer, struct template **ret)
{
	cleanup_(cleanup_free) char *text =
	    json_dumps(json_object_get(answer, "definition"), JSON_COMPACT | JSON_REAL_PRECISION(17));
	const struct template_opts opts = {.draft = true};
	struct findings f = {0};
	int rc = text ? template_parse(text, strlen(text), &opts, ret, &f) : -ENOMEM;
	findings_done(&f);
	return rc < 0 ? ctl_fail(c, EXIT_NO,
	                         "the definition that taskerd holds cannot be read by this taskerctl")
	              : EXIT_OK;
}
