/* task create --from: a task for each row of a file. What is held in memory does not grow with the file: some requests
 * are under way, and what became of their rows is told in order as they are answered (with --wait the uuids are kept,
 * for the end). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "clients/taskerctl/bulk.h"
#include "clients/taskerctl/input.h"
#include "clients/taskerctl/options.h"
#include "clients/taskerctl/rows.h"
#include "clients/taskerctl/task_view.h"
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

#define CHUNKS_IN_FLIGHT 4
#define CHUNK_MAX 1000u /* who writes slowly into a pipe is not to wait for very many rows */
#define TRIES_MAX 30
#define COMPLAINTS_MAX 20
#define PROGRESS_US 500000
#define WAIT_WINDOW 1000

/* Rows of one request, in order; an answer has the same order. */
struct chunk {
	TAILQ_ENTRY(chunk) link;
	struct bulk *bulk;
	json_t *tasks, *results; /* results: once answered */
	struct tasker_error err; /* or why there are none */
	size_t bytes, n;
	unsigned tries;
	bool answered;
	unsigned long lines[]; /* tasker_max_bulk of them */
};

struct bulk {
	struct ctl *c;
	const char *source, *batch;
	const json_t *common;
	struct rows rows;
	json_t *schema;
	TAILQ_HEAD(, chunk) sent; /* the oldest first */
	struct chunk *chunk;      /* being filled */
	size_t open;
	unsigned long created, existing, failed;
	unsigned long through; /* all rows up to this line are done */
	int code;              /* of the first row that failed */
	unsigned long code_line;
	FILE *outcomes;
	bool first_json;
	struct buf uuids; /* for --wait, one after the other with a NUL */
	size_t n_uuids;
	uint64_t began, told;
	struct tasker_error lost;
	int unread; /* errno of a file that could not be read to its end */
};

/* ---- what became of a row ---- */

static void progress(struct bulk *b, bool last)
{
	uint64_t now = now_mono();
	unsigned long done = b->created + b->existing + b->failed;
	if (!b->c->err_tty || b->c->cli->quiet || (!last && now - b->told < PROGRESS_US))
		return;
	b->told = now;
	double seconds = (double)(now - b->began) / 1e6;
	fprintf(stderr, "\r%lu rows: %lu created, %lu there already, %lu failed, %.0f a second   %s", done, b->created,
	        b->existing, b->failed, seconds > 0 ? (double)done / seconds : 0, last ? "\n" : "");
}

/* To --outcomes, and with --json to stdout as part of one document. */
static void put_outcome(struct bulk *b, unsigned long line, const json_t *result)
{
	const struct cli *cli = b->c->cli;
	if (b->outcomes) {
		cleanup_(cleanup_json) json_t *o = json_pack("{s:I}", "line", (json_int_t)line);
		json_object_update(o, (json_t *)(uintptr_t)result);
		json_dumpf(o, b->outcomes, JSON_COMPACT);
		fputc('\n', b->outcomes);
	}
	if (!cli->json)
		return;
	if (cli->output != OUTPUT_JSONL)
		fputs(b->first_json ? "{\"results\":[" : ",", stdout);
	b->first_json = false;
	ctl_put_json(b->c, result, JSON_COMPACT);
	if (cli->output == OUTPUT_JSONL)
		fputc('\n', stdout);
}

static void fail_row(struct bulk *b, unsigned long line, const char *code, const char *message)
{
	char about[300];
	struct tasker_error err = {.rc = -EREMOTEIO};
	cleanup_(cleanup_json) json_t *result = json_pack("{s:{s:s,s:s}}", "error", "code", code, "message", message);
	snprintf(about, sizeof about, "%s:%lu", b->source, line);
	snprintf(err.code, sizeof err.code, "%s", code);
	snprintf(err.message, sizeof err.message, "%s", message);
	if (b->c->err_tty && b->failed < COMPLAINTS_MAX)
		ctl_warn("\n");
	int exit = b->failed++ < COMPLAINTS_MAX ? ctl_complain(b->c, about, &err) : (int)exit_code_for(&err);
	if (b->code == EXIT_OK || line < b->code_line) {
		b->code = exit;
		b->code_line = line;
	}
	put_outcome(b, line, result);
}

