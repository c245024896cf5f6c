/* The graph: order and ancestors against slow and simple ones on random graphs, cycles, and sizes that only
 * linear work survives. */
#include <stdio.h>
#include <string.h>
#include "daemon/template/dag.h"
#include "tests/unit/template/util.h"

#define N_MAX 40

struct random_dag {
	uint32_t n;
	size_t n_edges;
	struct dag_edge edges[N_MAX * N_MAX];
	bool has[N_MAX][N_MAX]; /* [child][parent] */
};

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Edges go from earlier to later in a random permutation, so there is no cycle. */
static void make_random(struct random_dag *g, unsigned seed)
{
	memset(g, 0, sizeof *g);
	uint32_t rank[N_MAX] = {0};
	g->n = 1 + next_random(&seed) % N_MAX;
	unsigned density = 1 + next_random(&seed) % 60;
	for (uint32_t i = 0; i < g->n; i++) {
		uint32_t k = next_random(&seed) % (i + 1);
		rank[i] = rank[k];
		rank[k] = i;
	}
	for (uint32_t c = 0; c < g->n; c++)
		for (uint32_t p = 0; p < g->n; p++)
			if (rank[p] < rank[c] && next_random(&seed) % 100 < density) {
				g->has[c][p] = true;
				g->edges[g->n_edges++] = (struct dag_edge){.parent = p, .child = c};
			}
}

/* The first step in the file whose parents are all done, again and again. */
static void slow_order(const struct random_dag *g, uint32_t *order)
{
	bool done[N_MAX] = {false};
	for (uint32_t no = 0; no < g->n; no++) {
		for (uint32_t c = 0; c < g->n; c++) {
			bool ready = !done[c];
			for (uint32_t p = 0; p < g->n; p++)
				ready = ready && (!g->has[c][p] || done[p]);
			if (ready) {
				order[no] = c;
				done[c] = true;
				break;
			}
		}
	}
}

static size_t slow_ancestors(const struct random_dag *g, const struct dag *d, uint32_t no, size_t max,
                             uint32_t *ret, bool *ret_cut)
{
	unsigned distance[N_MAX];
	memset(distance, 0xff, sizeof distance);
	distance[no] = 0;
	for (uint32_t round = 0; round < g->n; round++)
		for (uint32_t c = 0; c < g->n; c++)
			for (uint32_t p = 0; p < g->n; p++)
				if (g->has[d->order[c]][d->order[p]] && distance[c] != UINT32_MAX &&
				    distance[c] + 1 < distance[p])
					distance[p] = distance[c] + 1;
	size_t n = 0;
	*ret_cut = false;
	for (unsigned far = 1; far < g->n; far++)
		for (uint32_t p = 0; p < g->n; p++) {
			if (distance[p] != far)
				continue;
			if (n < max)
				ret[n++] = p;
			else
				*ret_cut = true;
		}
	return n;
}

static void check_lists(const struct random_dag *g, const struct dag *d)
{
	for (uint32_t a = 0; a < g->n; a++) {
		uint32_t pk = d->parent_start[a], ck = d->child_start[a];
		for (uint32_t b = 0; b < g->n; b++) {
			if (g->has[d->order[a]][d->order[b]])
				ck_assert_uint_eq(d->parents[pk++], b);
			if (g->has[d->order[b]][d->order[a]])
				ck_assert_uint_eq(d->children[ck++], b);
		}
		ck_assert_uint_eq(pk, d->parent_start[a + 1]);
		ck_assert_uint_eq(ck, d->child_start[a + 1]);
	}
}

START_TEST(random_graphs)
{
	static struct random_dag g;
	for (unsigned seed = 1; seed <= 200; seed++) {
		make_random(&g, seed * 7919);
		struct dag d;
		ck_assert_int_eq(dag_build(&d, g.n, g.edges, g.n_edges), 0);
		uint32_t order[N_MAX], stamp[N_MAX] = {0};
		slow_order(&g, order);
		for (uint32_t no = 0; no < g.n; no++) {
			ck_assert_uint_eq(d.order[no], order[no]);
			ck_assert_uint_eq(d.no_of[order[no]], no);
		}
		check_lists(&g, &d);
		static const size_t caps[] = {1, 3, 10, 64};
		for (uint32_t no = 0; no < g.n; no++) {
			size_t max = caps[(no + seed) % 4];
			uint32_t got[DAG_ANCESTORS_MAX], want[DAG_ANCESTORS_MAX];
			bool cut = false, want_cut = false;
			size_t n = dag_ancestors(&d, no, stamp, got, max, &cut);
			ck_assert_uint_eq(n, slow_ancestors(&g, &d, no, max, want, &want_cut));
			ck_assert_mem_eq(got, want, n * sizeof *got);
			ck_assert_int_eq(cut, want_cut);
		}
		dag_done(&d);
	}
}
END_TEST

