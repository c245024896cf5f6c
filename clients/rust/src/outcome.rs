//! What a handler gives back: an [`Outcome`] or a [`Failure`].

use crate::wire;
use serde::Serialize;
use serde_json::{json, Map, Value};
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// Success of one attempt: the result, and what goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub(crate) result: Value,
    pub(crate) metadata: Map<String, Value>,
}

impl Outcome {
    /// The step is done; `result` is what later steps see.
    pub fn done(result: Value) -> Self {
        Outcome { result, metadata: Map::new() }
    }

    /// Kept with the attempt.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Another field of the result, if that is a map.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(fields) = &mut self.result {
            fields.insert(key.into(), value.into());
        }
        self
    }

    /// Of a decision: create these steps.
    pub fn route<S: AsRef<str>>(steps: impl IntoIterator<Item = S>) -> Self {
        let names: Vec<String> = steps.into_iter().map(|s| s.as_ref().to_owned()).collect();
        Outcome::done(json!({"decision_point_outcome": {"type": "create_steps", "step_names": names}}))
    }

    /// Of a decision: create none.
    pub fn skip_branches(reason: &str) -> Self {
        Outcome::done(json!({"decision_point_outcome": {"type": "no_branches"}, "reason": reason}))
    }

    /// Of a batchable step: `total` items, numbered from 0, in pieces of `batch_size`, each for a worker made of the template step `worker`. Of no items it is
    /// "no batches".
    pub fn batches(worker: &str, total: u64, batch_size: u64) -> Self {
        if total == 0 {
            return Outcome::no_batches("empty_dataset");
        }
        let size = batch_size.max(1);
        let cursors: Vec<Value> = (0..total.div_ceil(size))
            .map(|i| {
                let (start, end) = (i * size, ((i + 1) * size).min(total));
                json!({"batch_id": format!("{:03}", i + 1), "start_cursor": start, "end_cursor": end, "batch_size": end - start})
            })
            .collect();
        Outcome::batches_of(worker, total, cursors)
    }

    /// The same with cursors of any kind: maps with `batch_id`, `start_cursor`, `end_cursor`, `batch_size`.
    pub fn batches_of(worker: &str, total: u64, cursors: Vec<Value>) -> Self {
        let count = cursors.len();
        Outcome::done(json!({
            "worker_count": count, "total_items": total,
            "batch_processing_outcome": {"type": "create_batches", "worker_template_name": worker, "worker_count": count, "total_items": total,
                                         "cursor_configs": cursors},
        }))
    }

    /// Of a batchable step: nothing to do.
    pub fn no_batches(reason: &str) -> Self {
        Outcome::done(json!({"batch_processing_outcome": {"type": "no_batches"}, "reason": reason}))
    }

    /// Of a batch worker.
    pub fn batch_done(counts: BatchCounts) -> Self {
        let BatchCounts { processed, failed, skipped, .. } = counts;
        let succeeded = counts.succeeded.unwrap_or(processed.saturating_sub(failed + skipped));
        Outcome::done(json!({"items_processed": processed, "items_succeeded": succeeded, "items_failed": failed, "items_skipped": skipped}))
    }

    /// Not done: store how far the step is, and have it sent again at once, as the same attempt.
    pub fn checkpoint_yield(cursor: impl Into<Value>, items_processed: u64, accumulated: impl Into<Value>) -> Self {
        let mut result = json!({"type": "checkpoint_yield", "cursor": cursor.into(), "items_processed": items_processed});
        let accumulated = accumulated.into();
        if accumulated != Value::Null {
            result["accumulated_results"] = accumulated;
        }
        Outcome::done(result).with_metadata("checkpoint_yield", true)
    }
}

/// What a batch worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Items looked at.
    pub processed: u64,
    /// Of these done well; `None`: all but those below.
    pub succeeded: Option<u64>,
    /// Of these done badly.
    pub failed: u64,
    /// Of these left out.
    pub skipped: u64,
}

/// Failure of one attempt. Any error becomes one by `?`, retryable, with where that was.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(pub(crate) Box<Fault>);

/// Behind a pointer, so that a `Result` with a [`Failure`] stays small.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) error_type: String,
    pub(crate) error_code: Option<String>,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) status_code: Option<u16>,
    pub(crate) context: Map<String, Value>,
    pub(crate) backtrace: Vec<String>,
}

impl Failure {
    fn new(error_type: &str, retryable: bool, message: String) -> Self {
        Failure(Box::new(Fault {
            message,
            error_type: error_type.into(),
            error_code: None,
            retryable,
            retry_after: None,
            status_code: None,
            context: Map::new(),
            backtrace: Vec::new(),
        }))
    }

    /// Another attempt may succeed.
    #[track_caller]
    pub fn retryable(message: impl Into<String>) -> Self {
        Failure::new("retryable_error", true, message.into()).at(Location::caller())
    }

    /// No other attempt is to be made.
    #[track_caller]
    pub fn permanent(message: impl Into<String>) -> Self {
        Failure::new("permanent_error", false, message.into()).at(Location::caller())
    }

    fn at(mut self, place: &Location<'_>) -> Self {
        self.0.backtrace.push(format!("at {}:{}:{}", place.file(), place.line(), place.column()));
        self
    }

    pub(crate) fn library(error_type: &str, retryable: bool, message: impl Into<String>) -> Self {
        Failure::new(error_type, retryable, message.into())
    }

    /// A type for people and for rules of operators.
    #[must_use]
    pub fn kind(mut self, error_type: &str) -> Self {
        self.0.error_type = error_type.into();
        self
    }

    /// A code of the program's own.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.0.error_code = Some(code.into());
        self
    }

    /// The delay before the next attempt, instead of the template's backoff.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Such as that of an HTTP answer.
    #[must_use]
    pub fn status(mut self, code: u16) -> Self {
        self.0.status_code = Some(code);
        self
    }

    /// More about it.
    #[must_use]
    pub fn context(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.context.insert(key.into(), value.into());
        self
    }

    /// Whether another attempt will be made.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Its type: `permanent_error`, `handler_error`, `handler_panic`, ..., or what [`Failure::kind`] has set.
    pub fn error_type(&self) -> &str {
        &self.0.error_type
    }

    /// What [`Failure::code`] has set.
    pub fn error_code(&self) -> Option<&str> {
        self.0.error_code.as_deref()
    }

    /// What [`Failure::retry_after`] has set.
    pub fn delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut failure = Failure::new("handler_error", true, error.to_string()).at(Location::caller());
        let mut cause = error.source();
        while let Some(e) = cause {
            failure.0.backtrace.push(format!("caused by: {e}"));
            cause = e.source();
        }
        failure
    }
}

/// What a handler may return.
pub trait IntoOutcome {
    /// As the outcome of the attempt.
    fn into_outcome(self) -> Result<Outcome, Failure>;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        Ok(self)
    }
}

impl IntoOutcome for Failure {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        Err(self)
    }
}

impl IntoOutcome for Value {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        Ok(Outcome::done(self))
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        Ok(Outcome::done(json!({})))
    }
}

/// A result of any type that serde can serialise.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoOutcome for Json<T> {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        let value = wire::to_storable(&self.0).map_err(|why| unsendable(&why))?;
        Ok(Outcome::done(value))
    }
}

pub(crate) fn unsendable(why: &str) -> Failure {
    Failure::library("serialization_error", false, format!("the handler's result cannot be sent: {why}"))
}

impl<T: IntoOutcome, E: Into<Failure>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<Outcome, Failure> {
        self.map_err(Into::into).and_then(IntoOutcome::into_outcome)
    }
}
