/* The template format, one row a field. Ranges: `min` to `max` is what is recommended, `lowest` to `highest`
 * what can be honoured: between the two is a warning, outside is an error. Times beyond `highest` would
 * overflow what the database and the timers hold. */
#include "daemon/template/fields.h"

#include <string.h>

/* clang-format off */
#define MS_MAX 86400000 /* a day */
#define MINUTES_MAX 5256000 /* ten years */

static const char *const identity_strategies[] = {"strict", "caller_provided", "always_unique", NULL};
static const char *const step_types[] = {
	"standard", "decision", "deferred_convergence", "batchable", "batch_worker", NULL};
static const char *const backoffs[] = {"none", "linear", "exponential", "fibonacci", NULL};
static const char *const conditions[] = {
	"success", "failure", "retryable_failure", "permanent_failure", "always", NULL};
static const char *const delivery_modes[] = {"durable", "fast", "broadcast", NULL};
static const char *const failure_strategies[] = {"continue_on_failure", "fail_fast", "isolate", NULL};
static const char *const staleness_actions[] = {"dlq", "error", "none", NULL};

static const struct field metadata_fields[] = {
	{.name = "author", .type = FIELD_TEXT},
	{.name = "tags", .type = FIELD_TEXTS},
	{.name = "documentation_url", .type = FIELD_TEXT},
	{.name = "created_at", .type = FIELD_TEXT},
	{.name = "updated_at", .type = FIELD_TEXT},
	{.name = NULL},
};

static const struct field system_dependencies_fields[] = {
	{.name = "primary", .type = FIELD_TEXT, .fallback = "\"default\""},
	{.name = "secondary", .type = FIELD_TEXTS, .fallback = "[]"},
	{.name = NULL},
};

static const struct field domain_events_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_event_name},
	{.name = "description", .type = FIELD_TEXT},
	{.name = "schema", .type = FIELD_SCHEMA},
	{.name = NULL},
};

#define MINUTES(name_, max_) \
	{.name = name_, .type = FIELD_INT, .min = 1, .max = max_, .lowest = 1, .highest = MINUTES_MAX}

static const struct field lifecycle_fields[] = {
	MINUTES("max_duration_minutes", 43200),
	MINUTES("max_waiting_for_dependencies_minutes", 10080),
	MINUTES("max_waiting_for_retry_minutes", 10080),
	MINUTES("max_steps_in_process_minutes", 10080),
	{.name = "staleness_action", .type = FIELD_WORD, .words = staleness_actions, .fallback = "\"dlq\""},
	{.name = "auto_fail_on_timeout", .type = FIELD_BOOL},
	{.name = "auto_dlq_on_timeout", .type = FIELD_BOOL},
	{.name = NULL},
};

const struct field handler_fields[] = {
	{.name = "callable", .type = FIELD_TEXT, .required = true, .min = 1, .max = 500},
	{.name = "method", .type = FIELD_TEXT, .min = 1, .max = 500},
	{.name = "resolver", .type = FIELD_TEXT, .min = 1, .max = 500},
	{.name = "initialization", .type = FIELD_FREE, .fallback = "{}"},
	{.name = NULL},
};

const struct field retry_fields[] = {
	{.name = "retryable", .type = FIELD_BOOL, .fallback = "true"},
	{.name = "max_attempts", .type = FIELD_INT, .min = 1, .max = 100, .lowest = 0, .highest = 10000,
	 .floor = 1, .fallback = "3"},
	{.name = "backoff", .type = FIELD_WORD, .words = backoffs, .fallback = "\"exponential\""},
	{.name = "backoff_base_ms", .type = FIELD_INT, .min = 100, .max = 3600000, .lowest = 0,
	 .highest = MS_MAX, .fallback = "1000"},
	{.name = "max_backoff_ms", .type = FIELD_INT, .min = 1000, .max = 3600000, .lowest = 0,
	 .highest = MS_MAX, .fallback = "30000"},
	{.name = NULL},
};

static const struct field publishes_events_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_event_name},
	{.name = "description", .type = FIELD_TEXT},
	{.name = "condition", .type = FIELD_WORD, .words = conditions, .fallback = "\"success\""},
	{.name = "schema", .type = FIELD_SCHEMA, .required = true},
	{.name = "delivery_mode", .type = FIELD_WORD, .words = delivery_modes, .fallback = "\"durable\""},
	{.name = "publisher", .type = FIELD_TEXT, .min = 1, .max = 500, .rule = rule_publisher},
	{.name = NULL},
};

static const struct field batch_config_fields[] = {
	{.name = "batch_size", .type = FIELD_INT, .min = 1, .max = 100000, .lowest = 1,
	 .highest = 1000000000},
	{.name = "parallelism", .type = FIELD_INT, .min = 1, .max = 1000, .lowest = 1, .highest = 100000},
	{.name = "cursor_field", .type = FIELD_TEXT, .min = 1, .max = 255},
	{.name = "worker_template", .type = FIELD_TEXT, .min = 1, .max = 128},
	{.name = "failure_strategy", .type = FIELD_WORD, .words = failure_strategies},
	{.name = NULL},
};

