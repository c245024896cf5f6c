#include "clients/taskerctl/list.h"

#include "clients/taskerctl/options.h"

size_t list_print(const struct ctl *c, const struct column *columns, const json_t *items)
{
	cleanup_(cleanup_table) struct table t = {0};
	table_init(&t, columns);
	table_fill(&t, items);
	if (table_rows(&t) > 0)
		ctl_print_table(c, &t, 0);
	return table_rows(&t);
}

void list_print_below(const struct ctl *c, const struct column *columns, const json_t *items)
{
	if (json_array_size(items) == 0)
		return;
	ctl_say("\n");
	list_print(c, columns, items);
}

static void print_answer(const struct ctl *c, const struct listing *l, const json_t *answer)
{
	cleanup_(cleanup_json) json_t *items = l->items ? l->items(answer) : json_incref(json_object_get(answer, c->cli->verb->list));
	if (list_print(c, l->columns, items) == 0 && l->empty)
		ctl_note(c, "%s", l->empty);
	if (l->after)
		l->after(c, answer);
	else if (json_is_string(json_object_get(answer, "next_cursor")) && c->out_tty)
		ctl_note(c, "there are more: --limit N");
}

int list_show(struct ctl *c, json_t *params)
{
	const struct listing *l = c->cli->verb->listing;
	cleanup_(cleanup_json) json_t *answer = NULL;
	int code = l->ask ? l->ask(c, params, &answer) : ctl_call(c, c->cli->verb->asks, json_incref(params), &answer);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		print_answer(c, l, answer);
	return EXIT_OK;
}

int run_list(struct ctl *c)
{
	cleanup_(cleanup_json) json_t *params = json_object();
	int code = option_params(c, params);
	return code ? code : list_show(c, params);
}

void list_titles(const struct listing *l, bool wide, struct buf *b)
{
	const char *gap = "";
	for (const struct column *col = l->columns; col->title; col++) {
		if (!(col->flags & COL_WIDE) == wide)
			continue;
		buf_printf(b, "%s%s", gap, col->title);
		gap = ", ";
	}
}

int ctl_show(struct ctl *c, const char *method, json_t *params, void (*print)(const struct ctl *c, const json_t *answer))
{
	cleanup_(cleanup_json) json_t *answer = NULL;
	int code = ctl_call(c, method, params, &answer);
	if (code)
		return code;
	if (c->cli->json)
		ctl_print_json(c, answer, false);
	else
		print(c, answer);
	return EXIT_OK;
}
