/* What becomes of one task, by the model. Reads a script: the steps, what their handlers do, and what operators
 * do between runs; writes the end. It is run in several orders, and says so if the end depends on the order. For
 * tests/integration/workflows.py, which compares with what the daemon made of the same.
 *
 *	step KIND ATTEMPTS RETRYABLE STRATEGY PARALLELISM [PARENT]...   numbered from 0
 *	do EPOCH STEP RESPONSE...      by attempt, the last for all that follow; what has none says ok
 *	run EPOCH                      until nothing moves
 *	act reset|resolve|complete STEP [RESPONSE], act retry|pause|resume|cancel|resolve_task
 *
 * Responses: ok, retry, delay, perm, yield, bad, none, names:N,N..., batches:WORKER:N, nobatches:WORKER (-1: any).
 * Output: task STATE; answer CODE for each act; step N STATE ATTEMPTS OUTCOME,...; impossible N; batch WORKER N. The
 * instances of a batch that failed fast are loose: who was complete by then depends on the order. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/words.h"
#include "tests/unit/core/rng.h"

#define MAX_NUMBER 2048
#define MAX_LINES 4096
#define MAX_EPOCHS 4
#define ORDERS 24

struct script {
	struct words_shape shape;
	char *doing[MAX_EPOCHS][MAX_NUMBER]; /* responses, between spaces */
	char *lines[MAX_LINES];              /* what happens */
	unsigned n_lines;
};

struct world {
	const struct script *s;
	struct progress *p;
	uint64_t rng;
	unsigned epoch;
	char outcomes[MAX_NUMBER][256];
};

static struct script script;
static char answers[4096];

/* ---- reading ---- */

static void read_line(struct script *s, char *line)
{
	char *save = NULL, *kept = strdup(line), *word = strtok_r(line, " ", &save);
	if (word && strcmp(word, "step") == 0) {
		words_step(&s->shape, &save);
	} else if (word && strcmp(word, "do") == 0) {
		unsigned epoch = words_number(strtok_r(NULL, " ", &save)),
			 no = words_number(strtok_r(NULL, " ", &save));
		if (epoch >= MAX_EPOCHS || no >= MAX_NUMBER)
			words_die("out of range", kept);
		s->doing[epoch][no] = strdup(save);
	} else if (word && s->n_lines < MAX_LINES) {
		s->lines[s->n_lines++] = TAKE_PTR(kept);
	}
	free(kept);
}

static void read_script(struct script *s)
{
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, stdin) > 0) {
		line[strcspn(line, "\n")] = '\0';
		read_line(s, line);
	}
	free(line);
}

/* ---- running ---- */

/* What a handler does in its attempt, counted from 1. */
static void respond(const struct world *w, unsigned no, unsigned attempt, struct words_response *r)
{
	const char *all = w->s->doing[w->epoch][no], *at = all ? all : "ok";
	for (const char *next; attempt > 1 && (next = strchr(at, ' ')); attempt--)
		at = next + 1;
	snprintf(r->word, sizeof r->word, "%.*s", (int)strcspn(at, " "), at);
}

static void note(struct world *w, unsigned no, const char *outcome)
{
	char *to = w->outcomes[no];
	size_t len = strlen(to);
	snprintf(to + len, sizeof w->outcomes[no] - len, "%s%s", len ? "," : "", outcome);
}

static void execute(struct world *w, unsigned no)
{
	struct words_response r = {0};
	unsigned fence = progress_fence(w->p, no);
	respond(w, no, progress_attempts(w->p, no), &r);
	int rc;
	if (strcmp(r.word, "yield") == 0 && progress_checkpoints(w->p, no) == 0) {
		if (progress_yield(w->p, no, fence) != 0)
			words_die("the model refuses a checkpoint", "");
		return;
	}
	if (strcmp(r.word, "retry") == 0 || strcmp(r.word, "delay") == 0) {
		rc = progress_fail(w->p, no, fence, true, r.word[0] == 'd');
		note(w, no, "handler_error");
	} else if (strcmp(r.word, "perm") == 0) {
		rc = progress_fail(w->p, no, fence, false, false);
		note(w, no, "permanent_error");
	} else {
		words_outcome(&r);
		rc = progress_succeed(w->p, no, fence, &r.outcome);
		note(w, no, rc == 1 ? "invalid_result" : "success");
	}
	if (rc < 0)
		words_die("the model refuses a result", strerror(-rc));
}

/* Any step that can move; MAX_NUMBER: none. */
static unsigned pick(struct world *w)
{
	unsigned first = rng_below(&w->rng, MAX_NUMBER);
	for (unsigned i = 0; i < MAX_NUMBER; i++) {
		unsigned no = (first + i) % MAX_NUMBER;
		if (!progress_has_step(w->p, no))
			continue;
		enum step_state s = progress_step_state(w->p, no);
		if (s == STEP_ENQUEUED || s == STEP_IN_PROGRESS || s == STEP_WAITING_FOR_RETRY)
			return no;
	}
	return MAX_NUMBER;
}

