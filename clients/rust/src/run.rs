//! One attempt: call the handler, and turn what comes out into an entry of `step.result`.

use crate::handler::{Handler, Publish, Publisher};
use crate::outcome::{unsendable, Failure, Outcome};
use crate::step::Step;
use crate::wire;
use serde_json::{json, Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Once};
use std::time::Instant;

const MAX_MESSAGE: usize = 16_384;
const MAX_BACKTRACE: usize = 64;
/// Bytes and items of a frame that are not the result's.
const OVERHEAD: usize = 512;

thread_local! {
    /// The step that runs on this thread: for logs.
    pub(crate) static CURRENT: RefCell<Option<Step>> = const { RefCell::new(None) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

pub(crate) struct Registry {
    pub handlers: HashMap<String, Arc<dyn Handler>>,
    pub publishers: HashMap<String, Arc<dyn Publisher>>,
}

pub(crate) type Attempt = Result<Outcome, Failure>;

/// Remembers where handlers panic, and leaves the rest to the hook there was.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|l| format!("at {}:{}:{}", l.file(), l.line(), l.column()));
            PANIC.with(|p| *p.borrow_mut() = place);
            before(info);
        }));
    });
}

pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Failure {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    let mut failure = Failure::library("handler_panic", true, text.unwrap_or_else(|| "the handler panicked".into()));
    failure.0.backtrace.extend(PANIC.with(|p| p.borrow_mut().take()));
    failure
}

/// Whether the step may be given to its handler.
pub(crate) fn may_begin(step: &Step) -> Result<(), Failure> {
    if let Some(reason) = step.cancel_reason() {
        return Err(Failure::library("cancelled", true, format!("cancelled before it began: {reason}")));
    }
    match &step.0.resolver {
        Some(resolver) => Err(Failure::library("handler_not_found", false, format!("handler {:?}: there is no resolver {resolver:?}", step.0.callable))),
        None => Ok(()),
    }
}

/// Runs a part of the step's handler on this thread, as that step for logs; a panic is a failure.
pub(crate) fn guarded<T>(step: &Step, part: impl FnOnce() -> T) -> Result<T, Failure> {
    watch_panics();
    CURRENT.with(|c| *c.borrow_mut() = Some(step.clone()));
    let called = catch_unwind(AssertUnwindSafe(part));
    CURRENT.with(|c| *c.borrow_mut() = None);
    called.map_err(|payload| panicked(&*payload))
}

impl Registry {
    pub fn find(&self, step: &Step) -> Result<&Arc<dyn Handler>, Failure> {
        self.handlers
            .get(&step.0.callable)
            .ok_or_else(|| Failure::library("handler_not_found", false, format!("this worker has no handler {:?}", step.0.callable)))
    }

    /// Runs the handler on this thread; never panics.
    pub fn attempt(&self, step: &Step) -> Attempt {
        may_begin(step)?;
        let handler = self.find(step)?;
        guarded(step, || match step.0.method.as_deref() {
            None | Some("call") => handler.call(step),
            Some(method) => handler.call_method(method, step),
        })?
    }

    fn publish(&self, step: &Step, attempt: &Attempt) -> Vec<Value> {
        let mut events = step.events();
        for event in step.declared_events() {
            let Some(publisher) = event["publisher"].as_str().and_then(|name| self.publishers.get(name)) else { continue };
            let body = match attempt {
                Ok(outcome) => outcome.result.clone(),
                Err(failure) => Value::Object(error_fields(failure)),
            };
            let made = catch_unwind(AssertUnwindSafe(|| publisher.publish(event, &body, step))).unwrap_or_else(|payload| Publish::Failed(panicked(&*payload).0.message));
            events.extend(match made {
                Publish::Default => None,
                Publish::Skip => Some(json!({"name": event["name"], "skip": true})),
                Publish::Failed(why) => Some(json!({"name": event["name"], "failed": cut(&why, 300)})),
                Publish::Payload(payload, Value::Null) => Some(json!({"name": event["name"], "payload": payload})),
                Publish::Payload(payload, metadata) => Some(json!({"name": event["name"], "payload": payload, "metadata": metadata})),
            });
        }
        events
    }

