//! A worker for random workflows under faults (tests/faults): `t.play` as tests/integration/handlers/play.py has it. What a step does stands in
//! its task's context, by step and attempt; each execution first appends a line to the ledger.
#![allow(clippy::unnecessary_wraps, missing_docs)]

use serde_json::{json, Value};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use taskerd::{Failure, Outcome, Step, Worker};

fn place(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).expect("the ledger and the gates are named in the environment"))
}

/// The epoch of the task, after the line in the ledger.
fn begin(step: &Step) -> std::io::Result<&'static str> {
    let line = format!("{} {} {} {}\n", step.task_uuid(), step.name(), step.attempt(), std::process::id());
    std::fs::OpenOptions::new().append(true).open(place("TASKERD_TEST_LEDGER"))?.write_all(line.as_bytes())?;
    let gate = place("TASKERD_TEST_GATES").join(format!("epoch-{}", step.task_uuid()));
    Ok(if gate.exists() { "1" } else { "0" })
}

fn named(names: &Value, number: &str) -> Value {
    number.parse::<usize>().map_or(Value::Null, |n| names[n].clone())
}

fn decision(steps: &[Value]) -> Value {
    json!({"type": "create_steps", "step_names": steps})
}

fn batches(worker: &Value, count: u64) -> Value {
    let cursors: Vec<Value> =
        (0..count).map(|k| json!({"batch_id": format!("{:03}", k + 1), "start_cursor": 10 * k, "end_cursor": 10 * k + 10, "batch_size": 10})).collect();
    json!({"type": "create_batches", "worker_template_name": worker, "worker_count": count, "total_items": 10 * count, "cursor_configs": cursors})
}

/// The result that a word stands for; `names` are those of the template's steps.
fn outcome(word: &str, names: &Value) -> Value {
    let words: Vec<&str> = word.split(':').collect();
    match words[..] {
        ["names", numbers] => json!({"decision_point_outcome": decision(&numbers.split(',').map(|n| named(names, n)).collect::<Vec<_>>())}),
        ["none"] => json!({"decision_point_outcome": {"type": "no_branches"}}),
        ["batches", worker, count] => json!({"batch_processing_outcome": batches(&named(names, worker), count.parse().unwrap_or(0))}),
        ["nobatches", "-1"] => json!({"batch_processing_outcome": {"type": "no_batches"}}),
        ["nobatches", worker] => json!({"batch_processing_outcome": {"type": "no_batches", "worker_template_name": named(names, worker)}}),
        ["bad"] => json!({"decision_point_outcome": decision(&[json!("nobody")]), "batch_processing_outcome": batches(&json!("nobody"), 1)}),
        _ => json!({"said": word}),
    }
}

fn play(step: &Step) -> Result<Outcome, Failure> {
    let epoch = begin(step)?;
    let words = step.context()["do"][epoch][step.name()].as_array().map_or(&[][..], Vec::as_slice);
    let at = usize::try_from(step.attempt()).unwrap_or(1).min(words.len()).saturating_sub(1);
    match words.get(at).and_then(Value::as_str).unwrap_or("ok") {
        "retry" => Err(Failure::retryable("asked to fail")),
        "delay" => Err(Failure::retryable("asked to fail").retry_after(Duration::from_millis(20))),
        "perm" => Err(Failure::permanent("asked to fail for good")),
        "yield" if step.checkpoint("cursor").is_null() => Ok(Outcome::checkpoint_yield(5, 5, json!({"pid": std::process::id()}))),
        word => Ok(Outcome::done(outcome(word, &step.context()["names"]))),
    }
}

fn main() -> ExitCode {
    Worker::builder().handler("t.play", play).main()
}
