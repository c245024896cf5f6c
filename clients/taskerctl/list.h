/* Verbs that show a list: what is asked for and how it is shown is data. */
#pragma once
#include "clients/taskerctl/ctl.h"

struct listing {
	const struct column *columns;
	const char *empty; /* said if there is nothing, and what to do about it; NULL: `after` says it */
	/* Ask in more than one request. 0 with *ret, or an exit code after having said why. NULL: verb->asks, once. */
	int (*ask)(struct ctl *c, json_t *params, json_t **ret);
	/* What the rows are, a new reference. NULL: the member verb->list of the answer. */
	json_t *(*items)(const json_t *answer);
	/* What is said after the table. */
	void (*after)(const struct ctl *c, const json_t *answer);
};

/* Of a verb that is nothing but its listing: its options are the parameters. */
int run_list(struct ctl *c);
/* For listing.ask: one page after the other into one answer, until there are as many as --limit says (50), or with
 * --all as there are. A page may hold less than was asked for and still have a next one. */
int list_ask_pages(struct ctl *c, json_t *params, json_t **ret);
/* The same with parameters that are made already; they stay the caller's. */
int list_show(struct ctl *c, json_t *params);
/* A table of these objects, as the output is to be. Returns how many there were. */
size_t list_print(const struct ctl *c, const struct column *columns, const json_t *items);
/* The same after an empty line; nothing if there are none. */
void list_print_below(const struct ctl *c, const struct column *columns, const json_t *items);
/* The titles of the columns that --output wide adds, or of the others: "UNIT, UID". */
void list_titles(const struct listing *l, bool wide, struct buf *b);
/* Ask, and print the answer: as JSON, or by `print`. `params` is taken. An exit code. */
int ctl_show(struct ctl *c, const char *method, json_t *params,
             void (*print)(const struct ctl *c, const json_t *answer));

extern const struct listing list_tasks, list_steps, list_step_history, list_templates, list_template_steps,
	list_workers, list_nodes, list_queues, list_namespaces, list_audit, list_retention, list_tokens, list_events,
	list_dlq, list_dlq_causes, list_dlq_queue, list_dlq_stats, list_staleness, list_analytics_templates,
	list_analytics_steps, list_slowest, list_failing, list_profiles;