static void run(struct world *w)
{
	for (unsigned no; (no = pick(w)) < MAX_NUMBER;) {
		unsigned fence = progress_fence(w->p, no);
		enum step_state s = progress_step_state(w->p, no);
		if (s == STEP_IN_PROGRESS)
			execute(w, no);
		else if ((s == STEP_ENQUEUED ? progress_claim(w->p, no, fence) : progress_retry_due(w->p, no, fence)) !=
		         0)
			words_die("the model refuses a claim", "");
	}
}

static int act_on_step(struct world *w, const char *action, unsigned no, const char *word)
{
	struct words_response r = {0};
	if (strcmp(action, "reset") == 0)
		return progress_reset(w->p, no);
	if (strcmp(action, "resolve") == 0)
		return progress_resolve(w->p, no, PROGRESS_EVERY);
	snprintf(r.word, sizeof r.word, "%s", word ? word : "ok");
	words_outcome(&r);
	return progress_complete(w->p, no, &r.outcome);
}

static int act(struct world *w, char *save)
{
	unsigned n;
	const char *action = strtok_r(NULL, " ", &save), *no = strtok_r(NULL, " ", &save);
	if (no)
		return act_on_step(w, action, words_number(no), strtok_r(NULL, " ", &save));
	if (strcmp(action, "retry") == 0)
		return progress_retry(w->p, &n);
	if (strcmp(action, "pause") == 0)
		return progress_pause(w->p);
	if (strcmp(action, "resume") == 0)
		return progress_resume(w->p, true);
	if (strcmp(action, "resolve_task") == 0)
		return progress_resolve_task(w->p);
	return progress_cancel(w->p);
}

/* ---- the end ---- */

static bool is_loose(const struct world *w, unsigned no)
{
	unsigned n = w->s->shape.n, of = no % n;
	if (w->s->shape.steps[of].kind != PROGRESS_WORKER || w->s->shape.steps[of].strategy != PROGRESS_FAIL_FAST)
		return false;
	for (unsigned i = of + n; progress_has_step(w->p, i); i += n)
		if (strstr(w->outcomes[i], "error") || progress_step_state(w->p, i) == STEP_CANCELLED)
			return true;
	return false;
}

static void tell(const struct world *w, FILE *out)
{
	fprintf(out, "task %s\n%s", task_states[progress_task_state(w->p)].name, answers);
	for (unsigned no = 0; no < MAX_NUMBER; no++) {
		if (!progress_has_step(w->p, no))
			continue;
		enum step_state s = progress_step_state(w->p, no);
		if (is_loose(w, no))
			fprintf(out, "step %u loose\n", no);
		else
			fprintf(out, "step %u %s %u %s\n", no, step_states[s].name, progress_attempts(w->p, no),
				w->outcomes[no]);
	}
	for (unsigned no = 0; no < w->s->shape.n; no++) {
		if (progress_existence(w->p, no) == PROGRESS_IMPOSSIBLE)
			fprintf(out, "impossible %u\n", no);
		if (progress_instances(w->p, no) > 0)
			fprintf(out, "batch %u %u\n", no, progress_instances(w->p, no));
	}
}

static void play(const struct script *s, uint64_t order, FILE *out)
{
	static struct world w;
	memset(&w, 0, sizeof w);
	w.s = s;
	w.rng = order;
	answers[0] = '\0';
	if (progress_new(s->shape.steps, s->shape.n, &w.p) != 0)
		words_die("the model refuses the template", "");
	for (unsigned i = 0; i < s->n_lines; i++) {
		char line[512], *save = NULL;
		snprintf(line, sizeof line, "%s", s->lines[i]);
		if (strcmp(strtok_r(line, " ", &save), "run") == 0) {
			w.epoch = words_number(save) % MAX_EPOCHS;
			run(&w);
		} else {
			size_t len = strlen(answers);
			snprintf(answers + len, sizeof answers - len, "answer %d\n", act(&w, save));
		}
	}
	tell(&w, out);
	progress_free(w.p);
}

int main(void)
{
	char *first = NULL;
	read_script(&script);
	for (uint64_t order = 1; order <= ORDERS; order++) {
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);
		if (!out)
			words_die("memory", "");
		play(&script, order, out);
		fclose(out);
		if (!first) {
			first = text;
			continue;
		}
		if (strcmp(first, text) != 0) {
			printf("%s-- in another order:\n%s", first, text);
			words_die("the end depends on the order", "");
		}
		free(text);
	}
	fputs(first, stdout);
	free(first);
	return 0;
}