static void take_result(struct bulk *b, const json_t *r, unsigned long line)
{
	const json_t *error = json_object_get(r, "error");
	const char *uuid = json_text(r, "task_uuid");
	if (error) {
		fail_row(b, line, json_text(error, "code"), json_text(error, "message"));
		return;
	}
	if (json_flag(r, "created"))
		b->created++;
	else
		b->existing++;
	if (!b->c->cli->json)
		ctl_say("%s\n", uuid);
	put_outcome(b, line, r);
	if (cli_has(b->c->cli, "wait")) {
		buf_append(&b->uuids, uuid, strlen(uuid) + 1);
		b->n_uuids++;
	}
}

static void free_chunk(struct chunk *k)
{
	json_decref(k->tasks);
	json_decref(k->results);
	free(k);
}

/* Tell of the chunks that are answered, in the order in which they were sent. */
static void take_answers(struct bulk *b)
{
	struct chunk *k;
	while ((k = TAILQ_FIRST(&b->sent)) && k->answered) {
		for (size_t i = 0; i < k->n; i++) {
			const json_t *r = json_array_get(k->results, i);
			if (k->err.rc)
				fail_row(b, k->lines[i], k->err.code, k->err.message);
			else if (r)
				take_result(b, r, k->lines[i]);
			else
				fail_row(b, k->lines[i], "protocol_error", "taskerd's answer lacks this task");
		}
		b->through = k->lines[k->n - 1];
		TAILQ_REMOVE(&b->sent, k, link);
		free_chunk(k);
	}
	progress(b, false);
}

/* ---- requests ---- */

static void ask(struct bulk *b, struct chunk *k);

/* Nothing was made, and it may be tried again. Without keys a lost database leaves open what was made. */
static bool again(const struct chunk *k, const struct tasker_error *err)
{
	bool keyed = k->bulk->batch != NULL;
	return err->rc == -EREMOTEIO && err->retry_after_ms > 0 && k->tries < TRIES_MAX &&
	       (strcmp(err->code, "overloaded") == 0 || (keyed && strcmp(err->code, "database_unavailable") == 0));
}

static void on_answer(void *arg, const tasker_value *result, const struct tasker_error *err)
{
	struct chunk *k = arg;
	struct bulk *b = k->bulk;
	b->open--;
	if (err && again(k, err)) {
		unsigned pause = err->retry_after_ms << (k->tries < 4 ? k->tries : 4);
		k->tries++;
		(void)!poll(NULL, 0, (int)(pause < 10000 ? pause : 10000));
		ask(b, k);
		return;
	}
	if (err && err->rc != -EREMOTEIO) {
		b->lost = *err;
		return;
	}
	cleanup_(cleanup_json) json_t *answer = result ? json_from_value(result) : NULL;
	k->results = json_incref(json_object_get(answer, "results"));
	if (err)
		k->err = *err;
	k->answered = true;
}

static void ask(struct bulk *b, struct chunk *k)
{
	if (ctl_send(b->c, "task.create_many", json_pack("{s:O}", "tasks", k->tasks), on_answer, k, &b->lost) == 0)
		b->open++;
}

/* Process until at most `n` requests are open. */
static void settle(struct bulk *b, size_t n)
{
	struct tasker_error err = {0};
	while (b->lost.rc == 0 && b->open > n) {
		if (tasker_process(b->c->conn, -1, &err) < 0 && b->lost.rc == 0)
			b->lost = err;
		take_answers(b);
	}
}

static void send_chunk(struct bulk *b)
{
	struct chunk *k = b->chunk;
	if (!k || b->lost.rc < 0)
		return;
	b->chunk = NULL;
	TAILQ_INSERT_TAIL(&b->sent, k, link);
	ask(b, k);
	settle(b, CHUNKS_IN_FLIGHT - 1);
}

static struct chunk *new_chunk(struct bulk *b, size_t max)
{
	struct chunk *k = calloc(1, sizeof *k + max * sizeof *k->lines);
	if (!k) {
		b->lost = (struct tasker_error){.rc = -ENOMEM, .code = "out_of_memory", .message = "out of memory"};
		return NULL;
	}
	k->bulk = b;
	k->tasks = json_array();
	return k;
}

static void add_task(struct bulk *b, json_t *task, size_t bytes, unsigned long line)
{
	size_t max = tasker_max_bulk(b->c->conn) < CHUNK_MAX ? tasker_max_bulk(b->c->conn) : CHUNK_MAX;
	if (b->chunk && (b->chunk->n == max || b->chunk->bytes + bytes > tasker_max_frame(b->c->conn) / 2))
		send_chunk(b);
	if (!b->chunk && b->lost.rc == 0)
		b->chunk = new_chunk(b, max);
	if (!b->chunk) {
		json_decref(task);
		return;
	}
	json_array_append_new(b->chunk->tasks, task);
	b->chunk->bytes += bytes;
	b->chunk->lines[b->chunk->n++] = line;
}