static void collect(void *arg, const uint32_t *steps, size_t n, const struct dag_edge *closing)
{
	struct buf *out = arg;
	ck_assert_uint_eq(closing->child, steps[0]);
	ck_assert_uint_eq(closing->parent, steps[n - 1]);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%u>", steps[i]);
	buf_append_char(out, ' ');
}

static const struct {
	uint32_t n;
	const char *edges; /* parent and child as digits, grouped by child */
	const char *cycles;
} knots[] = {
    {1, "00", "0> "},
    {2, "10 01", "0>1> "},
    {3, "20 01 12", "0>1>2> "},
    {5, "10 01 12 42 23 34", "0>1> 2>3>4> "},   /* one knot behind another */
    {5, "10 20 01 02 23 34", "0>1> "},          /* two cycles that share a step are one knot */
    {6, "10 21 02 53 34 45", "0>2>1> 3>4>5> "}, /* two knots apart */
    {4, "01 12 22 23", "2> "},                  /* before and behind a knot */
    {4, "30 10 01 12 23", "0>1>2>3> "},
};

START_TEST(cycles)
{
	struct dag_edge edges[16];
	size_t n = 0;
	for (const char *p = knots[_i].edges; *p; p += p[2] ? 3 : 2)
		edges[n++] =
		    (struct dag_edge){.parent = (uint32_t)(p[0] - '0'), .child = (uint32_t)(p[1] - '0')};
	struct dag d;
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(dag_build(&d, knots[_i].n, edges, n), 1);
	ck_assert_int_eq(dag_cycles(&d, edges, n, collect, &out), 0);
	ck_assert_str_eq(buf_text(&out), knots[_i].cycles);
	buf_done(&out);
	dag_done(&d);
}
END_TEST

/* Shapes of a size at which quadratic work would run into Check's time limit. */
#define BIG 100000u

static struct dag_edge *chain_edges(size_t *ret_n, bool closed)
{
	struct dag_edge *e = calloc(BIG, sizeof *e);
	ck_assert_ptr_nonnull(e);
	size_t n = 0;
	if (closed)
		e[n++] = (struct dag_edge){.parent = BIG - 1, .child = 0};
	for (uint32_t i = 1; i < BIG; i++)
		e[n++] = (struct dag_edge){.parent = i - 1, .child = i};
	*ret_n = n;
	return e;
}

static void ancestors_of_all(const struct dag *d)
{
	uint32_t *stamp = calloc(d->n, sizeof *stamp), got[DAG_ANCESTORS_MAX];
	for (uint32_t no = 0; no < d->n; no++) {
		bool cut = false;
		size_t n = dag_ancestors(d, no, stamp, got, DAG_ANCESTORS_MAX, &cut);
		ck_assert(n == DAG_ANCESTORS_MAX || !cut);
	}
	free(stamp);
}

START_TEST(long_chain)
{
	size_t n = 0;
	struct dag_edge *e = chain_edges(&n, false);
	struct dag d;
	ck_assert_int_eq(dag_build(&d, BIG, e, n), 0);
	ancestors_of_all(&d);
	dag_done(&d);
	free(e);
}
END_TEST

static void count_steps(void *arg, const uint32_t *steps, size_t n, const struct dag_edge *closing)
{
	(void)steps, (void)closing;
	*(size_t *)arg += n;
}

START_TEST(long_cycle)
{
	size_t n = 0, told = 0;
	struct dag_edge *e = chain_edges(&n, true);
	struct dag d;
	ck_assert_int_eq(dag_build(&d, BIG, e, n), 1);
	ck_assert_int_eq(dag_cycles(&d, e, n, count_steps, &told), 0);
	ck_assert_uint_eq(told, BIG);
	dag_done(&d);
	free(e);
}
END_TEST

/* Everyone waits for everyone in the first half, through one step in the middle. */
START_TEST(hourglass)
{
	uint32_t half = BIG / 2;
	struct dag_edge *e = calloc(BIG, sizeof *e);
	ck_assert_ptr_nonnull(e);
	size_t n = 0;
	for (uint32_t i = 0; i < half; i++)
		e[n++] = (struct dag_edge){.parent = i, .child = half};
	for (uint32_t i = half + 1; i < BIG; i++)
		e[n++] = (struct dag_edge){.parent = half, .child = i};
	struct dag d;
	ck_assert_int_eq(dag_build(&d, BIG, e, n), 0);
	ancestors_of_all(&d);
	dag_done(&d);
	free(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template dag");
	TCase *t = tcase_create("dag");
	tcase_add_test(t, random_graphs);
	tcase_add_loop_test(t, cycles, 0, sizeof knots / sizeof knots[0]);
	tcase_add_test(t, long_chain);
	tcase_add_test(t, long_cycle);
	tcase_add_test(t, hourglass);
	suite_add_tcase(s, t);
	return run_suite(s);
}
