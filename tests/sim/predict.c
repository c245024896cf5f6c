/* What becomes of one task, by the model. Reads a script: the steps, what their handlers do, and what operators
 * do between runs; writes the end. It is run in several orders, and says so if the end depends on the order. For
 * tests/integration/workflows.py, which compares with what the daemon made of the same.
 *
 *	step KIND ATTEMPTS RETRYABLE STRATEGY PARALLELISM [PARENT]...   numbered from 0
 *	do EPOCH STEP RESPONSE...      by attempt, the last for all that follow; what has none says ok
 *	run EPOCH                      until nothing moves
 *	act reset|resolve|complete STEP [RESPONSE], act retry|pause|resume|cancel
 *
 * Responses: ok, retry, delay, perm, yield, bad, none, names:N,N..., batches:WORKER:N, nobatches:WORKER (-1: any).
 * Output: task STATE; answer CODE for each act; step N STATE ATTEMPTS OUTCOME,...; impossible N; batch WORKER N. The
 * instances of a batch that failed fast are loose: who was complete by then depends on the order. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/progress.h"
#include "tests/unit/core/rng.h"

#define MAX_STEPS 64
#define MAX_NUMBER 2048
#define MAX_LINES 4096
#define MAX_EPOCHS 4
#define ORDERS 24

struct script {
	unsigned n;
	struct progress_step steps[MAX_STEPS];
	unsigned children[MAX_STEPS][MAX_STEPS];
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

static void __attribute__((noreturn)) die(const char *what, const char *text)
{
	fprintf(stderr, "predict: %s: %s\n", what, text);
	exit(2);
}

static unsigned number(const char *text)
{
	return (unsigned)strtoul(text ? text : "", NULL, 10);
}

static int look_up(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (name && strcmp(names[i], name) == 0)
			return i;
	die("unknown word", name ? name : "none");
}

/* ---- reading ---- */

static void read_step(struct script *s, char **save)
{
	static const char *const kinds[] = {"standard", "decision", "deferred_convergence", "batchable", "batch_worker", NULL};
	static const char *const strategies[] = {"isolate", "continue_on_failure", "fail_fast", NULL};
	if (s->n == MAX_STEPS)
		die("too many steps", "");
	struct progress_step *p = &s->steps[s->n];
	p->kind = (enum progress_kind)look_up(kinds, strtok_r(NULL, " ", save));
	p->max_attempts = number(strtok_r(NULL, " ", save));
	p->retryable = number(strtok_r(NULL, " ", save));
	p->strategy = (enum progress_strategy)look_up(strategies, strtok_r(NULL, " ", save));
	p->parallelism = number(strtok_r(NULL, " ", save));
	for (const char *t; (t = strtok_r(NULL, " ", save));) {
		struct progress_step *parent = &s->steps[number(t)];
		s->children[number(t)][parent->n_children++] = s->n;
	}
	p->children = s->children[s->n++];
}

