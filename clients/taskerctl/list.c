#include "clients/taskerctl/list.h"

#include "clients/taskerctl/options.h"
#include "clients/taskerctl/text.h"

#define PAGE_MAX 1000

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

/* How many of the verb's items an answer has. */
static size_t have(const struct ctl *c, const json_t *answer)
{
	return json_array_size(json_object_get(answer, c->cli->verb->list));
}

/* The page's items behind those that are there, and where to go on. */
static void add_page(const struct ctl *c, json_t **all, json_t *page, json_t *params)
{
	json_t *cursor = json_object_get(page, "next_cursor");
	if (!*all)
		*all = json_incref(page);
	else
		json_array_extend(json_object_get(*all, c->cli->verb->list), json_object_get(page, c->cli->verb->list));
	if (json_is_string(cursor)) {
		json_object_set(params, "cursor", cursor);
		json_object_set(*all, "next_cursor", cursor);
	} else {
		json_object_del(*all, "next_cursor");
	}
}

int list_ask_pages(struct ctl *c, json_t *params, json_t **ret)
{
	const char *limit = cli_get(c->cli, "limit");
	int64_t want = cli_has(c->cli, "all") ? INT64_MAX : 50;
	if (limit && parse_int(limit, 1, INT64_MAX, &want) < 0)
		return ctl_fail(c, EXIT_USAGE, "--limit: %s is not a number above 0", limit);
	do {
		cleanup_(cleanup_json) json_t *page = NULL;
		int64_t left = want - (int64_t)have(c, *ret);
		json_object_set_new(params, "limit", json_integer(left < PAGE_MAX ? left : PAGE_MAX));
		int code = ctl_call(c, c->cli->verb->asks, json_deep_copy(params), &page);
		if (code)
			return code;
		add_page(c, ret, page, params);
	} while (json_object_get(*ret, "next_cursor") && (int64_t)have(c, *ret) < want);
	return EXIT_OK;
}

static void tell_more(const struct ctl *c, const struct listing *l, const json_t *answer)
{
	const char *cursor = json_text(answer, "next_cursor");
	if (!*cursor || !c->out_tty)
		return;
	if (l->ask == list_ask_pages)
		ctl_note(c, "there are more: --limit N, --all, or from here on: --cursor %s", cursor);
	else
		ctl_note(c, "there are more: --limit N");
}

static void print_answer(const struct ctl *c, const struct listing *l, const json_t *answer)
{
	cleanup_(cleanup_json) json_t *items =
		l->items ? l->items(answer) : json_incref(json_object_get(answer, c->cli->verb->list));
	if (list_print(c, l->columns, items) == 0 && l->empty)
		ctl_note(c, "%s", l->empty);
	if (l->after)
		l->after(c, answer);
	else
		tell_more(c, l, answer);
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

int ctl_show(struct ctl *c, const char *method, json_t *params,
             void (*print)(const struct ctl *c, const json_t *answer))
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