    /// The packed entry for an attempt; of a failure that says why if it cannot be sent.
    pub fn encode(&self, step: &Step, attempt: &Attempt, began: Option<Instant>, room: (usize, usize)) -> Vec<u8> {
        let events = self.publish(step, attempt);
        let checked = match attempt {
            Ok(outcome) => wire::check_json(&outcome.result).map_err(|why| unsendable(&why)),
            Err(_) => Ok(()),
        };
        let left_out: Vec<Value> = events.iter().map(|e| json!({"name": e["name"], "failed": "too large to be sent with the result"})).collect();
        let fits = |packed: &[u8]| packed.len() + OVERHEAD <= room.0 && (packed.len() + OVERHEAD <= room.1 || wire::count(packed) + OVERHEAD <= room.1);
        let failed = match checked {
            Err(failure) => failure,
            Ok(()) => {
                let packed = entry(step, attempt, &events, began, true);
                if fits(&packed) {
                    return packed;
                }
                match attempt {
                    Err(failure) => {
                        let mut shorter = failure.clone();
                        shorter.0.context.clear();
                        shorter
                    }
                    Ok(_) if !events.is_empty() && fits(&entry(step, attempt, &left_out, began, true)) => return entry(step, attempt, &left_out, began, true),
                    Ok(_) => Failure::library(
                        "result_too_large",
                        false,
                        format!("the handler's result cannot be sent: {} bytes, the daemon takes {}", packed.len(), room.0),
                    ),
                }
            }
        };
        entry(step, &Err(failed), &[], began, false)
    }
}

/// At most so many characters of a text, in a form that can be stored.
fn cut(s: &str, n: usize) -> String {
    s.chars().take(n).collect::<String>().replace('\0', "\\0")
}

fn error_fields(failure: &Failure) -> Map<String, Value> {
    let f = &failure.0;
    let mut fields = Map::new();
    fields.insert("message".into(), cut(&f.message, MAX_MESSAGE).into());
    fields.insert("error_type".into(), cut(&f.error_type, 128).into());
    fields.insert("retryable".into(), f.retryable.into());
    if let Some(code) = &f.error_code {
        fields.insert("error_code".into(), cut(code, 128).into());
    }
    if let Some(status) = f.status_code {
        fields.insert("status_code".into(), status.into());
    }
    if !f.backtrace.is_empty() {
        let lines: Vec<String> = f.backtrace.iter().take(MAX_BACKTRACE).map(|l| cut(l, 1024)).collect();
        fields.insert("backtrace".into(), lines.into());
    }
    if !f.context.is_empty() && wire::check_json(&Value::Object(f.context.clone())).is_ok() {
        fields.insert("context".into(), Value::Object(f.context.clone()));
    }
    fields
}

fn entry(step: &Step, attempt: &Attempt, events: &[Value], began: Option<Instant>, extras: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let metadata = match attempt {
        Ok(outcome) if extras && !outcome.metadata.is_empty() => Some(&outcome.metadata),
        _ => None,
    };
    let delay = attempt.as_ref().err().filter(|f| f.is_retryable()).and_then(Failure::delay);
    let n = 5 + usize::from(metadata.is_some()) + usize::from(delay.is_some()) + usize::from(!events.is_empty()) + usize::from(began.is_some());
    wire::put_map(&mut out, n);
    step.put_identity(&mut out);
    wire::put_str(&mut out, "success");
    wire::put_bool(&mut out, attempt.is_ok());
    match attempt {
        Ok(outcome) => {
            wire::put_str(&mut out, "result");
            wire::put_json(&mut out, &outcome.result);
        }
        Err(failure) => {
            wire::put_str(&mut out, "error");
            wire::put_object(&mut out, &error_fields(failure));
        }
    }
    if let Some(metadata) = metadata {
        wire::put_str(&mut out, "metadata");
        wire::put_object(&mut out, metadata);
    }
    if let Some(delay) = delay {
        wire::put_str(&mut out, "retry_after_ms");
        wire::put_int(&mut out, i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    }
    if !events.is_empty() {
        wire::put_str(&mut out, "events");
        wire::put_array(&mut out, events.len());
        events.iter().for_each(|e| wire::put_json(&mut out, e));
    }
    if let Some(began) = began {
        wire::put_str(&mut out, "execution_ms");
        wire::put_float(&mut out, began.elapsed().as_secs_f64() * 1000.0);
    }
    out
}

/// The attempt as people see it in a replay.
pub(crate) fn shown(attempt: &Attempt) -> Value {
    match attempt {
        Ok(outcome) => json!({"success": true, "result": outcome.result}),
        Err(failure) => json!({"success": false, "error": error_fields(failure)}),
    }
}
