/* Drawings for other programs, Mermaid and DOT, and the looks of the states, which the drawing for terminals
 * (graph_text.c) shares. */
#include "daemon/template/graph.h"

#include <stdio.h>
#include <string.h>

#include "daemon/template/fields.h"

const struct state_look state_looks[] = {
    {"pending", "○", "90", "#eceff1", "#90a4ae"},
    {"enqueued", "◌", "36", "#e0f7fa", "#00acc1"},
    {"in_progress", "◐", "1;34", "#bbdefb", "#1e88e5"},
    {"enqueued_for_orchestration", "◑", "34", "#bbdefb", "#1e88e5"},
    {"enqueued_as_error_for_orchestration", "◑", "33", "#ffe0b2", "#fb8c00"},
    {"waiting_for_retry", "↻", "33", "#ffe0b2", "#fb8c00"},
    {"complete", "●", "32", "#c8e6c9", "#43a047"},
    {"error", "✗", "1;31", "#ffcdd2", "#e53935"},
    {"cancelled", "⊘", "35", "#e1bee7", "#8e24aa"},
    {"resolved_manually", "◆", "32", "#dcedc8", "#7cb342"},
    {NULL, "●", NULL, "#ffffff", "#607d8b"},
};

const struct state_look *state_look(const char *state)
{
	const struct state_look *look = state_looks;
	while (look->state && (!state || strcmp(look->state, state) != 0))
		look++;
	return look;
}

const char *step_type_name(const struct template *t, uint32_t no)
{
	const char *type = ynode_str(field_get(template_step(t, no), step_fields, "type"));
	return type ? type : "standard";
}

/* Shapes by step type; the last is for the rest. */
static const struct {
	const char *type;
	const char *mermaid_open, *mermaid_close;
	const char *dot;
} shapes[] = {
    {"decision", "{", "}", "diamond"},
    {"deferred_convergence", "{{", "}}", "hexagon"},
    {"batchable", "[/", "/]", "parallelogram"},
    {"batch_worker", "[[", "]]", "box3d"},
    {"standard", "[", "]", "box"},
};

static size_t shape_of(const struct template *t, uint32_t no)
{
	const char *type = step_type_name(t, no);
	size_t i = 0;
	while (i + 1 < sizeof shapes / sizeof shapes[0] && strcmp(shapes[i].type, type) != 0)
		i++;
	return i;
}

/* Text in the escapes of the format; control characters become blanks. */
static void put_escaped(struct buf *out, const char *text, enum graph_format fmt)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool special = strchr(fmt == GRAPH_DOT ? "\"\\" : "\"#&<>;", c) != NULL;
		if (c < 0x20 || c == 0x7f)
			buf_append_char(out, ' ');
		else if (special && fmt == GRAPH_DOT)
			buf_append(out, (const char[]){'\\', *text}, 2);
		else if (special)
			buf_printf(out, "#%u;", (unsigned)c);
		else
			buf_append_char(out, *text);
	}
}

/* Name, and below it state and label. */
static void put_label(struct buf *out, const struct template *t, uint32_t no, const struct graph_state *st,
                      enum graph_format fmt)
{
	const char *line_break = fmt == GRAPH_DOT ? "\\n" : "<br/>";
	put_escaped(out, template_step_name(t, no), fmt);
	const char *parts[] = {st ? st->state : NULL, st ? st->label : NULL};
	for (size_t i = 0; i < 2; i++) {
		if (!parts[i])
			continue;
		buf_append_str(out, i == 1 && parts[0] ? ", " : line_break);
		put_escaped(out, parts[i], fmt);
	}
}

/* What a decision may choose is dashed, what a batch makes many of is thick; the last is for the rest. */
static const struct {
	const char *parent, *child; /* types, NULL: any */
	const char *mermaid, *dot;
} edge_looks[] = {
    {"decision", NULL, "-.->", " [style=dashed]"},
    {"batchable", "batch_worker", "==>", " [style=bold]"},
    {NULL, NULL, "-->", ""},
};

static bool is_type(const struct template *t, uint32_t no, const char *type)
{
	return !type || strcmp(step_type_name(t, no), type) == 0;
}

static void put_edge(struct buf *out, const struct template *t, uint32_t parent, uint32_t child,
                     enum graph_format fmt)
{
	size_t i = 0;
	while (!is_type(t, parent, edge_looks[i].parent) || !is_type(t, child, edge_looks[i].child))
		i++;
	if (fmt == GRAPH_DOT)
		buf_printf(out, "  s%u -> s%u%s;\n", parent, child, edge_looks[i].dot);
	else
		buf_printf(out, "  s%u %s s%u\n", parent, edge_looks[i].mermaid, child);
}

static void put_edges(struct buf *out, const struct template *t, enum graph_format fmt)
{
	for (uint32_t no = 0; no < t->dag.n; no++)
		for (uint32_t k = t->dag.child_start[no]; k < t->dag.child_start[no + 1]; k++)
			put_edge(out, t, no, t->dag.children[k], fmt);
}

static void mermaid(const struct template *t, const struct graph_state *states, bool colour, struct buf *out)
{
	buf_append_str(out, "flowchart TD\n");
	for (uint32_t no = 0; no < t->dag.n; no++) {
		size_t shape = shape_of(t, no);
		buf_printf(out, "  s%u%s\"", no, shapes[shape].mermaid_open);
		put_label(out, t, no, states ? &states[no] : NULL, GRAPH_MERMAID);
		buf_printf(out, "\"%s", shapes[shape].mermaid_close);
		if (states && colour && state_look(states[no].state)->state)
			buf_printf(out, ":::%s", states[no].state);
		buf_append_char(out, '\n');
	}
	put_edges(out, t, GRAPH_MERMAID);
	for (const struct state_look *l = state_looks; states && colour && l->state; l++)
		buf_printf(out, "  classDef %s fill:%s,stroke:%s,color:#212121\n", l->state, l->fill,
		           l->stroke);
}

static void dot(const struct template *t, const struct graph_state *states, bool colour, struct buf *out)
{
	buf_append_str(out, "digraph \"");
	put_escaped(out, template_namespace(t), GRAPH_DOT);
	buf_append_char(out, '/');
	put_escaped(out, template_name(t), GRAPH_DOT);
	buf_append_str(out, "\" {\n  rankdir=TB;\n"
	                    "  node [fontname=\"sans-serif\", shape=box, style=\"rounded,filled\", "
	                    "fillcolor=\"#ffffff\"];\n");
	for (uint32_t no = 0; no < t->dag.n; no++) {
		size_t shape = shape_of(t, no);
		buf_printf(out, "  s%u [label=\"", no);
		put_label(out, t, no, states ? &states[no] : NULL, GRAPH_DOT);
		buf_append_char(out, '"');
		if (shape + 1 < sizeof shapes / sizeof shapes[0])
			buf_printf(out, ", shape=%s, style=filled", shapes[shape].dot);
		if (states && colour) {
			const struct state_look *l = state_look(states[no].state);
			buf_printf(out, ", fillcolor=\"%s\", color=\"%s\"", l->fill, l->stroke);
		}
		buf_append_str(out, "];\n");
	}
	put_edges(out, t, GRAPH_DOT);
	buf_append_str(out, "}\n");
}

int template_graph(const struct template *t, enum graph_format fmt, const struct graph_state *states,
                   bool colour, struct buf *out)
{
	if (fmt == GRAPH_TEXT)
		return graph_text(t, states, colour, out);
	if (fmt == GRAPH_MERMAID)
		mermaid(t, states, colour, out);
	else
		dot(t, states, colour, out);
	return out->failed;
}
