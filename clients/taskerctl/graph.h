/* Drawings of templates and tasks: to stdout, a file, or through graphviz. */
#pragma once
#include "clients/taskerctl/ctl.h"
#include "daemon/template/template.h"

enum drawing { DRAW_TEXT, DRAW_MERMAID, DRAW_DOT, DRAW_SVG };

/* What --format asks for. 0, or an exit code after having said why. */
int graph_format_option(const struct ctl *c, enum drawing *ret);
/* Draw to stdout or to --output; `states` may be NULL. 0, or an exit code after having said why. */
int graph_draw(const struct ctl *c, const struct template *t, const struct graph_state *states,
               enum drawing how);
/* The template behind an answer of template.get. 0, or an exit code after having said why. */
int graph_template_of(const struct ctl *c, const json_t *answer, struct template **ret);
