//! Handlers in tests: a step as the daemon would send it, and what a handler makes of it; whole workflows with a daemon of the test's own.

pub use crate::embedded::{Done, Embedded};
use crate::error::{Error, Result};
use crate::handler::Handler;
use crate::outcome::{Failure, Outcome};
use crate::run::Registry;
use crate::step::{lock, Host, Step};
use crate::wire::{self, Value};
use serde_json::{json, Value as Json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A step being made up.
pub struct FakeStep {
    fields: Json,
    host: Arc<Told>,
}

#[derive(Default)]
struct Told(Mutex<Vec<(String, Json)>>);

impl Told {
    fn add(&self, method: &str, params: &[u8]) {
        let params = wire::decode(params, usize::MAX).map_or(Json::Null, Value::into_json);
        lock(&self.0).push((method.to_owned(), params));
    }
}

impl Host for Told {
    fn notify(&self, method: &'static str, params: Vec<u8>) {
        self.add(method, &params);
    }

    fn request(&self, method: &'static str, params: Vec<u8>) -> Result<Value> {
        self.add(method, &params);
        match method {
            "step.checkpoint" => Ok(Value::Map(vec![("status".into(), Value::Str("recorded".into()))])),
            _ => Err(Error::new("not_found", "a step that is made up has no daemon")),
        }
    }
}

impl Default for FakeStep {
    fn default() -> Self {
        FakeStep::new()
    }
}

impl FakeStep {
    /// The first attempt of a step `step`, of handler `handler`, with an empty context.
    pub fn new() -> Self {
        FakeStep {
            fields: json!({
                "step_uuid": "00000000-0000-7000-8000-000000000001", "task_uuid": "00000000-0000-7000-8000-000000000000", "attempt": 1, "max_attempts": 3,
                "namespace": "test", "template": "test", "version": "1.0.0", "step": "step", "handler": {"callable": "handler"},
                "context": {}, "dependencies": {},
            }),
            host: Arc::default(),
        }
    }

    /// Any field of `step.execute`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.fields[key] = value.into();
        self
    }

    /// What the task was created with.
    #[must_use]
    pub fn context(self, context: impl Into<Json>) -> Self {
        self.set("context", context)
    }

    /// The handler's `initialization`.
    #[must_use]
    pub fn config(mut self, config: impl Into<Json>) -> Self {
        self.fields["handler"]["initialization"] = config.into();
        self
    }

    /// The result of a step before it.
    #[must_use]
    pub fn dependency(mut self, name: &str, result: impl Into<Json>) -> Self {
        self.fields["dependencies"][name] = result.into();
        self
    }

    /// Which attempt it is.
    #[must_use]
    pub fn attempt(self, attempt: i64) -> Self {
        self.set("attempt", attempt)
    }

    /// The step.
    ///
    /// # Panics
    /// If `set` has taken its uuid or attempt away.
    pub fn step(&self) -> Step {
        let value = wire::decode(&crate::step::encoded(&self.fields), usize::MAX).expect("it was written here");
        Step::read(value, self.host.clone()).expect("a step has a uuid and an attempt")
    }

    /// Runs a handler, panics and all.
    pub fn run(&self, handler: impl Handler) -> std::result::Result<Outcome, Failure> {
        let step = self.step();
        let handlers = HashMap::from([(step.0.callable.clone(), Arc::new(handler) as Arc<dyn Handler>)]);
        Registry { handlers, publishers: HashMap::new() }.attempt(&step)
    }

    /// What handlers have told: methods of the protocol and their parameters.
    pub fn told(&self) -> Vec<(String, Json)> {
        lock(&self.host.0).clone()
    }
}

impl Outcome {
    /// The result.
    pub fn result(&self) -> &Json {
        &self.result
    }
}