/* ---- rows ---- */

/* A row of CSV is a context and parameters; of JSON Lines it is the context if a template was named, else all
 * parameters. */
static json_t *make_task(const struct bulk *b, json_t *row)
{
	char key[200];
	json_t *task = json_deep_copy(b->common);
	if (b->rows.format == ROWS_JSONL && b->c->cli->nargs > 0)
		json_object_set(task, "context", row);
	else
		json_object_update(task, row);
	if (b->batch && !json_object_get(task, "idempotency_key")) {
		snprintf(key, sizeof key, "%.128s:%lu", b->batch, b->rows.line);
		json_object_set_new(task, "idempotency_key", json_string(key));
	}
	return task;
}

static void take_row(struct bulk *b, json_t *row)
{
	json_t *task = make_task(b, row);
	json_decref(row);
	/* The options make a task larger than its row. */
	size_t bytes = json_dumpb(task, NULL, 0, JSON_COMPACT);
	add_task(b, task, bytes + 64, b->rows.line);
}

/* A bad row is told in its turn: after what was read before. */
static void bad_row(struct bulk *b)
{
	char why[sizeof b->rows.why];
	snprintf(why, sizeof why, "%s", b->rows.why);
	unsigned long line = b->rows.line;
	fail_row(b, line, "invalid_value", why);
}

static void read_rows(struct bulk *b, unsigned long from)
{
	for (;;) {
		json_t *row = NULL;
		int rc = b->lost.rc == 0 ? rows_next(&b->rows, &row) : 0;
		if (rc == 0) {
			b->unread = ferror(b->rows.f) ? errno : 0;
			break;
		}
		if (b->rows.line < from)
			json_decref(rc == 1 ? row : NULL);
		else if (rc < 0)
			bad_row(b);
		else
			take_row(b, row);
	}
	send_chunk(b);
	settle(b, 0);
}

/* ---- options ---- */

static int choose_format(struct bulk *b, const char *path)
{
	const char *format = cli_get(b->c->cli, "format"), *delimiter = cli_get(b->c->cli, "delimiter"),
		   *dot = strrchr(path, '.');
	bool csv = format ? strcmp(format, "csv") == 0
	                  : dot && (strcasecmp(dot, ".csv") == 0 || strcasecmp(dot, ".tsv") == 0);
	b->rows.format = csv ? ROWS_CSV : ROWS_JSONL;
	b->rows.delimiter = dot && strcasecmp(dot, ".tsv") == 0 ? '\t' : ',';
	if (!delimiter)
		return EXIT_OK;
	if (!csv || (strlen(delimiter) != 1 && strcmp(delimiter, "\\t") != 0) || strchr("\"\r\n", *delimiter))
		return ctl_fail(b->c, EXIT_USAGE, "--delimiter: one character of CSV files, as ; or \\t, is expected");
	b->rows.delimiter = delimiter[1] ? '\t' : *delimiter;
	return EXIT_OK;
}

/* Of the template that all rows are of: what types its columns have. */
static int get_schema(struct bulk *b)
{
	static const char *const keys[] = {"namespace", "name", "version"};
	cleanup_(cleanup_json) json_t *params = json_object(), *template = NULL;
	if (b->rows.format != ROWS_CSV || b->c->cli->nargs == 0)
		return EXIT_OK;
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (json_object_get(b->common, keys[i]))
			json_object_set(params, keys[i], json_object_get(b->common, keys[i]));
	int code = ctl_call(b->c, "template.get", json_incref(params), &template);
	b->schema = json_incref(json_object_get(json_object_get(template, "definition"), "input_schema"));
	b->rows.schema = b->schema;
	return code;
}

static int open_files(struct bulk *b, const char *path)
{
	const char *outcomes = cli_get(b->c->cli, "outcomes");
	b->rows.f = input_open(path);
	if (!b->rows.f)
		return ctl_fail(b->c, EXIT_NO, "%s: cannot be read: %s", path, strerrordesc_np(errno));
	if (outcomes && !(b->outcomes = fopen(outcomes, "ae")))
		return ctl_fail(b->c, EXIT_NO, "%s: cannot be written: %s", outcomes, strerrordesc_np(errno));
	if (rows_begin(&b->rows) < 0)
		return ctl_fail(b->c, EXIT_NO, "%s:1: %s", b->source, b->rows.why);
	return EXIT_OK;
}

/* ---- the end ---- */

