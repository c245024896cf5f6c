/* The drawing for terminals: one row a step, in topological order, with lanes at the left. A lane is a column
 * in which an edge runs down to the step it leads to; a step that several edges lead to has one lane, which
 * the others join. So the lanes of a row are the steps that are waiting, and what stands side by side runs
 * side by side:
 *
 *     ●      validate_order
 *     ├─┬─╮
 *     ● │ │  check_fraud
 *     │ ● │  reserve_stock
 *     │ │ ●  price_order
 *     ├─┴─╯
 *     ●      charge_payment
 *
 * A row that would need more than GRAPH_MAX_LANES lanes makes the whole drawing a list. */
#include "daemon/template/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY UINT32_MAX
#define LIST_PARENTS 5

static const char lane_colour[] = "90", name_colour[] = "1";

struct lanes {
	uint32_t to[GRAPH_MAX_LANES];    /* no of the step it leads to, or EMPTY */
	size_t width;                    /* columns in use, empty ones between included */
	bool below_end[GRAPH_MAX_LANES]; /* in the row above a step without children stands here */
};

struct drawing {
	const struct template *t;
	const struct graph_state *states;
	bool colour;
	struct buf *out;
	struct lanes lanes;
	const char *ansi;   /* the colour that is on */
	size_t text_column; /* 0 in the first pass, which only measures */
	size_t widest;
	size_t name_width, state_width;
};

/* ---- lanes ---- */

static size_t lane_of(const struct lanes *l, uint32_t no)
{
	for (size_t i = 0; i < l->width; i++)
		if (l->to[i] == no)
			return i;
	return GRAPH_MAX_LANES;
}

/* The first empty column from `from` on, made to lead to `no`; GRAPH_MAX_LANES if there is none. */
static size_t take_lane(struct lanes *l, size_t from, uint32_t no)
{
	size_t i = from;
	while (i < l->width && l->to[i] != EMPTY)
		i++;
	if (i >= GRAPH_MAX_LANES)
		return GRAPH_MAX_LANES;
	l->to[i] = no;
	if (i >= l->width)
		l->width = i + 1;
	return i;
}

static void drop_lane(struct lanes *l, size_t i)
{
	l->to[i] = EMPTY;
	while (l->width > 0 && l->to[l->width - 1] == EMPTY)
		l->width--;
}

/* ---- rows ---- */

/* `ansi` NULL: the terminal's own colour. */
static void set_colour(struct drawing *d, const char *ansi)
{
	if (!d->colour || d->ansi == ansi)
		return;
	if (d->ansi)
		buf_append_str(d->out, "\033[0m");
	if (ansi)
		buf_printf(d->out, "\033[%sm", ansi);
	d->ansi = ansi;
}

static void paint(struct drawing *d, const char *ansi, const char *text)
{
	if (strcmp(text, " ") != 0)
		set_colour(d, ansi);
	buf_append_str(d->out, text);
}

static void blanks(struct drawing *d, size_t n)
{
	while (n-- > 0)
		buf_append_char(d->out, ' ');
}

static size_t columns(const char *text)
{
	size_t n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xC0) != 0x80;
	return n;
}

/* What runs through a column in the row that joins a step to its children. */
enum {
	UP = 1,   /* comes from above */
	DOWN = 2, /* goes on below */
	LEFT = 4,
	RIGHT = 8,
};

static const char *const strokes[16] = {
    [0] = " ",
    [UP | DOWN] = "│",
    [LEFT | RIGHT] = "─",
    [UP | RIGHT] = "╰",
    [UP | LEFT] = "╯",
    [DOWN | RIGHT] = "╭",
    [DOWN | LEFT] = "╮",
    [UP | DOWN | RIGHT] = "├",
    [UP | DOWN | LEFT] = "┤",
    [UP | LEFT | RIGHT] = "┴",
    [DOWN | LEFT | RIGHT] = "┬",
    [UP | DOWN | LEFT | RIGHT] = "┼",
};

