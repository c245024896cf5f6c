/* The drawings: some to the letter, and many random ones read back by following the lines. */
#include <errno.h>
#include <string.h>
#include "tests/unit/template/util.h"

static char *draw(const char *source, enum graph_format fmt, const struct graph_state *states, bool colour)
{
	struct template *t = parse_good(source, &(struct template_opts){.draft = true});
	struct buf out;
	buf_init(&out, 0);
	ck_assert_int_eq(template_graph(t, fmt, states, colour, &out), 0);
	template_free(t);
	return buf_take_text(&out);
}

#define STEP(name, deps) "- {name: " name ", handler: {callable: c}, depends_on: [" deps "]}\n"

static const char order_fulfilment[] =
    HEAD "steps:\n" STEP("receive_order", "") STEP("validate_order", "receive_order")
        STEP("check_fraud", "validate_order") STEP("reserve_stock", "validate_order")
            STEP("price_order", "validate_order") STEP("charge_payment", "check_fraud, price_order")
                STEP("pick_items", "reserve_stock, charge_payment") STEP("book_carrier", "reserve_stock")
                    STEP("pack_parcel", "pick_items") STEP("print_label", "book_carrier, pack_parcel")
                        STEP("ship", "print_label") STEP("notify_customer", "charge_payment, ship");

static const struct {
	const char *source, *drawing;
} drawings[] = {
    {order_fulfilment, "●        receive_order\n"
                       "●        validate_order\n"
                       "├─┬─╮\n"
                       "● │ │    check_fraud\n"
                       "│ ● │    reserve_stock\n"
                       "│ ├─│─╮\n"
                       "│ │ ● │  price_order\n"
                       "├─│─╯ │\n"
                       "● │   │  charge_payment\n"
                       "├─┤   │\n"
                       "│ ●   │  pick_items\n"
                       "│ │   ●  book_carrier\n"
                       "│ ●   │  pack_parcel\n"
                       "│ ╰───┤\n"
                       "│     ●  print_label\n"
                       "│     ●  ship\n"
                       "├─────╯\n"
                       "●        notify_customer\n"},
    {HEAD "steps:\n" STEP("a", "") STEP("b", "") STEP("c", "b") STEP("d", ""), "●  a\n"
                                                                               "\n"
                                                                               "●  b\n"
                                                                               "●  c\n"
                                                                               "\n"
                                                                               "●  d\n"},
    {HEAD "steps:\n" STEP("a", "") STEP("b", "a") STEP("c", "a, b") STEP("d", "a, b, c"), "●      a\n"
                                                                                          "├─┬─╮\n"
                                                                                          "● │ │  b\n"
                                                                                          "╰─┼─┤\n"
                                                                                          "  ● │  c\n"
                                                                                          "  ╰─┤\n"
                                                                                          "    ●  d\n"},
    {HEAD "steps:\n"
          "- {name: look, handler: {callable: c}}\n"
          "- {name: choose, type: decision, handler: {callable: c}, depends_on: [look]}\n",
     "●  look\n"
     "●  choose  decision\n"},
};

START_TEST(text)
{
	char *drawing = draw(drawings[_i].source, GRAPH_TEXT, NULL, false);
	ck_assert_str_eq(drawing, drawings[_i].drawing);
	free(drawing);
}
END_TEST

static const struct graph_state some_states[] = {
    {"complete", "1.2 ms"}, {"error", "2 tries\nlast: \033[31m"}, {"in_progress", NULL}, {NULL, "later"}};

static const char diamond[] =
    HEAD "steps:\n" STEP("a", "") STEP("\"b \\\"x\\\"\"", "a") STEP("c", "a") STEP("d", "\"b \\\"x\\\"\", c");