static int wait_for_window(struct bulk *b, const char **at, size_t n, size_t *ret_complete, int *ret_worst)
{
	cleanup_(cleanup_free) struct waited *tasks = calloc(n, sizeof *tasks);
	if (!tasks)
		return ctl_fail(b->c, EXIT_NO, "out of memory");
	for (size_t i = 0; i < n; i++, *at += strlen(*at) + 1)
		tasks[i].uuid = *at;
	int code = task_wait_all(b->c, tasks, n, b->c->cli->timeout_ms, NULL, NULL);
	for (size_t i = 0; i < n; i++) {
		int one = task_waited_code(&tasks[i]);
		*ret_complete += one == EXIT_OK;
		if (*ret_worst == EXIT_OK)
			*ret_worst = one;
		json_decref(tasks[i].answer);
	}
	return code;
}

static int wait_for_many(struct bulk *b)
{
	size_t complete = 0;
	int worst = EXIT_OK, code = EXIT_OK;
	const char *at = buf_text(&b->uuids);
	for (size_t i = 0; at && i < b->n_uuids && (code == EXIT_OK || code == EXIT_TIMEOUT); i += WAIT_WINDOW) {
		int one = wait_for_window(b, &at, b->n_uuids - i < WAIT_WINDOW ? b->n_uuids - i : WAIT_WINDOW,
		                          &complete, &worst);
		code = code ? code : one;
	}
	ctl_note(b->c, "%zu of %zu tasks complete", complete, b->n_uuids);
	return code ? code : worst;
}

/* The connection is lost: say how to go on. */
static int give_up(struct bulk *b)
{
	int code = ctl_error(b->c, &b->lost);
	ctl_note(
		b->c,
		"all rows up to line %lu are done: %lu created, %lu there already, %lu failed; go on with --from-line %lu%s",
		b->through, b->created, b->existing, b->failed, b->through + 1,
		b->batch ? " and the same --batch, so that none is made twice"
			 : " (some rows after that may have been made: with --batch NAME none is made twice)");
	return code;
}

static void release(struct bulk *b)
{
	struct chunk *k;
	if (b->open > 0) /* their callbacks point to this frame */
		b->c->conn = tasker_close(b->c->conn);
	while ((k = TAILQ_FIRST(&b->sent))) {
		TAILQ_REMOVE(&b->sent, k, link);
		free_chunk(k);
	}
	if (b->chunk)
		free_chunk(b->chunk);
	if (b->outcomes)
		fclose(b->outcomes);
	input_close(b->rows.f);
	rows_done(&b->rows);
	json_decref(b->schema);
	buf_done(&b->uuids);
}

static int finish(struct bulk *b)
{
	if (b->c->cli->json && b->c->cli->output != OUTPUT_JSONL)
		ctl_say("%s]}\n", b->first_json ? "{\"results\":[" : "");
	progress(b, true);
	if (b->lost.rc < 0)
		return give_up(b);
	if (b->outcomes && (fflush(b->outcomes) != 0 || ferror(b->outcomes)))
		return ctl_fail(b->c, EXIT_NO, "--outcomes: cannot be written: %s", strerrordesc_np(errno));
	ctl_note(b->c, "%lu created, %lu there already, %lu failed", b->created, b->existing, b->failed);
	if (b->unread) {
		ctl_warn("taskerctl: %s: cannot be read beyond line %lu: %s\n  go on with --from-line %lu\n", b->source,
		         b->through, strerrordesc_np(b->unread), b->through + 1);
		return EXIT_NO;
	}
	int code = cli_has(b->c->cli, "wait") ? wait_for_many(b) : EXIT_OK;
	return code ? code : b->code;
}

int create_many(struct ctl *c, const json_t *common, const char *path)
{
	struct bulk b = {.c = c,
	                 .source = input_name(path),
	                 .common = common,
	                 .batch = cli_get(c->cli, "batch"),
	                 .first_json = true,
	                 .began = now_mono()};
	int64_t from = 1;
	TAILQ_INIT(&b.sent);
	buf_init(&b.uuids, 0);
	int code = ctl_int_option(c, "from-line", 1, INT64_MAX, &from);
	if (code == EXIT_OK)
		code = choose_format(&b, path);
	if (code == EXIT_OK)
		code = ctl_connect(c);
	if (code == EXIT_OK)
		code = get_schema(&b);
	if (code == EXIT_OK)
		code = open_files(&b, path);
	if (code == EXIT_OK) {
		b.through = (unsigned long)from - 1;
		read_rows(&b, (unsigned long)from);
		code = finish(&b);
	}
	release(&b);
	return code;
}
