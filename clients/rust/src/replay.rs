//! Replay: a recorded step is run again here, with what the daemon has of it, and nothing is recorded.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::run::shown;
use crate::step::{encoded, Host, Step};
use crate::wire::{self, Value};
use crate::worker::Worker;
use serde_json::{json, Map, Value as Json};
use std::collections::HashSet;
use std::sync::Arc;

/// Digits at the end of a step's uuid that are zeros in its task's.
const STEP_DIGITS: usize = 6;

/// Shows what would be told; nothing was left out of the step.
struct Shown;

impl Shown {
    fn show(method: &str, params: &[u8]) {
        let params = wire::decode(params, usize::MAX).map_or(Json::Null, Value::into_json);
        eprintln!("{method} {params}");
    }
}

impl Host for Shown {
    fn notify(&self, method: &'static str, params: Vec<u8>) {
        Shown::show(method, &params);
    }

    fn request(&self, method: &'static str, params: Vec<u8>) -> Result<Value> {
        Shown::show(method, &params);
        Ok(Value::Map(Vec::new()))
    }
}

fn template_name(row: &Json) -> &str {
    row["template_step"].as_str().or_else(|| row["name"].as_str()).unwrap_or_default()
}

fn rows(v: &Json) -> &[Json] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn ancestors<'a>(steps: &'a [Json], definition: &'a Json) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    let mut todo: Vec<&str> = rows(&definition["depends_on"]).iter().filter_map(Json::as_str).collect();
    while let Some(name) = todo.pop() {
        if found.insert(name) {
            let parents = steps.iter().find(|s| s["name"] == name).map_or(&[][..], |s| rows(&s["depends_on"]));
            todo.extend(parents.iter().filter_map(Json::as_str));
        }
    }
    found
}

/// The step as `step.execute` brings it.
fn recorded_step(task: &Json, row: &Json, template: &Json) -> Result<Json> {
    let steps = rows(&template["steps"]);
    let definition = steps
        .iter()
        .find(|s| s["name"] == template_name(row))
        .ok_or_else(|| Error::new("not_found", format!("the template has no step {}", template_name(row))))?;
    let before = ancestors(steps, definition);
    let done: Map<String, Json> = rows(&task["steps"])
        .iter()
        .filter(|r| matches!(r["state"].as_str(), Some("complete" | "resolved_manually")) && before.contains(template_name(r)))
        .map(|r| (r["name"].as_str().unwrap_or_default().to_owned(), r["result"].clone()))
        .collect();
    Ok(json!({
        "step_uuid": row["step_uuid"], "task_uuid": task["task_uuid"], "attempt": row["attempts"].as_i64().unwrap_or(1).max(1),
        "max_attempts": row["max_attempts"], "namespace": task["namespace"], "template": task["name"], "version": task["version"],
        "step": row["name"], "template_step": definition["name"], "handler": definition["handler"], "context": task["context"],
        "inputs": row["inputs"], "checkpoint": row["checkpoint"], "dependencies": done, "priority": task["priority"],
        "correlation_id": task["correlation_id"],
    }))
}

impl Worker {
    /// Runs the handler of a recorded step again, here, and gives its result beside the recorded one: `{step, handler, recorded, replayed, same}`. Nothing is
    /// recorded.
    pub fn replay(&self, step_uuid: &str) -> Result<Json> {
        let client = Client::builder().socket(self.socket_path()).connect()?;
        let stem = step_uuid.len().checked_sub(STEP_DIGITS).and_then(|n| step_uuid.get(..n)).unwrap_or_default();
        let task = client.task(&format!("{stem}000000"))?;
        let row = rows(&task["steps"]).iter().find(|r| r["step_uuid"] == step_uuid);
        let row = row.ok_or_else(|| Error::new("not_found", format!("there is no step {step_uuid}")))?;
        let template = client.request("template.get", &json!({"namespace": task["namespace"], "name": task["name"], "version": task["version"]}))?;
        let fields = recorded_step(&task, row, &template)?;
        let value = wire::decode(&encoded(&fields), usize::MAX).map_err(|why| Error::new("protocol_error", why))?;
        let step = Step::read(value, Arc::new(Shown)).ok_or_else(|| Error::new("not_found", "the step has no uuid"))?;
        let attempt = self.attempt_here(&step).map_err(|failure| Error::new("not_found", failure.message()))?;
        let same = matches!(&attempt, Ok(outcome) if outcome.result == row["result"]);
        Ok(json!({
            "step": row["name"], "handler": fields["handler"]["callable"],
            "recorded": {"state": row["state"], "attempts": row["attempts"], "result": row["result"], "error": row["error"]},
            "replayed": shown(&attempt), "same": same,
        }))
    }
}
