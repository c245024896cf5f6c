//! Handlers, and publishers of domain events.

use crate::outcome::{Failure, IntoOutcome, Outcome};
use crate::step::Step;
use serde_json::Value;

/// What runs a step. Functions and closures of `&Step` are handlers.
pub trait Handler: Send + Sync + 'static {
    /// One attempt. A panic is a retryable failure.
    fn call(&self, step: &Step) -> Result<Outcome, Failure>;

    /// For a template that names a `method` other than `call`.
    fn call_method(&self, method: &str, step: &Step) -> Result<Outcome, Failure> {
        Err(no_method(method, step))
    }
}

pub(crate) fn no_method(method: &str, step: &Step) -> Failure {
    Failure::library("handler_not_found", false, format!("handler {:?} has no method {method:?}", step.0.callable))
}

impl<F, R> Handler for F
where
    F: Fn(&Step) -> R + Send + Sync + 'static,
    R: IntoOutcome,
{
    fn call(&self, step: &Step) -> Result<Outcome, Failure> {
        self(step).into_outcome()
    }
}

/// What a publisher makes of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Publish {
    /// The step's result (or error), as it is.
    Default,
    /// This payload, and this metadata (a map, or `Null`) in addition.
    Payload(Value, Value),
    /// Nothing is published.
    Skip,
    /// Nothing is published, and the attempt's `event_errors` say why. So it is too if a publisher panics.
    Failed(String),
}

/// Makes the payload of events whose template names it as `publisher`; it runs after the handler, and what it makes is published with the step's result or
/// not at all.
pub trait Publisher: Send + Sync + 'static {
    /// `event` is the declaration in the template, `result` the handler's result or the error's fields.
    fn publish(&self, event: &Value, result: &Value, step: &Step) -> Publish;
}

impl<F: Fn(&Value, &Value, &Step) -> Publish + Send + Sync + 'static> Publisher for F {
    fn publish(&self, event: &Value, result: &Value, step: &Step) -> Publish {
        self(event, result, step)
    }
}
