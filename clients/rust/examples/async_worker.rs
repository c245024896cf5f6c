//! Handlers that are `async`: hundreds at a time on a few threads.
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use taskerd::{Failure, Step, Worker};

async fn nap(step: Step) -> Result<serde_json::Value, Failure> {
    let ms = step.config()["ms"].as_u64().unwrap_or(10);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(json!({"slept": ms}))
}

#[tokio::main]
async fn main() -> ExitCode {
    let worker = Worker::builder().name("async").max_concurrency(500).async_handler("async.nap", nap);
    tokio::task::spawn_blocking(move || worker.main()).await.unwrap_or(ExitCode::FAILURE)
}
