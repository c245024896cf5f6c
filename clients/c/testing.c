/* Tests of programs: a handler on a step that is made up, and a daemon of the test's own. */
#include "clients/c/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 120000
#define RUN_MS 60000
#define LOOK_EVERY_NS 20000000
#define THREADS 4

/* ---- a step that is made up ---- */

static void put_default(struct buf *b, const tasker_value *given, const char *key, const char *text, size_t *n)
{
	if (tasker_get(given, key))
		return;
	mp_str(b, key);
	mp_str(b, text);
	(*n)++;
}

static struct msg_frame *made_up(const tasker_value *given)
{
	struct buf b;
	size_t n = 0, len;
	const tasker_value *value;
	const char *key;
	buf_init(&b, 0);
	size_t mark = mp_map_open(&b);
	for (; (key = tasker_key(given, n, &len, &value)); n++) {
		mp_strn(&b, key, len);
		mp_object(&b, as_object(value));
	}
	put_default(&b, given, "step_uuid", "00000000-0000-7000-8000-000000000001", &n);
	put_default(&b, given, "task_uuid", "00000000-0000-7000-8000-000000000000", &n);
	put_default(&b, given, "step", "step", &n);
	if (!tasker_get(given, "attempt")) {
		mp_str(&b, "attempt");
		mp_int(&b, 1);
		n++;
	}
	mp_map_close(&b, mark, n);
	struct msg_frame *f = msg_frame_of(&b);
	buf_done(&b);
	return f;
}

static int outcome(const struct tasker_step *s, tasker_answer **ret, struct tasker_error *err)
{
	struct buf nothing;
	buf_init(&nothing, 0);
	mp_map(&nothing, 0);
	int rc = answer_of_(s->value.len ? &s->value : &nothing, ret, err);
	buf_done(&nothing);
	return rc < 0 ? rc : !s->failed;
}

static int try_step(tasker_worker *w, const struct handler *h, const tasker_value *given, tasker_answer **ret,
                    struct tasker_error *err)
{
	struct msg_frame *f = made_up(given);
	struct tasker_step *s = f ? step_new(w, f, &f->v.root) : NULL;
	msg_frame_unref(f);
	if (!s)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	w->shared->replay = stderr;
	worker_run_here(w, s, h);
	int rc = outcome(s, ret, err);
	step_free(s);
	return rc;
}

int tasker_try(tasker_handler_fn *fn, void *arg, const char *step, tasker_answer **ret,
               struct tasker_error *err)
{
	const struct handler h = {.fn = fn, .arg = arg};
	tasker_answer *given = NULL;
	tasker_worker *w = NULL;
	int rc = tasker_parse(step ? step : "{}", &given, err);
	if (rc == 0 && tasker_type(tasker_answer_value(given)) != TASKER_MAP)
		rc = tasker_fail_(err, -EINVAL, "invalid_value", "a step is a JSON object");
	if (rc == 0)
		rc = tasker_worker_new(&w, NULL, err);
	if (rc == 0)
		rc = try_step(w, &h, tasker_answer_value(given), ret, err);
	tasker_worker_free(w);
	tasker_answer_free(given);
	return rc;
}

/* ---- a daemon ---- */

struct tasker_embedded {
	pid_t keeper; /* 0: none */
	int life;     /* what the keeper reads: it ends with this process */
	int log;
	char *directory, *socket;
	tasker *client;
};

/* Runs the daemon ($2 and on) until its standard input ends, however that comes about, and removes the
 * directory ($1). */
static const char keeper[] = "directory=$1; shift\n"
                             "exec 3<&0\n"
                             "\"$@\" </dev/null 3<&- &\n"
                             "daemon=$!\n"
                             "{ read -r _ <&3; kill \"$daemon\"; } &\n"
                             "reader=$!\n"
                             "exec 3<&-\n"
                             "wait \"$daemon\"\n"
                             "status=$?\n"
                             "kill \"$reader\"\n"
                             "rm -rf -- \"$directory\"\n"
                             "exit \"$status\"\n";

static char *joined(const char *a, const char *b, const char *c)
{
	char *text = NULL;
	return asprintf(&text, "%s%s%s", a, b, c) < 0 ? NULL : text;
}

