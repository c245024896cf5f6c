/* Inside of the drawings: what a step state looks like. */
#pragma once
#include "daemon/template/model.h"

struct state_look {
	const char *state;
	const char *glyph; /* one column wide */
	const char *ansi;  /* the number of the SGR sequence */
	const char *fill, *stroke;
};

/* Never NULL: unknown states and NULL have a plain look. */
const struct state_look *state_look(const char *state);
extern const struct state_look state_looks[]; /* ends with a NULL state, which is the plain look */

const char *step_type_name(const struct template *t, uint32_t no);

int graph_text(const struct template *t, const struct graph_state *states, bool colour,
               struct buf *out) must_check;
