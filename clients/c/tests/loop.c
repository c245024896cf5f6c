/* A worker in a program with a loop of its own: poll() over the worker's descriptor and nothing else of the
 * worker's. Ends when its standard input does. */
#include <poll.h>
#include <stdio.h>
#include <tasker.h>
#include <unistd.h>

static enum tasker_verdict noop(void *arg, tasker_step *s)
{
	(void)arg;
	(void)s;
	return TASKER_DONE;
}

static void say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "loop: %s\n", line);
}

int main(int argc, char **argv)
{
	const struct tasker_worker_options o = {
	    .socket_path = argc > 1 ? argv[1] : NULL, .name = "loop", .max_concurrency = 50, .log = say};
	struct tasker_error err = {0};
	tasker_worker *w = NULL;
	unsigned long turns = 0;
	int rc = tasker_worker_new(&w, &o, &err);
	if (rc == 0)
		rc = tasker_worker_add(w, "b.echo", noop, NULL);
	if (rc == 0)
		rc = tasker_worker_broken(w, "shop", "shop.so", 0, "no such file");
	if (rc == 0)
		rc = tasker_worker_broken(w, "other", NULL, 7, "on purpose");
	if (rc == 0)
		rc = tasker_worker_poll(w, 0, &err);
	struct pollfd p[2] = {{.fd = rc > 0 ? tasker_worker_fd(w) : -1, .events = POLLIN},
	                      {.fd = 0, .events = POLLIN}};
	while (rc > 0) {
		poll(p, 2, -1);
		if (p[1].revents) {
			p[1].fd = -1;
			tasker_worker_stop(w);
		}
		rc = tasker_worker_poll(w, 0, &err);
		turns++;
	}
	struct tasker_worker_stats st;
	tasker_worker_stats(w, &st);
	printf("{\"rc\":%d,\"recorded\":%llu,\"connects\":%llu,\"turns\":%lu}\n", rc,
	       (unsigned long long)st.recorded, (unsigned long long)st.connects, turns);
	tasker_worker_free(w);
	return rc < 0;
}
