/* The template format, one row a field. Ranges: `min` to `max` is what is recommended, `lowest` to `highest`
 * what can be honoured: between the two is a warning, outside is an error. Times beyond `highest` would
 * overflow what the database and the timers hold. */
#include "daemon/template/fields.h"

#include <string.h>

/* clang-format off */
#define MS_MAX 86400000 /* a day */
#define MINUTES_MAX 5256000 /* ten years */
#define NAME_PATTERN "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
#define VERSION_NUMBER "(?:0|[1-9][0-9]{0,8})"
#define VERSION_PATTERN "^" VERSION_NUMBER "\\." VERSION_NUMBER "\\." VERSION_NUMBER \
	"(?:-(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?" \
	"(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?$"

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
	{.name = "author", .about = "Who to ask.",
	 .type = FIELD_TEXT},
	{.name = "tags", .about = "Words to find the template by.",
	 .type = FIELD_TEXTS},
	{.name = "documentation_url", .about = "Where more is written.",
	 .type = FIELD_TEXT},
	{.name = "created_at", .about = "When it was written.",
	 .type = FIELD_TEXT},
	{.name = "updated_at", .about = "When it was last changed.",
	 .type = FIELD_TEXT},
	{.name = NULL},
};

static const struct field system_dependencies_fields[] = {
	{.name = "primary", .about = "The system that the workflow is about.",
	 .type = FIELD_TEXT, .fallback = "\"default\""},
	{.name = "secondary", .about = "Other systems that it needs.",
	 .type = FIELD_TEXTS, .fallback = "[]"},
	{.name = NULL},
};

static const struct field domain_events_fields[] = {
	{.name = "name", .about = "Lower-case words joined by dots, like order.placed.",
	 .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_event_name},
	{.name = "description", .about = "For people.",
	 .type = FIELD_TEXT},
	{.name = "schema", .about = "JSON Schema of the event's payload.",
	 .type = FIELD_SCHEMA},
	{.name = NULL},
};

#define MINUTES(name_, max_, about_) \
	{.name = name_, .about = about_, .type = FIELD_INT, .min = 1, .max = max_, .lowest = 1, .highest = MINUTES_MAX}

static const struct field lifecycle_fields[] = {
	MINUTES("max_duration_minutes", 43200,
		"How long a task may take from its creation on."),
	MINUTES("max_waiting_for_dependencies_minutes", 10080,
		"How long a task may wait for a worker, a resume or people, with nothing running."),
	MINUTES("max_waiting_for_retry_minutes", 10080,
		"How long all that is open may wait for its next attempt."),
	MINUTES("max_steps_in_process_minutes", 10080,
		"How long steps may run without a sign of progress."),
	{.name = "staleness_action", .about = "What happens to a task over a limit: dlq files it and lets it go on, error ends it, none only shows it.",
	 .type = FIELD_WORD, .words = staleness_actions, .fallback = "\"dlq\""},
	{.name = "auto_fail_on_timeout", .about = "Whether a task over a limit ends in error, whatever staleness_action says.",
	 .type = FIELD_BOOL},
	{.name = "auto_dlq_on_timeout", .about = "Whether a task over a limit is filed, whatever staleness_action says.",
	 .type = FIELD_BOOL},
	{.name = NULL},
};

const struct field handler_fields[] = {
	{.name = "callable", .about = "The name under which workers offer the handler.",
	 .type = FIELD_TEXT, .required = true, .min = 1, .max = 500},
	{.name = "method", .about = "The method of the handler that is called.",
	 .type = FIELD_TEXT, .min = 1, .max = 500},
	{.name = "resolver", .about = "A hint for workers that have several ways to find a handler.",
	 .type = FIELD_TEXT, .min = 1, .max = 500},
	{.name = "initialization", .about = "Settings that the handler is given.",
	 .type = FIELD_FREE, .fallback = "{}"},
	{.name = NULL},
};

