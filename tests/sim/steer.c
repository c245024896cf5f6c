/* The model of one task, step by step: a command a line, what has become of the task after each as a line of JSON.
 * tests/integration/test_lockstep.py does the same to the engine's SQL functions and compares.
 *
 *	step KIND ATTEMPTS RETRYABLE STRATEGY PARALLELISM [PARENT]...   as in predict.c; no answer
 *	begin
 *	claim|due|succeed|fail|release|yield|reset|resolve|complete STEP [WORD]
 *	retry|pause|resume|cancel|resolve_task|fail_task
 *
 * WORD: of succeed and complete the outcome, of fail "retry", "delay" or "perm". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/words.h"

static struct words_shape shape;

static int on_task(struct progress *p, const char *command)
{
	unsigned n;
	static const struct {
		const char *name;
		int (*act)(struct progress *p);
	} acts[] = {{"pause", progress_pause},
		    {"cancel", progress_cancel},
		    {"resolve_task", progress_resolve_task},
		    {"fail_task", progress_fail_task}};
	for (unsigned i = 0; i < sizeof acts / sizeof acts[0]; i++)
		if (strcmp(command, acts[i].name) == 0)
			return acts[i].act(p);
	if (strcmp(command, "retry") == 0)
		return progress_retry(p, &n);
	if (strncmp(command, "resume", 6) == 0)
		return progress_resume(p, command[6] == '\0');
	words_die("unknown command", command);
}

static int on_step(struct progress *p, const char *command, unsigned no, const char *word)
{
	struct words_response r;
	unsigned fence = progress_has_step(p, no) ? progress_fence(p, no) : 0;
	static const struct {
		const char *name;
		int (*act)(struct progress *p, unsigned step, unsigned fence);
	} acts[] = {{"claim", progress_claim},
		    {"due", progress_retry_due},
		    {"release", progress_release},
		    {"yield", progress_yield}};
	for (unsigned i = 0; i < sizeof acts / sizeof acts[0]; i++)
		if (strcmp(command, acts[i].name) == 0)
			return acts[i].act(p, no, fence);
	if (strcmp(command, "fail") == 0)
		return progress_fail(p, no, fence, word[0] != 'p', word[0] == 'd');
	if (strcmp(command, "reset") == 0)
		return progress_reset(p, no);
	if (strcmp(command, "resolve") == 0)
		return progress_resolve(p, no, PROGRESS_EVERY);
	snprintf(r.word, sizeof r.word, "%s", word ? word : "ok");
	words_outcome(&r);
	return strcmp(command, "succeed") == 0 ? progress_succeed(p, no, fence, &r.outcome)
					       : progress_complete(p, no, &r.outcome);
}

static void tell_steps(const struct progress *p)
{
	const char *comma = "";
	printf("\"steps\": {");
	for (unsigned of = 0; of < shape.n; of++)
		for (unsigned k = 0; k <= progress_instances(p, of); k++) {
			unsigned no = of + k * shape.n;
			if (!progress_has_step(p, no))
				continue;
			enum step_state s = progress_step_state(p, no);
			printf("%s\"%u\": [\"%s\", %u, %u, %u, %u]", comma, no, step_states[s].name,
			       progress_attempts(p, no), progress_fence(p, no),
			       s == STEP_PENDING ? progress_pending_parents(p, no) : 0, progress_checkpoints(p, no));
			comma = ", ";
		}
	printf("}");
}

static void tell(const struct progress *p, int answer)
{
	struct progress_counts c = progress_counts(p);
	const char *comma = "";
	printf("{\"answer\": %d, \"task\": \"%s\", \"paused\": %d, \"open\": %u, \"active\": %u, \"waiting\": %u, \"failed\": %u, ",
	       answer, task_states[progress_task_state(p)].name, progress_is_paused(p), c.open_sinks, c.n_active,
	       c.n_waiting, c.n_failed);
	tell_steps(p);
	printf(", \"impossible\": [");
	for (unsigned no = 0; no < shape.n; no++)
		if (progress_existence(p, no) == PROGRESS_IMPOSSIBLE) {
			printf("%s%u", comma, no);
			comma = ", ";
		}
	printf("]}\n");
	fflush(stdout);
}

static int obey(struct progress **p, const char *command, char *save)
{
	if (strcmp(command, "begin") == 0)
		return progress_new(shape.steps, shape.n, p);
	const char *no = strtok_r(NULL, " ", &save);
	return no ? on_step(*p, command, words_number(no), strtok_r(NULL, " ", &save)) : on_task(*p, command);
}

int main(void)
{
	struct progress *p = NULL;
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, stdin) > 0) {
		char *save = NULL;
		line[strcspn(line, "\n")] = '\0';
		const char *command = strtok_r(line, " ", &save);
		if (strcmp(command, "step") == 0)
			words_step(&shape, &save);
		else
			tell(p, obey(&p, command, save));
	}
	free(line);
	progress_free(p);
	return 0;
}