START_TEST(text_with_states)
{
	char *drawing = draw(diamond, GRAPH_TEXT, some_states, false);
	ck_assert_str_eq(drawing, "●    a      complete     1.2 ms\n"
	                          "├─╮\n"
	                          "✗ │  b \"x\"  error        2 tries last:  [31m\n"
	                          "│ ◐  c      in_progress\n"
	                          "├─╯\n"
	                          "●    d                   later\n");
	free(drawing);
	drawing =
	    draw(HEAD "steps:\n" STEP("a", "") STEP("b", "a") STEP("c", "a"), GRAPH_TEXT, some_states, true);
	ck_assert_str_eq(
	    drawing,
	    "\033[32m●    \033[0m\033[1ma  \033[0m\033[32mcomplete     \033[0m\033[90m1.2 ms\033[0m\n"
	    "\033[90m├─╮\033[0m\n"
	    "\033[1;31m✗ \033[0m\033[90m│  \033[0m\033[1mb  \033[0m\033[1;31merror        "
	    "\033[0m\033[90m2 tries last:  [31m\033[0m\n"
	    "  \033[1;34m◐  \033[0m\033[1mc  \033[0m\033[1;34min_progress\033[0m\n");
	free(drawing);
}
END_TEST

START_TEST(mermaid)
{
	char *drawing = draw(diamond, GRAPH_MERMAID, some_states, false);
	ck_assert_str_eq(drawing, "flowchart TD\n"
	                          "  s0[\"a<br/>complete, 1.2 ms\"]\n"
	                          "  s1[\"b #34;x#34;<br/>error, 2 tries last:  [31m\"]\n"
	                          "  s2[\"c<br/>in_progress\"]\n"
	                          "  s3[\"d<br/>later\"]\n"
	                          "  s0 --> s1\n"
	                          "  s0 --> s2\n"
	                          "  s1 --> s3\n"
	                          "  s2 --> s3\n");
	free(drawing);
	drawing = draw(diamond, GRAPH_MERMAID, some_states, true);
	ck_assert_ptr_nonnull(strstr(drawing, "  s0[\"a<br/>complete, 1.2 ms\"]:::complete\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s3[\"d<br/>later\"]\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  classDef complete fill:#"));
	free(drawing);
}
END_TEST

START_TEST(dot)
{
	char *drawing = draw(diamond, GRAPH_DOT, NULL, true);
	ck_assert_ptr_nonnull(strstr(drawing, "digraph \"n/t\" {\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s1 [label=\"b \\\"x\\\"\"];\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s0 -> s1;\n  s0 -> s2;\n  s1 -> s3;\n  s2 -> s3;\n}\n"));
	free(drawing);
	drawing = draw(diamond, GRAPH_DOT, some_states, true);
	ck_assert_ptr_nonnull(strstr(drawing, "  s0 [label=\"a\\ncomplete, 1.2 ms\", fillcolor=\"#"));
	free(drawing);
}
END_TEST