static int make_places(struct tasker_embedded *e)
{
	const char *tmp = getenv("TMPDIR");
	char *directory = joined(tmp && *tmp ? tmp : "/tmp", "/taskerd-", "XXXXXX");
	if (!directory || !mkdtemp(directory)) {
		free(directory);
		return -1;
	}
	e->directory = directory;
	e->socket = joined(directory, "/taskerd.sock", "");
	char *log = joined(directory, "/taskerd.log", "");
	if (log)
		e->log = open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	free(log);
	/* A database that root starts runs as another user. */
	return e->socket && e->log >= 0 && chmod(directory, 0711) == 0 ? 0 : -1;
}

static int spawn(struct tasker_embedded *e, char *const *argv, int input)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, input, 0);
	posix_spawn_file_actions_adddup2(&files, e->log, 1);
	posix_spawn_file_actions_adddup2(&files, e->log, 2);
	posix_spawnattr_init(&attr);
	/* What a terminal sends ends the test, and the end of the test ends these. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	int rc = posix_spawn(&e->keeper, "/bin/sh", &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	if (rc)
		e->keeper = 0;
	return -rc;
}

static int launch(struct tasker_embedded *e, const char *program)
{
	int ends[2];
	char *database = joined("--embedded=", e->directory, "/database");
	char *socket = joined("--socket=", e->socket, "");
	const char *argv[] = {"sh", "-c", keeper, "sh", e->directory, program, database, socket, NULL};
	int rc = database && socket && pipe2(ends, O_CLOEXEC) == 0 ? 0 : -1;
	if (rc == 0) {
		rc = spawn(e, (char *const *)(uintptr_t)argv, ends[0]);
		close(ends[0]);
		e->life = ends[1];
	}
	free(database);
	free(socket);
	return rc;
}

/* The last line of the daemon's log. */
static void last_words(const struct tasker_embedded *e, char *dst, size_t size)
{
	off_t end = lseek(e->log, 0, SEEK_END);
	off_t from = end > (off_t)size - 1 ? end - (off_t)size + 1 : 0;
	ssize_t n = end > 0 ? pread(e->log, dst, size - 1, from) : 0;
	dst[n > 0 ? n : 0] = '\0';
	while (n > 0 && dst[n - 1] == '\n')
		dst[--n] = '\0';
	const char *line = strrchr(dst, '\n');
	if (line)
		memmove(dst, line + 1, strlen(line));
}

static bool healthy(struct tasker_embedded *e)
{
	const struct tasker_options o = {.socket_path = e->socket, .call_timeout_ms = RUN_MS};
	const struct tasker_query one = {.limit = 1};
	tasker_answer *rows = NULL;
	if (tasker_connect(&e->client, &o, NULL) == 0 && tasker_task_list(e->client, &one, &rows, NULL) == 0) {
		tasker_answer_free(rows);
		return true;
	}
	e->client = tasker_close(e->client);
	return false;
}

static int await_database(struct tasker_embedded *e, struct tasker_error *err)
{
	const struct timespec moment = {.tv_nsec = LOOK_EVERY_NS};
	uint64_t deadline = tasker_now_us_() + START_MS * UINT64_C(1000);
	char said[400];
	while (!healthy(e)) {
		bool ended = waitpid(e->keeper, NULL, WNOHANG) == e->keeper;
		if (ended)
			e->keeper = 0;
		if (ended || tasker_now_us_() > deadline) {
			last_words(e, said, sizeof said);
			return tasker_fail_(err, -EIO, "unreachable", "taskerd %s: %s",
			                    ended ? "has ended" : "does not get ready", said);
		}
		nanosleep(&moment, NULL);
	}
	return 0;
}

/* The program: as given, as the environment names it, or for execvp to find. */
static const char *program_of(const char *given)
{
	const char *named = given ? given : getenv("TASKERD_PROGRAM");
	return named && *named ? named : "taskerd";
}

int tasker_embedded_start(tasker_embedded **ret, const char *program, struct tasker_error *err)
{
	struct tasker_embedded *e = calloc(1, sizeof *e);
	if (!e)
		return tasker_fail_(err, -ENOMEM, "out_of_memory", "out of memory");
	e->life = e->log = -1;
	errno = 0;
	int rc = make_places(e) < 0 || launch(e, program_of(program)) < 0
	             ? tasker_fail_(err, errno ? -errno : -EIO, "unreachable", "taskerd cannot be started: %s",
	                            strerrordesc_np(errno ? errno : EIO))
	             : await_database(e, err);
	if (rc < 0) {
		tasker_embedded_stop(e);
		return rc;
	}
	*ret = e;
	return 0;
}

