//! One attempt of a step, in the hands of its handler.

use crate::error::{Error, Result};
use crate::outcome::{BatchCounts, Failure};
use crate::wire::{self, Value};
use serde::de::DeserializeOwned;
use serde_json::{json, Map, Value as Json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a step asks of whoever gave it.
pub(crate) trait Host: Send + Sync {
    fn notify(&self, method: &'static str, params: Vec<u8>);
    fn request(&self, method: &'static str, params: Vec<u8>) -> Result<Value>;
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Step and attempt; results that wait for their acknowledgement share it.
pub(crate) type Key = Arc<(String, i64)>;

pub(crate) struct Inner {
    pub key: Key,
    pub claim: Value,
    pub callable: String,
    pub method: Option<String>,
    pub resolver: Option<String>,
    context: Json,
    inputs: Json,
    config: Json,
    dependencies: Json,
    checkpoint: Json,
    declared: Vec<Json>,
    /// All other fields; as JSON once somebody asks for them.
    rest: Value,
    rest_json: OnceLock<Json>,
    cancelled: AtomicBool,
    reason: Mutex<Option<String>>,
    told: Condvar,
    #[cfg(feature = "tokio")]
    pub notify: tokio::sync::Notify,
    events: Mutex<Vec<Json>>,
    host: Arc<dyn Host>,
}

/// A step: what its handler can read, ask and tell. Cheap to clone.
#[derive(Clone)]
pub struct Step(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("uuid", &self.uuid()).field("name", &self.name()).field("attempt", &self.attempt()).finish_non_exhaustive()
    }
}

/// A batch worker's part of the work.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its name among the batches.
    pub id: String,
    /// The first cursor, and the one behind the last.
    pub start: Json,
    /// See `start`.
    pub end: Json,
    /// Number of items.
    pub size: u64,
    /// There is nothing to do: return anything.
    pub is_no_op: bool,
}

impl Batch {
    /// The cursors as numbers, if that is what they are.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start.as_u64().unwrap_or(0)..self.end.as_u64().unwrap_or(0)
    }
}

static NULL: Json = Json::Null;

/// Results of ancestors that were asked for, and the numbers of their steps.
#[derive(Default)]
struct Fetched {
    results: Map<String, Json>,
    numbers: HashMap<String, u64>,
}

impl Fetched {
    fn add(&mut self, results: Option<Value>, numbers: Option<Value>) {
        let (results, numbers) = (results.map_or(Json::Null, Value::into_json), numbers.map_or(Json::Null, Value::into_json));
        let Json::Object(more) = &results else { return };
        self.numbers.extend(more.keys().filter_map(|name| Some((name.clone(), number_of(&results, &numbers, name)?))));
        if let Json::Object(more) = results {
            self.results.extend(more);
        }
    }
}

/// `dependency_steps` are in the order of the names' bytes.
fn number_of(results: &Json, numbers: &Json, name: &str) -> Option<u64> {
    let names = results.as_object().filter(|names| names.contains_key(name))?;
    numbers.as_array().filter(|all| all.len() == names.len())?[names.keys().filter(|other| other.as_str() < name).count()].as_u64()
}

fn unknown(name: &str) -> Error {
    Error::new("not_found", format!("no completed ancestor step is called {name}"))
}

impl Step {
    /// `None` if there is nothing to answer with.
    pub(crate) fn read(mut v: Value, host: Arc<dyn Host>) -> Option<Self> {
        let key = Arc::new((v.str("step_uuid")?.to_owned(), v.int("attempt")?));
        let text = |v: Option<Value>| match v {
            Some(Value::Str(s)) => Some(s),
            _ => None,
        };
        let claim = v.take("claim").unwrap_or(Value::Nil);
        let mut json = |k: &str| v.take(k).map_or(Json::Null, Value::into_json);
        let (context, inputs, dependencies, checkpoint) = (json("context"), json("inputs"), json("dependencies"), json("checkpoint"));
        let declared = match json("publishes_events") {
            Json::Array(events) => events,
            _ => Vec::new(),
        };
        let mut handler = v.take("handler").unwrap_or(Value::Nil);
        Some(Step(Arc::new(Inner {
            key,
            claim,
            callable: text(handler.take("callable")).unwrap_or_default(),
            method: text(handler.take("method")),
            resolver: text(handler.take("resolver")),
            context,
            inputs,
            config: handler.take("initialization").map_or(Json::Null, Value::into_json),
            dependencies,
            checkpoint,
            declared,
            rest: v,
            rest_json: OnceLock::new(),
            cancelled: AtomicBool::new(false),
            reason: Mutex::new(None),
            told: Condvar::new(),
            #[cfg(feature = "tokio")]
            notify: tokio::sync::Notify::new(),
            events: Mutex::new(Vec::new()),
            host,
        })))
    }

    // ---- reading ----

    /// The step's uuid.
    pub fn uuid(&self) -> &str {
        &self.0.key.0
    }

    /// Its task's.
    pub fn task_uuid(&self) -> &str {
        self.text("task_uuid")
    }

    /// Its name in the task.
    pub fn name(&self) -> &str {
        self.text("step")
    }

    /// The task's namespace.
    pub fn namespace(&self) -> &str {
        self.text("namespace")
    }

    /// 1 for the first try.
    pub fn attempt(&self) -> i64 {
        self.0.key.1
    }

    /// Tries allowed in all.
    pub fn max_attempts(&self) -> i64 {
        self.0.rest.int("max_attempts").unwrap_or(1)
    }

    /// Whether a failure now would be the last.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.max_attempts()
    }

    /// What the task was created with.
    pub fn context(&self) -> &Json {
        &self.0.context
    }

    /// A field of the context; `Null` if it is absent.
    pub fn input(&self, key: &str) -> &Json {
        self.0.context.get(key).unwrap_or(&NULL)
    }

    /// The context, or the failure that it is something else: that is final.
    pub fn context_as<T: DeserializeOwned>(&self) -> std::result::Result<T, Failure> {
        typed(&self.0.context, "the task's context")
    }

    /// The handler's `initialization` in the template.
    pub fn config(&self) -> &Json {
        &self.0.config
    }

    /// Inputs of this instance of the step; without any, the handler's `initialization`.
    pub fn inputs(&self) -> &Json {
        if self.0.inputs.is_null() {
            &self.0.config
        } else {
            &self.0.inputs
        }
    }

    /// What came with the step besides: `template`, `version`, `priority`, `correlation_id`, `traceparent`, `timeout_ms`, ...
    pub fn field(&self, key: &str) -> &Json {
        self.0.rest_json.get_or_init(|| self.0.rest.clone().into_json()).get(key).unwrap_or(&NULL)
    }

    fn text(&self, key: &str) -> &str {
        self.0.rest.str(key).unwrap_or_default()
    }

    fn is_partial(&self) -> bool {
        self.0.rest.bool("dependencies_partial").unwrap_or(false)
    }

    /// The result of an ancestor step, `Null` if it completed with nothing. One that was left out for its size is asked for.
    pub fn dependency(&self, name: &str) -> Result<Json> {
        if let Some(result) = self.0.dependencies.get(name) {
            return Ok(result.clone());
        }
        let found = if self.is_partial() { self.fetch(Some(&[name]))?.results.remove(name) } else { None };
        found.ok_or_else(|| unknown(name))
    }

    /// The uuid of an ancestor step that has completed.
    pub fn dependency_uuid(&self, name: &str) -> Result<String> {
        let mut number = number_of(&self.0.dependencies, self.field("dependency_steps"), name);
        if number.is_none() && self.is_partial() {
            number = self.fetch(Some(&[name]))?.numbers.remove(name);
        }
        let stem = self.task_uuid().get(..30).unwrap_or_default();
        number.map(|n| format!("{stem}{:06x}", n + 1)).ok_or_else(|| unknown(name))
    }

    /// The same as a type of the program's.
    pub fn dependency_as<T: DeserializeOwned>(&self, name: &str) -> std::result::Result<T, Failure> {
        typed(&self.dependency(name)?, name)
    }

    /// The results of all ancestors by name.
    pub fn dependencies(&self) -> Result<Map<String, Json>> {
        if self.is_partial() {
            return Ok(self.fetch(None)?.results);
        }
        Ok(self.0.dependencies.as_object().cloned().unwrap_or_default())
    }

    fn fetch(&self, names: Option<&[&str]>) -> Result<Fetched> {
        let mut found = Fetched::default();
        let mut cursor: Option<String> = None;
        loop {
            let mut params = json!({"step_uuid": self.uuid()});
            if let Some(names) = names {
                params["names"] = json!(names);
            }
            if let Some(cursor) = cursor {
                params["cursor"] = json!(cursor);
            }
            let mut page = self.0.host.request("step.dependencies", encoded(&params))?;
            found.add(page.take("dependencies"), page.take("dependency_steps"));
            cursor = page.str("next_cursor").map(Into::into);
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    /// A field of the last checkpoint: `cursor`, `items_processed`, `accumulated_results`; `Null` without one.
    pub fn checkpoint(&self, key: &str) -> &Json {
        self.0.checkpoint.get(key).unwrap_or(&NULL)
    }

    /// The part of a batch worker; `None` for other steps.
    pub fn batch(&self) -> Option<Batch> {
        let inputs = &self.0.inputs;
        let is_no_op = inputs.get("is_no_op").and_then(Json::as_bool).unwrap_or(false);
        let cursor = match inputs.get("cursor") {
            Some(c @ Json::Object(_)) => c,
            _ if is_no_op => &NULL,
            _ => return None,
        };
        Some(Batch {
            id: cursor.get("batch_id").and_then(Json::as_str).unwrap_or_default().into(),
            start: cursor.get("start_cursor").cloned().unwrap_or_default(),
            end: cursor.get("end_cursor").cloned().unwrap_or_default(),
            size: cursor.get("batch_size").and_then(Json::as_u64).unwrap_or(0),
            is_no_op,
        })
    }

    /// Adds up the results of batch workers whose names begin with `prefix`; how many there were, and the sums.
    pub fn batch_totals(&self, prefix: &str) -> Result<(usize, BatchCounts)> {
        let all = self.dependencies()?;
        let mut sum = BatchCounts { succeeded: Some(0), ..BatchCounts::default() };
        let mut workers = 0;
        for (_, result) in all.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let number = |key: &str| result.get(key).and_then(Json::as_u64);
            let (processed, failed) = (number("items_processed").unwrap_or(0), number("items_failed").unwrap_or(0));
            let succeeded = number("items_succeeded").unwrap_or(processed.saturating_sub(failed));
            workers += 1;
            sum.processed += processed;
            sum.failed += failed;
            sum.skipped += number("items_skipped").unwrap_or(0);
            sum.succeeded = sum.succeeded.map(|n| n + succeeded);
        }
        Ok((workers, sum))
    }

    // ---- being stopped ----

    /// The daemon wants this attempt to stop; what it returns no longer counts.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Why: `timeout`, `task_cancelled`, `batch_failed`, `stale`, `shutdown`.
    pub fn cancel_reason(&self) -> Option<String> {
        lock(&self.0.reason).clone()
    }

    /// Instead of sleeping: waits so long, or until the step is cancelled (true).
    pub fn wait_cancelled(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut reason = lock(&self.0.reason);
        while reason.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            reason = self.0.told.wait_timeout(reason, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// For `async` handlers: resolves when the step is cancelled.
    #[cfg(feature = "tokio")]
    pub async fn cancelled(&self) {
        while !self.is_cancelled() {
            let told = self.0.notify.notified();
            if !self.is_cancelled() {
                told.await;
            }
        }
    }

    /// The failure of a handler that stops because it was told to; `Ok` while it was not.
    pub fn check_cancelled(&self) -> std::result::Result<(), Failure> {
        match self.cancel_reason() {
            Some(reason) => Err(Failure::library("cancelled", true, format!("cancelled: {reason}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn cancel(&self, why: &str) {
        *lock(&self.0.reason) = Some(why.into());
        self.0.cancelled.store(true, Ordering::Release);
        self.0.told.notify_all();
        #[cfg(feature = "tokio")]
        self.0.notify.notify_waiters();
    }

    // ---- telling ----

    /// Tells people how far the step is.
    pub fn heartbeat(&self, progress: &Json) {
        let params = json!({"step_uuid": self.uuid(), "attempt": self.attempt(), "progress": progress});
        if wire::check_json(&params).is_ok() {
            self.0.host.notify("step.heartbeat", encoded(&params));
        }
    }

    /// A line in the daemon's log, with the ids of task and step. `level`: `trace`, `debug`, `info`, `warn`, `error`.
    pub fn log(&self, level: &str, message: &str) {
        let params = json!({"step_uuid": self.uuid(), "level": level, "message": message.replace('\0', "\\0")});
        self.0.host.notify("step.log", encoded(&params));
    }

    /// Stores a checkpoint; returns when it is durable. An error with the code `stale` means: stop.
    pub fn save_checkpoint(&self, cursor: impl Into<Json>, items_processed: u64, accumulated: impl Into<Json>) -> Result<()> {
        let mut fields = json!({"cursor": cursor.into(), "items_processed": items_processed});
        let accumulated = accumulated.into();
        if !accumulated.is_null() {
            fields["accumulated_results"] = accumulated;
        }
        wire::check_json(&fields).map_err(|why| Error::new("invalid_value", why))?;
        let Json::Object(fields) = fields else { unreachable!("it was made as a map") };
        let mut params = Vec::new();
        wire::put_map(&mut params, fields.len() + 3);
        self.put_identity(&mut params);
        for (key, value) in &fields {
            wire::put_str(&mut params, key);
            wire::put_json(&mut params, value);
        }
        let answer = self.0.host.request("step.checkpoint", params)?;
        match answer.str("status") {
            Some("recorded") | None => Ok(()),
            Some("rejected") => Err(Error::new("too_large", "the daemon cannot store the checkpoint")),
            Some(status) => Err(Error::new("stale", format!("this attempt is not current any more ({status})"))),
        }
    }

    /// Gives an event that the template declares for this step another payload, and more metadata (a map or `Null`).
    pub fn publish(&self, event: &str, payload: impl Into<Json>, metadata: impl Into<Json>) {
        let mut entry = json!({"name": event, "payload": payload.into()});
        let metadata = metadata.into();
        if !metadata.is_null() {
            entry["metadata"] = metadata;
        }
        lock(&self.0.events).push(entry);
    }

    /// Leaves out an event that the template declares.
    pub fn skip_event(&self, event: &str) {
        lock(&self.0.events).push(json!({"name": event, "skip": true}));
    }

    /// The events that the template declares for this step.
    pub fn declared_events(&self) -> &[Json] {
        &self.0.declared
    }

    pub(crate) fn events(&self) -> Vec<Json> {
        lock(&self.0.events).clone()
    }

    /// Three entries of a map: which step, which attempt, and the proof.
    pub(crate) fn put_identity(&self, out: &mut Vec<u8>) {
        wire::put_str(out, "step_uuid");
        wire::put_str(out, self.uuid());
        wire::put_str(out, "attempt");
        wire::put_int(out, self.attempt());
        wire::put_str(out, "claim");
        wire::put(out, &self.0.claim);
    }
}

pub(crate) fn encoded(params: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_json(&mut out, params);
    out
}

fn typed<T: DeserializeOwned>(value: &Json, what: &str) -> std::result::Result<T, Failure> {
    T::deserialize(value).map_err(|e| Failure::library("validation_error", false, format!("{what}: {e}")))
}