static void read_line(struct script *s, char *line)
{
	char *save = NULL, *kept = strdup(line), *word = strtok_r(line, " ", &save);
	if (word && strcmp(word, "step") == 0) {
		read_step(s, &save);
	} else if (word && strcmp(word, "do") == 0) {
		unsigned epoch = number(strtok_r(NULL, " ", &save)), no = number(strtok_r(NULL, " ", &save));
		if (epoch >= MAX_EPOCHS || no >= MAX_NUMBER)
			die("out of range", kept);
		s->doing[epoch][no] = strdup(save);
	} else if (word && s->n_lines < MAX_LINES) {
		s->lines[s->n_lines++] = kept;
	}
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

struct response {
	char word[200];
	struct progress_outcome outcome;
	unsigned names[MAX_STEPS];
};

static void read_outcome(struct response *r)
{
	char *save = NULL, *word = strtok_r(r->word, ":", &save), *rest = strtok_r(NULL, ":", &save);
	struct progress_outcome *o = &r->outcome;
	*o = (struct progress_outcome){.type = OUTCOME_NONE, .steps = r->names};
	if (strcmp(word, "none") == 0) {
		o->type = OUTCOME_NO_BRANCHES;
	} else if (strcmp(word, "bad") == 0) {
		o->type = OUTCOME_MALFORMED;
	} else if (strcmp(word, "batches") == 0 || strcmp(word, "nobatches") == 0) {
		o->type = word[0] == 'n' ? OUTCOME_NO_BATCHES : OUTCOME_CREATE_BATCHES;
		o->worker = strcmp(rest, "-1") == 0 ? PROGRESS_EVERY : number(rest);
		o->n_instances = number(strtok_r(NULL, ":", &save));
	} else if (strcmp(word, "names") == 0) {
		o->type = OUTCOME_CREATE_STEPS;
		for (char *t = strtok_r(rest, ",", &save); t && o->n_steps < MAX_STEPS; t = strtok_r(NULL, ",", &save))
			r->names[o->n_steps++] = number(t);
	}
}

/* What a handler does in its attempt, counted from 1. */
static void respond(const struct world *w, unsigned no, unsigned attempt, struct response *r)
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
	struct response r;
	unsigned fence = progress_fence(w->p, no);
	respond(w, no, progress_attempts(w->p, no), &r);
	int rc;
	if (strcmp(r.word, "yield") == 0) {
		rc = progress_yield(w->p, no, fence++);
		snprintf(r.word, sizeof r.word, "ok");
		if (rc != 0)
			die("cannot yield", "");
	}
	if (strcmp(r.word, "retry") == 0 || strcmp(r.word, "delay") == 0) {
		rc = progress_fail(w->p, no, fence, true, r.word[0] == 'd');
		note(w, no, "handler_error");
	} else if (strcmp(r.word, "perm") == 0) {
		rc = progress_fail(w->p, no, fence, false, false);
		note(w, no, "permanent_error");
	} else {
		read_outcome(&r);
		rc = progress_succeed(w->p, no, fence, &r.outcome);
		note(w, no, rc == 1 ? "invalid_result" : "success");
	}
	if (rc < 0)
		die("the model refuses a result", strerror(-rc));
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
		else if ((s == STEP_ENQUEUED ? progress_claim(w->p, no, fence) : progress_retry_due(w->p, no, fence)) != 0)
			die("the model refuses a claim", "");
	}
}

static int act_on_step(struct world *w, const char *action, unsigned no, const char *word)
{
	struct response r;
	if (strcmp(action, "reset") == 0)
		return progress_reset(w->p, no);
	if (strcmp(action, "resolve") == 0)
		return progress_resolve(w->p, no, PROGRESS_EVERY);
	snprintf(r.word, sizeof r.word, "%s", word ? word : "ok");
	read_outcome(&r);
	return progress_complete(w->p, no, &r.outcome);
}

static int act(struct world *w, char *save)
{
	unsigned n;
	const char *action = strtok_r(NULL, " ", &save), *no = strtok_r(NULL, " ", &save);
	if (no)
		return act_on_step(w, action, number(no), strtok_r(NULL, " ", &save));
	if (strcmp(action, "retry") == 0)
		return progress_retry(w->p, &n);
	if (strcmp(action, "pause") == 0)
		return progress_pause(w->p);
	if (strcmp(action, "resume") == 0)
		return progress_resume(w->p, true);
	return progress_cancel(w->p);
}

/* ---- the end ---- */

static bool is_loose(const struct world *w, unsigned no)
{
	unsigned n = w->s->n, of = no % n;
	if (w->s->steps[of].kind != PROGRESS_WORKER || w->s->steps[of].strategy != PROGRESS_FAIL_FAST)
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
	for (unsigned no = 0; no < w->s->n; no++) {
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
	if (progress_new(s->steps, s->n, &w.p) != 0)
		die("the model refuses the template", "");
	for (unsigned i = 0; i < s->n_lines; i++) {
		char line[512], *save = NULL;
		snprintf(line, sizeof line, "%s", s->lines[i]);
		if (strcmp(strtok_r(line, " ", &save), "run") == 0) {
			w.epoch = number(save) % MAX_EPOCHS;
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
			die("memory", "");
		play(&script, order, out);
		fclose(out);
		if (!first) {
			first = text;
			continue;
		}
		if (strcmp(first, text) != 0) {
			printf("%s-- in another order:\n%s", first, text);
			die("the end depends on the order", "");
		}
		free(text);
	}
	fputs(first, stdout);
	free(first);
	return 0;
}
