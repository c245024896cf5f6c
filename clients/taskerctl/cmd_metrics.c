/* metrics: what the daemon counts and measures, as Prometheus reads it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/text.h"

/* Write beside the file, then put it in its place: who reads it sees the old text or the new one. */
static int replace_file(const struct ctl *c, const char *path, const char *text)
{
	cleanup_(cleanup_free) char *tmp = NULL;
	if (asprintf(&tmp, "%s.XXXXXX", path) < 0)
		return ctl_fail(c, EXIT_NO, "out of memory");
	int fd = mkstemp(tmp);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool ok = f && fchmod(fd, 0644) == 0 && fputs(text, f) >= 0;
	ok = f && fclose(f) == 0 && ok && rename(tmp, path) == 0;
	if (ok)
		return EXIT_OK;
	int why = errno;
	if (fd >= 0)
		unlink(tmp);
	return ctl_fail(c, EXIT_NO, "%s cannot be written: %s", path, strerror(why));
}

int run_metrics(struct ctl *c)
{
	const char *path = cli_get(c->cli, "output");
	const char *format = c->cli->json ? "values" : cli_has(c->cli, "openmetrics") ? "openmetrics" : "prometheus";
	cleanup_(cleanup_json) json_t *answer = NULL;
	cleanup_(cleanup_free) char *json = NULL;
	int code = ctl_call(c, "server.metrics", json_pack("{s:s}", "format", format), &answer);
	if (code)
		return code;
	if (c->cli->json)
		json = json_dumps(answer, JSON_INDENT(2));
	const char *text = c->cli->json ? json : json_text(answer, "text");
	cleanup_(cleanup_buf) struct buf clean = {0};
	buf_init(&clean, 0);
	if (!text)
		return ctl_fail(c, EXIT_NO, "out of memory");
	if (path)
		return replace_file(c, path, text);
	if (c->out_tty && c->cli->json)
		text_put_json(&clean, text);
	else if (c->out_tty)
		text_put_lines(&clean, text);
	else
		ctl_put(text, strlen(text));
	ctl_write(&clean);
	ctl_put("\n", c->cli->json);
	return EXIT_OK;
}
