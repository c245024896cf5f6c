/* Random templates that the daemon would take: decisions with parents, batches with their workers,
 * convergences of what went apart. */
#include <string.h>

#include "tests/sim/sim.h"

static bool chance(uint64_t *rng, unsigned percent)
{
	return rng_below(rng, 100) < percent;
}

static void add_edge(struct sim_template *t, unsigned from, unsigned to)
{
	if (t->edge[from][to])
		return;
	t->edge[from][to] = true;
	t->children[from][t->steps[from].n_children++] = to;
}

/* Some earlier step, rather a late one. */
static unsigned earlier(unsigned no, uint64_t *rng)
{
	unsigned span = chance(rng, 70) && no > 4 ? 4 : no;
	return no - 1 - rng_below(rng, span);
}

static void add_parents(struct sim_template *t, unsigned no, unsigned least, uint64_t *rng)
{
	unsigned n = no == 0 ? 0 : least + rng_below(rng, 3);
	for (unsigned i = 0; i < n; i++)
		add_edge(t, earlier(no, rng), no);
}

static bool has_child(const struct sim_template *t, unsigned no)
{
	return t->steps[no].n_children > 0;
}

/* A decision without a branch is no decision, so the next steps are rather its branches. */
static void prefer_decisions(struct sim_template *t, unsigned no, uint64_t *rng)
{
	for (unsigned i = no > 6 ? no - 6 : 0; i < no; i++)
		if (t->steps[i].kind == PROGRESS_DECISION && chance(rng, has_child(t, i) ? 30 : 90))
			add_edge(t, i, no);
}

/* Ends that nothing follows. */
static void gather_ends(struct sim_template *t, unsigned no, uint64_t *rng)
{
	for (unsigned i = 0; i < no; i++)
		if (!has_child(t, i) && chance(rng, 70))
			add_edge(t, i, no);
}

static void make_worker(struct sim_template *t, unsigned no, unsigned batchable, uint64_t *rng)
{
	t->steps[no].kind = PROGRESS_WORKER;
	t->steps[no].strategy = (enum progress_strategy)rng_below(rng, 3);
	t->steps[no].parallelism = chance(rng, 50) ? 0 : 1 + rng_below(rng, 3);
	add_edge(t, batchable, no);
	unsigned other = earlier(no, rng);
	if (chance(rng, 20) && t->steps[other].kind != PROGRESS_DECISION && t->steps[other].kind != PROGRESS_BATCHABLE)
		add_edge(t, other, no);
}

static enum progress_kind pick_kind(const struct sim_template *t, unsigned no, unsigned density, uint64_t *rng)
{
	if (!chance(rng, density))
		return PROGRESS_STANDARD;
	enum progress_kind kind = (enum progress_kind)(1 + rng_below(rng, 3));
	if (kind == PROGRESS_DECISION && no == 0)
		return PROGRESS_STANDARD;
	if (kind == PROGRESS_BATCHABLE && no + 2 >= t->n)
		return PROGRESS_STANDARD;
	return kind;
}

static void make_step(struct sim_template *t, unsigned no, enum progress_kind kind, uint64_t *rng)
{
	t->steps[no].kind = kind;
	if (kind == PROGRESS_CONVERGENCE && no > 0)
		gather_ends(t, no, rng);
	else if (kind == PROGRESS_STANDARD || kind == PROGRESS_DECISION || kind == PROGRESS_BATCHABLE)
		prefer_decisions(t, no, rng);
	add_parents(t, no, kind == PROGRESS_DECISION || kind == PROGRESS_CONVERGENCE, rng);
}

void sim_template_make(struct sim_template *t, uint64_t *rng)
{
	memset(t, 0, sizeof *t);
	t->n = 1 + rng_below(rng, SIM_STEPS);
	unsigned density = chance(rng, 15) ? 0 : 20 + rng_below(rng, 60), workers = 0, batchable = 0;
	for (unsigned no = 0; no < t->n; no++) {
		struct progress_step *s = &t->steps[no];
		s->max_attempts = 1 + rng_below(rng, 3);
		s->retryable = chance(rng, 85);
		if (workers > 0) {
			make_worker(t, no, batchable, rng);
			workers--;
			continue;
		}
		make_step(t, no, pick_kind(t, no, density, rng), rng);
		if (s->kind == PROGRESS_BATCHABLE) {
			batchable = no;
			workers = no + 2 < t->n && chance(rng, 25) ? 2 : 1;
		}
	}
	for (unsigned no = 0; no < t->n; no++)
		t->steps[no].children = t->children[no];
}

unsigned sim_child(const struct sim_template *t, unsigned no, enum progress_kind kind, uint64_t *rng)
{
	unsigned n = t->steps[no].n_children, first = n ? rng_below(rng, n) : 0;
	for (unsigned k = 0; k < n; k++) {
		unsigned c = t->children[no][(first + k) % n];
		if (t->steps[c].kind == kind)
			return c;
	}
	return t->n;
}

void sim_template_print(const struct sim_template *t, FILE *out)
{
	static const char *const kinds[] = {"standard", "decision", "convergence", "batchable", "worker"};
	static const char *const strategies[] = {"isolate", "continue_on_failure", "fail_fast"};
	for (unsigned no = 0; no < t->n; no++) {
		const struct progress_step *s = &t->steps[no];
		fprintf(out, "  step %u %s attempts=%u%s", no, kinds[s->kind], s->max_attempts,
			s->retryable ? "" : " not-retryable");
		if (s->kind == PROGRESS_WORKER)
			fprintf(out, " %s parallelism=%u", strategies[s->strategy], s->parallelism);
		fprintf(out, " after:");
		for (unsigned from = 0; from < no; from++)
			if (t->edge[from][no])
				fprintf(out, " %u", from);
		fprintf(out, "\n");
	}
}
