/* What values may be. */
#include "clients/taskerctl/cli.h"

#define WORDS(...)                                                                                                     \
	(const char *const[])                                                                                          \
	{                                                                                                              \
		__VA_ARGS__, NULL                                                                                      \
	}

const struct kind kind_file = {.name = "file", .files = true};
const struct kind kind_dir = {.name = "directory", .dirs = true};
const struct kind kind_number = {.name = "number"};
const struct kind kind_duration = {.name = "duration"};
const struct kind kind_time = {.name = "time"};
const struct kind kind_json = {.name = "json", .files = true};
const struct kind kind_template = {.name = "template"};
const struct kind kind_template_or_file = {.name = "template_or_file", .files = true};
const struct kind kind_template_name = {.name = "template_name"};
const struct kind kind_namespace = {.name = "namespace"};
const struct kind kind_task = {.name = "task"};
const struct kind kind_task_or_step = {.name = "task_or_step"};
const struct kind kind_step_name = {.name = "step_name"};
const struct kind kind_worker = {.name = "worker"};
const struct kind kind_node = {.name = "node"};
const struct kind kind_dlq_entry = {.name = "dlq_entry"};
const struct kind kind_event = {.name = "event"};
const struct kind kind_verb = {.name = "command"};

/* The names of the daemon: a test compares them with its own tables. */
const struct kind kind_task_state = {.name = "task_state",
                                     .what = "the state of a task",
                                     .words = WORDS("pending", "initializing", "enqueuing_steps", "steps_in_process",
                                                    "evaluating_results", "waiting_for_dependencies",
                                                    "waiting_for_retry", "blocked_by_failures", "complete", "error",
                                                    "cancelled", "resolved_manually")};
const struct kind kind_final_state = {.name = "final_state",
                                      .what = "a state in which a task ends",
                                      .words = WORDS("complete", "error", "cancelled", "resolved_manually")};
const struct kind kind_step_state = {.name = "step_state",
                                     .what = "the state of a step",
                                     .words = WORDS("pending", "enqueued", "in_progress", "enqueued_for_orchestration",
                                                    "enqueued_as_error_for_orchestration", "waiting_for_retry",
                                                    "complete", "error", "cancelled", "resolved_manually")};
const struct kind kind_dlq_status = {.name = "dlq_status",
                                     .what = "the status of an entry",
                                     .words = WORDS("pending", "manually_resolved", "permanently_failed", "cancelled")};
const struct kind kind_dlq_reason = {.name = "dlq_reason",
                                     .what = "the reason of an entry",
                                     .words = WORDS("staleness_timeout", "max_retries_exceeded",
                                                    "dependency_cycle_detected", "worker_unavailable", "manual_dlq")};
/* Those before a dot stand for all behind it. */
const struct kind kind_action = {.name = "action",
                                 .what = "an action",
                                 .words = WORDS("task", "task.cancel", "task.pause", "task.restore", "task.resume",
                                                "task.retry", "task.resolve_manually", "step", "step.complete_manually",
                                                "step.reset_for_retry", "step.resolve_manually", "step.skip", "dlq",
                                                "dlq.add", "dlq.update", "namespace", "namespace.pause",
                                                "namespace.resume", "namespace.retention", "queue", "queue.purge",
                                                "template", "template.apply", "token", "token.create", "token.revoke",
                                                "worker", "worker.drain")};
const struct kind kind_health = {.name = "health",
                                 .what = "a word for health",
                                 .words = WORDS("healthy", "warning", "stale")};
const struct kind kind_drawing = {.name = "drawing",
                                  .what = "a way to draw",
                                  .words = WORDS("text", "mermaid", "dot", "svg")};
const struct kind kind_language = {
    .name = "language", .what = "a language", .words = WORDS("python", "ruby", "typescript", "rust", "c")};
const struct kind kind_style = {.name = "style",
                                .what = "a style of any language",
                                .words = WORDS("dataclass", "pydantic", "struct", "data", "dry", "interface", "zod",
                                               "serde")};
const struct kind kind_event_mode = {
    .name = "event_mode", .what = "a mode of delivery", .words = WORDS("durable", "fast", "broadcast")};
const struct kind kind_retention = {.name = "retention", .what = "an action", .words = WORDS("archive", "delete")};
const struct kind kind_rows = {.name = "rows", .what = "a format of rows", .words = WORDS("jsonl", "csv")};
const struct kind kind_restore_state = {.name = "restore_state",
                                        .what = "a state to restore",
                                        .words = WORDS("dumped", "start")};
const struct kind kind_colour = {.name = "colour",
                                 .what = "a time for colours",
                                 .words = WORDS("auto", "always", "never")};
const struct kind kind_token = {.name = "token"};
const struct kind kind_role = {.name = "role",
                               .what = "a role",
                               .words = WORDS("read", "submit", "work", "operate", "admin")};
/* A time or a duration, or this: offered, not demanded. */
const struct kind kind_expiry = {.name = "expiry", .words = WORDS("never")};
/* A duration, or one of these: offered, not demanded. */
const struct kind kind_keep = {.name = "keep", .words = WORDS("forever", "default")};
const struct kind kind_output = {
    .name = "output", .what = "a kind of output", .words = WORDS("table", "wide", "json", "jsonl")};
const struct kind kind_profile = {.name = "profile"};
const struct kind kind_shell = {.name = "shell", .what = "a shell", .words = WORDS("bash", "zsh", "fish")};