const struct field retry_fields[] = {
	{.name = "retryable", .about = "Whether a failed attempt may be followed by another.",
	 .type = FIELD_BOOL, .fallback = "true"},
	{.name = "max_attempts", .about = "All tries, the first one included.",
	 .type = FIELD_INT, .min = 1, .max = 100, .lowest = 0, .highest = 10000,
	 .floor = 1, .fallback = "3"},
	{.name = "backoff", .about = "How the pauses between attempts grow.",
	 .type = FIELD_WORD, .words = backoffs, .fallback = "\"exponential\""},
	{.name = "backoff_base_ms", .about = "The first pause, in milliseconds.",
	 .type = FIELD_INT, .min = 100, .max = 3600000, .lowest = 0,
	 .highest = MS_MAX, .fallback = "1000"},
	{.name = "max_backoff_ms", .about = "The longest pause, in milliseconds.",
	 .type = FIELD_INT, .min = 1000, .max = 3600000, .lowest = 0,
	 .highest = MS_MAX, .fallback = "30000"},
	{.name = NULL},
};

static const struct field publishes_events_fields[] = {
	{.name = "name", .about = "Lower-case words joined by dots, like payment.charged.",
	 .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_event_name},
	{.name = "description", .about = "For people.",
	 .type = FIELD_TEXT},
	{.name = "condition", .about = "Which end of an attempt publishes the event.",
	 .type = FIELD_WORD, .words = conditions, .fallback = "\"success\""},
	{.name = "schema", .about = "JSON Schema of the payload.",
	 .type = FIELD_SCHEMA, .required = true},
	{.name = "delivery_mode", .about = "durable: queued with the result; fast: pushed to subscribers; broadcast: both.",
	 .type = FIELD_WORD, .words = delivery_modes, .fallback = "\"durable\""},
	{.name = "publisher", .about = "A class of the worker that makes the payload.",
	 .pattern = "^[A-Za-z_][A-Za-z0-9_]*(?:(?:\\.|::)[A-Za-z_][A-Za-z0-9_]*)*$", .type = FIELD_TEXT, .min = 1, .max = 500, .rule = rule_publisher},
	{.name = NULL},
};

static const struct field batch_config_fields[] = {
	{.name = "batch_size", .about = "Items for each worker step, if the batchable's result says only how many there are.",
	 .type = FIELD_INT, .min = 1, .max = 100000, .lowest = 1,
	 .highest = 1000000000},
	{.name = "parallelism", .about = "How many worker steps of a batch run at a time; all if absent.",
	 .type = FIELD_INT, .min = 1, .max = 1000, .lowest = 1, .highest = 100000},
	{.name = "cursor_field", .about = "The field that the cursors are of; given to the workers.",
	 .type = FIELD_TEXT, .min = 1, .max = 255},
	{.name = "worker_template", .about = "The batch_worker step to make instances of, if several depend on the batchable one.",
	 .type = FIELD_TEXT, .min = 1, .max = 128},
	{.name = "failure_strategy", .about = "What a failed worker step means for the others and for what comes after; isolate if absent.",
	 .type = FIELD_WORD, .words = failure_strategies},
	{.name = NULL},
};

#define TIMEOUT {.name = "timeout_seconds", .about = "How long an attempt may take, in seconds; then it ends as timeout. No limit if absent.", \
	.type = FIELD_INT, .min = 1, .max = 86400, .lowest = 1, \
	.highest = 2000000}