static void put_lanes(struct drawing *d, size_t step_lane, const char *glyph, const char *ansi)
{
	for (size_t i = 0; i < d->lanes.width; i++) {
		if (i > 0)
			buf_append_char(d->out, ' ');
		if (i == step_lane)
			paint(d, ansi, glyph);
		else
			paint(d, lane_colour, d->lanes.to[i] == EMPTY ? " " : "│");
	}
}

static void end_row(struct drawing *d)
{
	while (d->out->len > 0 && d->out->data[d->out->len - 1] == ' ')
		d->out->len--;
	set_colour(d, NULL);
	buf_append_char(d->out, '\n');
}

/* A cell of outside text, without control characters. */
static void put_cell(struct drawing *d, const char *ansi, const char *text, size_t width)
{
	struct buf clean;
	buf_init(&clean, 0);
	for (const char *p = text; *p; p++)
		buf_append_char(&clean, (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
	const char *shown = buf_text(&clean);
	if (!shown)
		d->out->failed = d->out->failed ? d->out->failed : -ENOMEM;
	else
		paint(d, ansi, shown);
	size_t used = columns(text);
	blanks(d, used < width ? width - used : 0);
	buf_done(&clean);
}

static const char *word_for(const struct drawing *d, uint32_t no)
{
	const char *state = d->states ? d->states[no].state : NULL;
	const char *type = step_type_name(d->t, no);
	if (d->states)
		return state ? state : "";
	return strcmp(type, "standard") == 0 ? "" : type;
}

static void put_text(struct drawing *d, uint32_t no)
{
	const struct graph_state *st = d->states ? &d->states[no] : NULL;
	const struct state_look *look = state_look(st ? st->state : NULL);
	put_cell(d, name_colour, template_step_name(d->t, no), d->name_width + 2);
	put_cell(d, look->ansi, word_for(d, no), d->state_width ? d->state_width + 2 : 0);
	if (st && st->label)
		put_cell(d, lane_colour, st->label, 0);
}

static void step_row(struct drawing *d, uint32_t no, size_t lane)
{
	const struct state_look *look = state_look(d->states ? d->states[no].state : NULL);
	if (d->lanes.width > d->widest)
		d->widest = d->lanes.width;
	if (d->text_column == 0)
		return;
	put_lanes(d, lane, look->glyph, look->ansi);
	blanks(d, d->text_column - (2 * d->lanes.width - 1));
	put_text(d, no);
	end_row(d);
}

/* `strokes_at` has a set of directions for each column. */
static void join_row(struct drawing *d, const unsigned char *strokes_at, size_t width)
{
	if (width > d->widest)
		d->widest = width;
	if (d->text_column == 0)
		return;
	for (size_t i = 0; i < width; i++) {
		if (i > 0)
			paint(d, lane_colour, strokes_at[i - 1] & RIGHT || strokes_at[i] & LEFT ? "─" : " ");
		unsigned s = strokes_at[i];
		paint(d, lane_colour, strokes[s & 16 ? UP | DOWN : s & 15]);
	}
	end_row(d);
}

/* ---- from a step to its children ---- */

#define PASSED 16 /* a lane that has nothing to do with the line that crosses it */

struct join {
	unsigned char at[GRAPH_MAX_LANES];
	size_t first, last; /* columns that the horizontal line spans */
	size_t n;           /* ends besides the step's own column */
};

static void reach(struct join *j, size_t lane, unsigned char how)
{
	j->at[lane] |= how;
	if (lane < j->first)
		j->first = lane;
	if (lane > j->last)
		j->last = lane;
}

/* Give each child of `no`, which stood in `lane`, its lane. False if there are not enough. */
static bool open_lanes(struct drawing *d, uint32_t no, size_t lane, struct join *j)
{
	const struct dag *g = &d->t->dag;
	bool down = false;
	drop_lane(&d->lanes, lane);
	for (uint32_t k = g->child_start[no]; k < g->child_start[no + 1]; k++) {
		size_t at = lane_of(&d->lanes, g->children[k]);
		if (at < GRAPH_MAX_LANES) {
			reach(j, at, UP | DOWN);
			j->n++;
			continue;
		}
		at = take_lane(&d->lanes, lane, g->children[k]);
		if (at == GRAPH_MAX_LANES)
			return false;
		reach(j, at, DOWN);
		if (at == lane)
			down = true;
		else
			j->n++;
	}
	if (down || j->n > 0)
		reach(j, lane, UP);
	return true;
}

static void draw_join(struct drawing *d, struct join *j, size_t width_before)
{
	size_t width = width_before > d->lanes.width ? width_before : d->lanes.width;
	for (size_t i = 0; i < width; i++) {
		bool inside = i >= j->first && i <= j->last;
		if (j->at[i] == 0 && i < d->lanes.width && d->lanes.to[i] != EMPTY)
			j->at[i] = inside ? PASSED | LEFT | RIGHT : UP | DOWN;
		else if (inside)
			j->at[i] |= (unsigned char)((i > j->first ? LEFT : 0) | (i < j->last ? RIGHT : 0));
	}
	join_row(d, j->at, width);
}

/* A root below a step that ends would look like its child: leave a row between them. */
static void part_from_end(struct drawing *d, size_t lane)
{
	if (d->lanes.below_end[lane] && d->text_column > 0) {
		put_lanes(d, lane, " ", NULL);
		end_row(d);
	}
}

static bool draw_step(struct drawing *d, uint32_t no)
{
	size_t lane = lane_of(&d->lanes, no);
	if (lane == GRAPH_MAX_LANES) {
		lane = take_lane(&d->lanes, 0, no);
		if (lane == GRAPH_MAX_LANES)
			return false;
		part_from_end(d, lane);
	}
	memset(d->lanes.below_end, 0, sizeof d->lanes.below_end);
	step_row(d, no, lane);
	struct join j = {.first = GRAPH_MAX_LANES};
	size_t width_before = d->lanes.width;
	if (!open_lanes(d, no, lane, &j))
		return false;
	d->lanes.below_end[lane] = d->t->dag.child_start[no] == d->t->dag.child_start[no + 1];
	if (j.n > 0)
		draw_join(d, &j, width_before);
	return true;
}

static bool draw_all(struct drawing *d)
{
	d->lanes = (struct lanes){.width = 0};
	for (uint32_t no = 0; no < d->t->dag.n; no++)
		if (!draw_step(d, no))
			return false;
	return true;
}

/* ---- what is too wide for lanes ---- */

static void list_step(struct drawing *d, uint32_t no)
{
	const struct dag *g = &d->t->dag;
	const struct state_look *look = state_look(d->states ? d->states[no].state : NULL);
	paint(d, look->ansi, look->glyph);
	buf_append_str(d->out, "  ");
	put_text(d, no);
	uint32_t first = g->parent_start[no], n = g->parent_start[no + 1] - first;
	for (uint32_t k = 0; k < n && k < LIST_PARENTS; k++) {
		paint(d, NULL, k ? ", " : "<- ");
		paint(d, NULL, template_step_name(d->t, g->parents[first + k]));
	}
	if (n > LIST_PARENTS)
		buf_printf(d->out, " and %u more", n - LIST_PARENTS);
	end_row(d);
}

static void measure(struct drawing *d)
{
	for (uint32_t no = 0; no < d->t->dag.n; no++) {
		size_t name = columns(template_step_name(d->t, no)), word = columns(word_for(d, no));
		d->name_width = name > d->name_width ? name : d->name_width;
		d->state_width = word > d->state_width ? word : d->state_width;
	}
}

int graph_text(const struct template *t, const struct graph_state *states, bool colour, struct buf *out)
{
	struct drawing d = {.t = t, .states = states, .colour = colour, .out = out};
	measure(&d);
	if (draw_all(&d)) {
		d.text_column = 2 * d.widest + 1;
		draw_all(&d);
	} else {
		for (uint32_t no = 0; no < t->dag.n; no++)
			list_step(&d, no);
	}
	return out->failed;
}
