/* The simulator's command: seeded cases until so many events have been seen. A failure names its seed and
 * shows the template and a minimal sequence of events that leads there. */
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

static struct sim_run run; /* large */
static struct sim_template template;

struct result {
	bool failed;
	unsigned events;
};

/* Nothing is stranded: if all goes well from here, and operators mend what has failed, the task ends. */
static void drain(uint64_t *rng)
{
	struct sim_event e;
	unsigned left = 10 * SIM_NUMBERS;
	while (left > 0 && sim_choose_good(&run.naive, &e, rng)) {
		sim_run_event(&run, &e);
		left--;
	}
	bool over = task_states[run.naive.state].flags & STATE_FINISHED;
	if (!over) {
		snprintf(run.why, sizeof run.why, "the task is left %s", task_states[run.naive.state].name);
		longjmp(run.failed, 1);
	}
}

static struct result run_case(uint64_t seed)
{
	uint64_t rng = seed;
	sim_template_make(&template, &rng);
	struct sim_mood mood = {
		.luck = rng_below(&rng, 3) ? 80 + rng_below(&rng, 21) : rng_below(&rng, 100),
		.operators = rng_below(&rng, 2) ? rng_below(&rng, 20) : 0,
	};
	unsigned n = 20 + rng_below(&rng, 400);
	volatile bool failed = true;
	if (setjmp(run.failed) == 0) {
		sim_run_begin(&run, &template);
		for (unsigned i = 0; i < n && !(task_states[run.naive.state].flags & STATE_FINISHED); i++) {
			struct sim_event e = sim_choose(&run.naive, &mood, &rng);
			sim_run_event(&run, &e);
			if (run.naive.state == TASK_BLOCKED_BY_FAILURES && rng_below(&rng, 30) == 0)
				break;
		}
		drain(&rng);
		for (unsigned i = 0; i < 5; i++) { /* and nothing happens any more */
			struct sim_event e = sim_choose(&run.naive, &mood, &rng);
			sim_run_event(&run, &e);
		}
		failed = false;
	}
	sim_run_end(&run);
	return (struct result){failed, run.n_events};
}

/* ---- a failure, made small ---- */

/* Whether the last of these events fails, and none before. */
static bool still_fails(const struct sim_event *events, unsigned n)
{
	volatile bool failed = true;
	if (setjmp(run.failed) == 0) {
		sim_run_begin(&run, &template);
		for (unsigned i = 0; i < n; i++)
			sim_run_event(&run, &events[i]);
		failed = false;
	}
	sim_run_end(&run);
	return failed && run.n_events == n;
}

/* Leave out ever smaller pieces for as long as it goes on failing. */
static unsigned shrink(struct sim_event *events, unsigned n)
{
	static struct sim_event fewer[SIM_EVENTS];
	for (unsigned piece = n / 2; piece > 0; piece = piece > 1 ? (piece + 1) / 2 : 0)
		for (unsigned from = 0; from + piece < n;) {
			memcpy(fewer, events, from * sizeof *events);
			memcpy(fewer + from, events + from + piece, (n - from - piece) * sizeof *events);
			if (still_fails(fewer, n - piece))
				memcpy(events, fewer, (n -= piece) * sizeof *events);
			else
				from += piece;
		}
	return n;
}

static void print_event(const struct sim_event *e)
{
	printf("  %s step %u", sim_op_names[e->op], e->no);
	if (e->fence_off)
		printf(" fence%+d", e->fence_off);
	if (e->op == SIM_FAIL)
		printf("%s%s", e->retryable ? " retryable" : "", e->delayed ? " delayed" : "");
	if (e->outcome != OUTCOME_NONE)
		printf(" outcome %d names %#x worker %u instances %u", (int)e->outcome, e->names, e->worker,
		       e->n_instances);
	printf("\n");
}

static void report(uint64_t seed)
{
	static struct sim_event events[SIM_EVENTS];
	static char why[sizeof run.why];
	unsigned n = run.n_events < SIM_EVENTS ? run.n_events : SIM_EVENTS;
	memcpy(why, run.why, sizeof why);
	memcpy(events, run.events, n * sizeof *events);
	n = shrink(events, n);
	still_fails(events, n);
	printf("seed %" PRIu64 " fails: %s\n", seed, why);
	sim_template_print(&template, stdout);
	printf("%u events, the last of them fails: %s\n", n, run.why);
	for (unsigned i = 0; i < n; i++)
		print_event(&events[i]);
}

/* The cases are worth something: every state in which a task rests is well represented. */
static bool worth_something(unsigned long events)
{
	const enum task_state resting[] = {TASK_STEPS_IN_PROCESS, TASK_WAITING_FOR_RETRY, TASK_BLOCKED_BY_FAILURES,
					   TASK_COMPLETE, TASK_CANCELLED, TASK_RESOLVED_MANUALLY, TASK_ERROR};
	bool good = true;
	for (unsigned i = 0; i < sizeof resting / sizeof resting[0]; i++) {
		printf("  %lu in %s\n", run.visited[resting[i]], task_states[resting[i]].name);
		good = good && (events < 50000 || run.visited[resting[i]] > events / 50000);
	}
	return good;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"events", required_argument, NULL, 'e'},
						{"seed", required_argument, NULL, 's'},
						{NULL, 0, NULL, 0}};
	unsigned long wanted = 500000, events = 0, cases = 0;
	uint64_t only = rng_asked_seed(), seed = only ? only : 1;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'e')
			wanted = strtoul(optarg, NULL, 10);
		else if (c == 's')
			only = seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	clock_t began = clock();
	for (; events < wanted && (!only || seed == only); seed++, cases++) {
		struct result r = run_case(seed);
		events += r.events;
		if (r.failed) {
			report(seed);
			return 1;
		}
	}
	printf("%lu events in %lu cases, %.1f s\n", events, cases, (double)(clock() - began) / CLOCKS_PER_SEC);
	return only || worth_something(events) ? 0 : 1;
}
