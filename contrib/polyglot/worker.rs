//! One more than the step before.
use serde_json::{json, Value};
use std::process::ExitCode;
use taskerd::{Failure, Step, Worker};

fn count(step: &Step) -> Result<Value, Failure> {
    let after = step.config()["after"].as_str().unwrap_or_default();
    let before = step.dependency(after)?;
    Ok(json!({"n": before["n"].as_i64().unwrap_or(-2) + 1, "language": "Rust", "runtime": env!("RUSTC_VERSION")}))
}

fn main() -> ExitCode {
    Worker::builder().name("rust").handler("polyglot.rust", count).main()
}