#define TIMEOUT {.name = "timeout_seconds", .type = FIELD_INT, .min = 1, .max = 86400, .lowest = 1, \
	.highest = 2000000}

const struct field step_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .required = true, .min = 1, .max = 128, .rule = rule_name},
	{.name = "description", .type = FIELD_TEXT},
	{.name = "system_dependency", .type = FIELD_TEXT},
	{.name = "type", .alias = "step_type", .type = FIELD_WORD, .words = step_types,
	 .fallback = "\"standard\""},
	{.name = "handler", .type = FIELD_MAP, .required = true, .sub = handler_fields},
	{.name = "dependencies", .alias = "depends_on", .type = FIELD_TEXTS, .fallback = "[]"},
	{.name = "retry", .type = FIELD_MAP, .fill = true, .sub = retry_fields, .rule = rule_retry},
	TIMEOUT,
	{.name = "publishes_events", .type = FIELD_MAPS, .sub = publishes_events_fields},
	{.name = "batch_config", .type = FIELD_MAP, .sub = batch_config_fields},
	{.name = "result_schema", .type = FIELD_SCHEMA},
	{.name = "composition", .type = FIELD_ANYTHING},
	{.name = NULL},
};

static const struct field override_handler_fields[] = {
	{.name = "initialization", .type = FIELD_FREE},
	{.name = NULL},
};

static const struct field override_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .required = true, .min = 1, .max = 128},
	{.name = "handler", .type = FIELD_MAP, .sub = override_handler_fields},
	TIMEOUT,
	{.name = "retry", .type = FIELD_MAP, .sub = retry_fields, .rule = rule_retry_override},
	{.name = NULL},
};

static const struct field environment_fields[] = {
	{.name = "steps", .type = FIELD_MAPS, .sub = override_fields},
	{.name = NULL},
};

const struct field task_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_name},
	{.name = "namespace_name", .type = FIELD_TEXT, .required = true, .expects = NAMESPACE_EXPECTS,
	 .rule = rule_namespace},
	{.name = "version", .type = FIELD_TEXT, .required = true, .expects = VERSION_EXPECTS,
	 .rule = rule_version},
	{.name = "description", .type = FIELD_TEXT},
	{.name = "identity_strategy", .type = FIELD_WORD, .words = identity_strategies,
	 .fallback = "\"always_unique\""},
	{.name = "metadata", .type = FIELD_MAP, .sub = metadata_fields},
	{.name = "system_dependencies", .type = FIELD_MAP, .sub = system_dependencies_fields},
	{.name = "domain_events", .type = FIELD_MAPS, .sub = domain_events_fields},
	{.name = "input_schema", .type = FIELD_SCHEMA},
	{.name = "lifecycle", .type = FIELD_MAP, .sub = lifecycle_fields},
	{.name = "steps", .type = FIELD_MAPS, .required = true, .min = 1, .sub = step_fields},
	{.name = "environments", .type = FIELD_NAMED, .sub = environment_fields, .applied = true},
	{.name = NULL},
};

const struct field_table field_tables[] = {
	{task_fields, "at the top of the template"},
	{step_fields, "in a step"},
	{handler_fields, "in a step's handler"},
	{retry_fields, "in a step's retry"},
	{lifecycle_fields, "in lifecycle"},
	{batch_config_fields, "in a step's batch_config"},
	{publishes_events_fields, "in a step's publishes_events"},
	{metadata_fields, "in metadata"},
	{NULL, NULL},
};

const struct field_slip field_slips[] = {
	{"limit", "max_attempts"},	  {"attempts", "max_attempts"},	    {"max_retries", "max_attempts"},
	{"namespace", "namespace_name"},  {"handler_class", "handler"},	    {"class", "callable"},
	{"timeout", "timeout_seconds"},	  {"needs", "dependencies"},	    {"requires", "dependencies"},
	{"after", "dependencies"},	  {"init", "initialization"},	    {"config", "initialization"},
	{"deferred", "deferred_convergence"}, {"decision_point", "decision"}, {"events", "publishes_events"},
	{"workers", "parallelism"},	  {NULL, NULL},
};

/* clang-format on */

const struct ypair *field_pair(const struct ynode *map, const struct field *f)
{
	const struct ypair *p = ynode_pair(map, f->name);
	if (f->alias && (!p || p->value->kind == YNODE_NULL))
		p = ynode_pair(map, f->alias);
	return p && p->value->kind != YNODE_NULL ? p : NULL;
}

const struct ynode *field_value(const struct ynode *map, const struct field *f)
{
	const struct ypair *p = field_pair(map, f);
	return p ? p->value : NULL;
}

const struct field *field_find(const struct field *table, const char *name)
{
	for (; table->name; table++)
		if (strcmp(table->name, name) == 0 || (table->alias && strcmp(table->alias, name) == 0))
			return table;
	return NULL;
}

const struct ynode *field_get(const struct ynode *map, const struct field *table, const char *name)
{
	const struct field *f = field_find(table, name);
	return f ? field_value(map, f) : NULL;
}