START_TEST(types_look_different)
{
	static const char source[] =
		HEAD "steps:\n"
		     "- {name: a, handler: {callable: c}}\n"
		     "- {name: d, type: decision, handler: {callable: c}, depends_on: [a]}\n"
		     "- {name: b, type: batchable, handler: {callable: c}, depends_on: [d]}\n"
		     "- {name: w, type: batch_worker, handler: {callable: c}, depends_on: [b]}\n"
		     "- {name: e, type: deferred_convergence, handler: {callable: c}, depends_on: [w]}\n";
	char *drawing = draw(source, GRAPH_MERMAID, NULL, false);
	ck_assert_str_eq(drawing,
	                 "flowchart TD\n  s0[\"a\"]\n  s1{\"d\"}\n  s2[/\"b\"/]\n  s3[[\"w\"]]\n  s4{{\"e\"}}\n"
	                 "  s0 --> s1\n  s1 -.-> s2\n  s2 ==> s3\n  s3 --> s4\n");
	free(drawing);
	drawing = draw(source, GRAPH_DOT, NULL, false);
	ck_assert_ptr_nonnull(strstr(drawing, "  s1 [label=\"d\", shape=diamond, style=filled];\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s2 [label=\"b\", shape=parallelogram, style=filled];\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s3 [label=\"w\", shape=box3d, style=filled];\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "  s4 [label=\"e\", shape=hexagon, style=filled];\n"));
	ck_assert_ptr_nonnull(
		strstr(drawing, "  s0 -> s1;\n  s1 -> s2 [style=dashed];\n  s2 -> s3 [style=bold];\n  s3 -> s4;\n}\n"));
	free(drawing);
}
END_TEST

/* ---- reading a drawing back ---- */

#define N 14
#define ROWS (3 * N)
#define COLS 64

enum { UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8, STEP_HERE = 16 };

static const struct {
	const char *glyph;
	unsigned char strokes;
} glyphs[] = {
    {" ", 0},
    {"│", UP | DOWN},
    {"─", LEFT | RIGHT},
    {"╰", UP | RIGHT},
    {"╯", UP | LEFT},
    {"╭", DOWN | RIGHT},
    {"╮", DOWN | LEFT},
    {"├", UP | DOWN | RIGHT},
    {"┤", UP | DOWN | LEFT},
    {"┴", UP | LEFT | RIGHT},
    {"┬", DOWN | LEFT | RIGHT},
    {"┼", UP | DOWN | LEFT | RIGHT},
    {"●", STEP_HERE},
};

struct grid {
	unsigned char at[ROWS][COLS];
	unsigned rows;
	unsigned step_row[N], step_col[N]; /* by the digit pair in the name */
	unsigned step_at[ROWS];
};

static size_t read_cell(const char *p, unsigned char *ret)
{
	for (size_t i = 0; i < sizeof glyphs / sizeof glyphs[0]; i++) {
		size_t n = strlen(glyphs[i].glyph);
		if (strncmp(p, glyphs[i].glyph, n) == 0) {
			*ret = glyphs[i].strokes;
			return n;
		}
	}
	return 0;
}

static void read_grid(struct grid *g, const char *p)
{
	memset(g, 0, sizeof *g);
	for (; *p; g->rows++) {
		ck_assert_uint_lt(g->rows, ROWS);
		unsigned col = 0, step_col = 0;
		unsigned char cell = 0;
		for (size_t n = 0; (n = read_cell(p, &cell)) > 0; p += n) {
			ck_assert_uint_lt(col, COLS);
			if (cell & STEP_HERE)
				step_col = col;
			g->at[g->rows][col++] = cell;
		}
		g->step_at[g->rows] = N;
		if (*p == 's') {
			unsigned step = (unsigned)(p[1] - '0') * 10 + (unsigned)(p[2] - '0');
			g->step_row[step] = g->rows;
			g->step_col[step] = step_col;
			g->step_at[g->rows] = step;
			p += 3;
		}
		ck_assert_int_eq(*p, '\n');
		p++;
	}
}

/* The step that a lane leads to from here on down. */
static unsigned follow_down(const struct grid *g, unsigned row, unsigned col)
{
	for (; row < g->rows; row++) {
		if (g->at[row][col] & STEP_HERE)
			return g->step_at[row];
		ck_assert_int_eq(g->at[row][col] & (UP | DOWN), UP | DOWN);
	}
	ck_abort_msg("a lane leads nowhere");
	return N;
}

static void follow_sideways(const struct grid *g, unsigned row, unsigned col, int step, bool *children)
{
	unsigned out = step < 0 ? LEFT : RIGHT, in = step < 0 ? RIGHT : LEFT;
	bool on = g->at[row][col] & out;
	while (on) {
		col = (unsigned)((int)col + step);
		unsigned char cell = g->at[row][col];
		if (cell == (UP | DOWN))
			continue; /* crossed */
		ck_assert(cell & in);
		if (cell & DOWN)
			children[follow_down(g, row + 1, col)] = true;
		on = cell & out;
	}
}

static void children_drawn(const struct grid *g, unsigned step, bool *children)
{
	unsigned row = g->step_row[step] + 1, col = g->step_col[step];
	unsigned char below = row < g->rows ? g->at[row][col] : 0;
	bool join = row < g->rows && g->step_at[row] == N && below & UP;
	if (!join) {
		if (below & STEP_HERE)
			children[g->step_at[row]] = true;
		else if (below & UP)
			children[follow_down(g, row, col)] = true;
		return;
	}
	if (below & DOWN)
		children[follow_down(g, row + 1, col)] = true;
	follow_sideways(g, row, col, -1, children);
	follow_sideways(g, row, col, 1, children);
}

START_TEST(random_drawings_read_back)
{
	unsigned seed = (unsigned)_i * 2654435761u + 1;
	for (int round = 0; round < 20; round++) {
		bool has[N][N] = {{false}};
		struct buf b;
		buf_init(&b, 0);
		buf_append_str(&b, HEAD "steps:\n");
		unsigned density = 5 + (seed >> 9) % 50;
		for (unsigned c = 0; c < N; c++) {
			buf_printf(&b, "- {name: s%02u, handler: {callable: c}, depends_on: [", c);
			const char *comma = "";
			for (unsigned p = 0; p < c; p++) {
				seed = seed * 1664525u + 1013904223u;
				has[p][c] = (seed >> 8) % 100 < density;
				if (has[p][c])
					buf_printf(&b, "%ss%02u", comma, p);
				comma = has[p][c] ? ", " : comma;
			}
			buf_append_str(&b, "]}\n");
		}
		char *drawing = draw(buf_text(&b), GRAPH_TEXT, NULL, false);
		struct grid g;
		read_grid(&g, drawing);
		for (unsigned p = 0; p < N; p++) {
			bool drawn[N + 1] = {false};
			children_drawn(&g, p, drawn);
			ck_assert_msg(memcmp(drawn, has[p], sizeof has[p]) == 0, "s%02u\n%s\n%s", p, drawing,
			              buf_text(&b));
		}
		free(drawing);
		buf_done(&b);
	}
}
END_TEST

static char *fan_out(unsigned width)
{
	struct buf b;
	buf_init(&b, 0);
	buf_append_str(&b, HEAD "steps:\n- {name: a, handler: {callable: c}}\n");
	for (unsigned i = 0; i < width; i++)
		buf_printf(&b, "- {name: s%u, handler: {callable: c}, depends_on: [a]}\n", i);
	buf_append_str(&b, "- {name: z, handler: {callable: c}, depends_on: [a");
	for (unsigned i = 0; i < width; i++)
		buf_printf(&b, ", s%u", i);
	buf_append_str(&b, "]}\n");
	char *drawing = draw(buf_text(&b), GRAPH_TEXT, NULL, false);
	buf_done(&b);
	return drawing;
}

START_TEST(too_wide_becomes_a_list)
{
	char *drawing = fan_out(GRAPH_MAX_LANES - 1);
	ck_assert_ptr_nonnull(strstr(drawing, "╮"));
	free(drawing);
	drawing = fan_out(GRAPH_MAX_LANES);
	ck_assert_ptr_null(strstr(drawing, "╮"));
	ck_assert_ptr_nonnull(strstr(drawing, "●  s0   <- a\n"));
	ck_assert_ptr_nonnull(strstr(drawing, "●  z    <- a, s0, s1, s2, s3 and 20 more\n"));
	free(drawing);
}
END_TEST

START_TEST(output_is_bounded)
{
	static const enum graph_format formats[] = {GRAPH_TEXT, GRAPH_MERMAID, GRAPH_DOT};
	struct template *t = parse_good(order_fulfilment, NULL);
	struct buf out;
	buf_init(&out, 100);
	for (size_t i = 0; i < 3; i++) {
		buf_reset(&out);
		ck_assert_int_eq(template_graph(t, formats[i], NULL, true, &out), -EMSGSIZE);
	}
	buf_done(&out);
	template_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template graph");
	TCase *t = tcase_create("graph");
	tcase_add_loop_test(t, text, 0, sizeof drawings / sizeof drawings[0]);
	tcase_add_test(t, text_with_states);
	tcase_add_test(t, mermaid);
	tcase_add_test(t, dot);
	tcase_add_test(t, types_look_different);
	tcase_add_loop_test(t, random_drawings_read_back, 0, 10);
	tcase_add_test(t, too_wide_becomes_a_list);
	tcase_add_test(t, output_is_bounded);
	suite_add_tcase(s, t);
	return run_suite(s);
}