tasker_embedded *tasker_embedded_stop(tasker_embedded *e)
{
	if (!e)
		return NULL;
	tasker_close(e->client);
	if (e->life >= 0)
		close(e->life);
	while (e->keeper > 0 && waitpid(e->keeper, NULL, 0) < 0 && errno == EINTR)
		;
	if (e->log >= 0)
		close(e->log);
	free(e->directory);
	free(e->socket);
	free(e);
	return NULL;
}

const char *tasker_embedded_socket(const tasker_embedded *e)
{
	return e->socket;
}

tasker *tasker_embedded_client(tasker_embedded *e)
{
	return e->client;
}

/* ---- a workflow ---- */

struct running {
	tasker_worker *w;
	pthread_t thread;
	int rc;
	struct tasker_error err;
};

static void *run_worker(void *arg)
{
	struct running *r = arg;
	r->rc = tasker_worker_run(r->w, &r->err);
	return NULL;
}

static int start_worker(struct running *r, const char *socket, const struct tasker_handler *handlers,
                        struct tasker_error *err)
{
	const struct tasker_worker_options o = {.socket_path = socket, .threads = THREADS};
	int rc = tasker_worker_new(&r->w, &o, err);
	if (rc == 0)
		rc = worker_add_all(r->w, handlers, err);
	if (rc == 0 && pthread_create(&r->thread, NULL, run_worker, r) != 0)
		rc = tasker_fail_(err, -EAGAIN, "out_of_memory", "the system has no threads left");
	if (rc < 0)
		tasker_worker_free(r->w);
	return rc;
}

/* After a failure what hangs is not waited for; why the worker has ended by itself, if it has, is the better
 * reason then. */
static int end_worker(struct running *r, int rc, struct tasker_error *err)
{
	tasker_worker_stop(r->w);
	if (rc < 0)
		tasker_worker_stop(r->w);
	pthread_join(r->thread, NULL);
	tasker_worker_free(r->w);
	if (rc < 0 && r->rc < 0 && err)
		*err = r->err;
	return rc < 0 && r->rc < 0 ? r->rc : rc;
}

static int create_and_wait(tasker *t, const tasker_value *template, const char *context,
                           struct tasker_created *made, struct tasker_error *err)
{
	char name[256], namespace_name[256], version[64];
	struct tasker_settled end = {0};
	tasker_copy(tasker_get(template, "name"), name, sizeof name);
	tasker_copy(tasker_get(template, "namespace"), namespace_name, sizeof namespace_name);
	tasker_copy(tasker_get(template, "version"), version, sizeof version);
	const struct tasker_task task = {
	    .name = name, .namespace_name = namespace_name, .version = version, .context = context};
	int rc = tasker_task_create(t, &task, made, err);
	if (rc == 0)
		rc = tasker_task_wait(t, made->task_uuid, RUN_MS, &end, err);
	if (rc == 0 && !end.settled)
		rc = tasker_fail_(err, -ETIMEDOUT, "timeout", "task %s is still %s", made->task_uuid, end.state);
	return rc;
}

int tasker_embedded_run(tasker_embedded *e, const char *source, const char *context,
                        const struct tasker_handler *handlers, tasker_answer **ret, struct tasker_error *err)
{
	tasker_answer *template = NULL;
	struct running r = {0};
	struct tasker_created made = {0};
	int rc = tasker_template_apply(e->client, source, NULL, &template, err);
	if (rc == 0)
		rc = start_worker(&r, e->socket, handlers, err);
	if (rc == 0)
		rc = end_worker(&r, create_and_wait(e->client, tasker_answer_value(template), context, &made, err),
		                err);
	if (rc == 0)
		rc = tasker_task_get(e->client, made.task_uuid, true, ret, err);
	tasker_answer_free(template);
	return rc;
}

const tasker_value *tasker_task_find(const tasker_value *task, const char *step)
{
	const tasker_value *steps = tasker_get(task, "steps");
	size_t i = 0, n = tasker_count(steps);
	while (i < n && !mp_str_eq(as_object(tasker_get(tasker_item(steps, i), "name")), step))
		i++;
	return tasker_item(steps, i);
}