const struct field step_fields[] = {
	{.name = "name", .about = "Unique in the template.",
	 .pattern = NAME_PATTERN, .type = FIELD_TEXT, .required = true, .min = 1, .max = 128, .rule = rule_name},
	{.name = "description", .about = "For people.",
	 .type = FIELD_TEXT},
	{.name = "system_dependency", .about = "The system that the step works on.",
	 .type = FIELD_TEXT},
	{.name = "type", .about = "What the step may do besides running its handler.",
	 .alias = "step_type", .type = FIELD_WORD, .words = step_types,
	 .fallback = "\"standard\""},
	{.name = "handler", .about = "What runs.",
	 .type = FIELD_MAP, .required = true, .sub = handler_fields},
	{.name = "dependencies", .about = "Names of the steps that must be complete before.",
	 .alias = "depends_on", .type = FIELD_TEXTS, .fallback = "[]"},
	{.name = "retry", .about = "What happens after a failed attempt.",
	 .type = FIELD_MAP, .fill = true, .sub = retry_fields, .rule = rule_retry},
	TIMEOUT,
	{.name = "publishes_events", .about = "Domain events that the ends of attempts publish.",
	 .type = FIELD_MAPS, .sub = publishes_events_fields},
	{.name = "batch_config", .about = "How a batch is run; of a batchable or batch_worker step.",
	 .type = FIELD_MAP, .sub = batch_config_fields},
	{.name = "result_schema", .about = "JSON Schema of the result; a success that does not fit is a permanent failure.",
	 .type = FIELD_SCHEMA},
	{.name = "composition", .about = "Not supported.",
	 .type = FIELD_ANYTHING},
	{.name = NULL},
};

static const struct field override_handler_fields[] = {
	{.name = "initialization", .about = "Keys that are added or replaced.",
	 .type = FIELD_FREE},
	{.name = NULL},
};

static const struct field override_fields[] = {
	{.name = "name", .about = "The step, or ALL.",
	 .type = FIELD_TEXT, .required = true, .min = 1, .max = 128},
	{.name = "handler", .about = "What of the handler is different.",
	 .type = FIELD_MAP, .sub = override_handler_fields},
	TIMEOUT,
	{.name = "retry", .about = "Keys that are replaced.",
	 .type = FIELD_MAP, .sub = retry_fields, .rule = rule_retry_override},
	{.name = NULL},
};

static const struct field environment_fields[] = {
	{.name = "steps", .about = "What is different, step by step.",
	 .type = FIELD_MAPS, .sub = override_fields},
	{.name = NULL},
};

const struct field task_fields[] = {
	{.name = "name", .about = "Name of the template.",
	 .pattern = NAME_PATTERN, .type = FIELD_TEXT, .required = true, .min = 1, .max = 255, .rule = rule_name},
	{.name = "namespace_name", .about = "Namespace of the template.",
	 .pattern = "^[A-Za-z_][A-Za-z0-9_]{0,28}$", .type = FIELD_TEXT, .required = true, .expects = NAMESPACE_EXPECTS,
	 .rule = rule_namespace},
	{.name = "version", .about = "Semantic version. Content under a version does not change once it is used.",
	 .pattern = VERSION_PATTERN, .type = FIELD_TEXT, .required = true, .expects = VERSION_EXPECTS,
	 .rule = rule_version},
	{.name = "description", .about = "For people.",
	 .type = FIELD_TEXT},
	{.name = "identity_strategy", .about = "When two requests mean the same task: never, if their contexts are equal (strict), or by a key of the caller.",
	 .type = FIELD_WORD, .words = identity_strategies,
	 .fallback = "\"always_unique\""},
	{.name = "metadata", .about = "About the template.",
	 .type = FIELD_MAP, .sub = metadata_fields},
	{.name = "system_dependencies", .about = "The systems that the workflow depends on.",
	 .type = FIELD_MAP, .sub = system_dependencies_fields},
	{.name = "domain_events", .about = "Events that steps publish, with their payloads.",
	 .type = FIELD_MAPS, .sub = domain_events_fields},
	{.name = "input_schema", .about = "JSON Schema of the context; a context that does not fit is refused.",
	 .type = FIELD_SCHEMA},
	{.name = "lifecycle", .about = "How long tasks may take, and what then.",
	 .type = FIELD_MAP, .sub = lifecycle_fields},
	{.name = "steps", .about = "The steps, in any order.",
	 .type = FIELD_MAPS, .required = true, .min = 1, .sub = step_fields},
	{.name = "environments", .about = "What is different in an environment, by its name.",
	 .type = FIELD_NAMED, .sub = environment_fields, .applied = true},
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
