//! A worker and a client. `greeter submit NAME` creates a task of `greeter.yaml` and prints the greeting; anything else are options of a worker.
use serde_json::{json, Value};
use std::process::ExitCode;
use std::time::Duration;
use taskerd::{Client, Failure, NewTask, Step, Worker};

fn greet(step: &Step) -> Result<Value, Failure> {
    let name = step.input("name").as_str().ok_or_else(|| Failure::permanent("a name is needed"))?;
    Ok(json!({"greeting": format!("Hello, {name}")}))
}

fn submit(name: &str) -> taskerd::Result<()> {
    let client = Client::connect()?;
    let task = client.create_task(NewTask::new("greeter").namespace("hello").context(json!({"name": name})))?;
    let done = client.wait_for_task(&task.task_uuid, Duration::from_secs(60))?;
    println!("{}: {}", done["state"], done["steps"][0]["result"]);
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, name] = args.as_slice() {
        if command == "submit" {
            return match submit(name) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("{e}");
                    ExitCode::FAILURE
                }
            };
        }
    }
    Worker::builder().name("greeter").handler("hello.greet", greet).main()
}
