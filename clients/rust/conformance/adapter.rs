//! The adapter of the Rust client for protocol/conformance.
#![allow(clippy::unnecessary_wraps, missing_docs)]

use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use taskerd::{BatchCounts, Builder, Client, Error, Failure, Handler, IntoOutcome, Json, NewTask, Outcome, Publish, Step, Worker};

fn append(line: &Value) {
    let Some(path) = std::env::var_os("CONFORMANCE_LEDGER") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(path) {
        drop(file.write_all(format!("{line}\n").as_bytes()));
    }
}

fn note(event: &str, handler: &str, step: &Step) {
    append(&json!({"event": event, "handler": handler, "step_uuid": step.uuid(), "attempt": step.attempt(), "pid": std::process::id()}));
}

fn gate(step: &Step) -> PathBuf {
    PathBuf::from(std::env::var_os("CONFORMANCE_GATES").unwrap_or_default()).join(text(step, "gate"))
}

fn text<'a>(step: &'a Step, key: &str) -> &'a str {
    step.config()[key].as_str().unwrap_or_default()
}

fn number(step: &Step, key: &str) -> u64 {
    step.config()[key].as_u64().unwrap_or(0)
}

fn echo(step: &Step) -> Result<Value, Failure> {
    Ok(json!({
        "context": step.context(), "config": step.config(), "inputs": step.inputs(), "results": step.dependencies()?, "attempt": step.attempt(),
        "max_attempts": step.max_attempts(), "task_uuid": step.task_uuid(), "step_uuid": step.uuid(),
    }))
}

fn fail(step: &Step) -> Failure {
    let message = text(step, "message");
    let failure = if step.config()["retryable"] == false { Failure::permanent(message) } else { Failure::retryable(message) };
    failure.kind(text(step, "error_type")).code(text(step, "error_code"))
}

fn ordinary(step: &Step) -> Result<Value, Failure> {
    Err(std::io::Error::other(text(step, "message").to_owned()))?
}

fn retry_after(step: &Step) -> Result<Value, Failure> {
    let seconds = step.config()["seconds"].as_f64().unwrap_or(0.0);
    if step.attempt() == 1 {
        return Err(Failure::retryable("later").retry_after(Duration::from_secs_f64(seconds)));
    }
    Ok(json!({"attempt": step.attempt()}))
}

fn flaky(step: &Step) -> Result<Value, Failure> {
    if step.attempt() <= step.config()["failures"].as_i64().unwrap_or(0) {
        Err(std::io::Error::other("not yet"))?;
    }
    Ok(json!({"attempt": step.attempt()}))
}

fn wait(step: &Step) -> Value {
    while !gate(step).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    json!({"waited": true})
}

fn open(step: &Step) -> Result<Value, Failure> {
    std::fs::write(gate(step), "")?;
    Ok(json!({"opened": text(step, "gate")}))
}

fn sleep_until_cancelled(step: &Step) -> Result<(), Failure> {
    while !step.wait_cancelled(Duration::from_secs(60)) {}
    note("cancelled", "conf.sleep_until_cancelled", step);
    step.check_cancelled()
}

fn hang(_: &Step) {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn cursor(step: &Step) -> u64 {
    step.checkpoint("cursor").as_u64().unwrap_or(0)
}

fn checkpoint(step: &Step) -> Outcome {
    let (total, at) = (number(step, "total"), cursor(step) + number(step, "every"));
    let visits = step.checkpoint("accumulated_results")["visits"].as_u64().unwrap_or(0) + 1;
    if at < total {
        return Outcome::checkpoint_yield(at, at, json!({"visits": visits}));
    }
    Outcome::done(json!({"items": total, "visits": visits}))
}

fn save(step: &Step) -> Result<Value, Failure> {
    let (total, from) = (number(step, "total"), cursor(step));
    let mut at = from + number(step, "every");
    while at < total {
        step.save_checkpoint(at, at, Value::Null)?;
        if step.attempt() == 1 {
            Err(std::io::Error::other("after the first"))?;
        }
        at += number(step, "every");
    }
    Ok(json!({"items": total, "from": from}))
}

fn decision(step: &Step) -> Outcome {
    let names: Vec<&str> = step.config()["steps"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        return Outcome::skip_branches("none");
    }
    Outcome::route(names)
}

fn batch(step: &Step) -> Result<Outcome, Failure> {
    let batch = step.batch().ok_or_else(|| Failure::permanent("no batch worker"))?;
    let range = batch.range();
    if batch.is_no_op {
        return Ok(Outcome::batch_done(BatchCounts::default()));
    }
    let counts = BatchCounts { processed: range.end - range.start, ..BatchCounts::default() };
    Ok(Outcome::batch_done(counts).with("start", range.start).with("end", range.end))
}

fn aggregate(step: &Step) -> Result<Value, Failure> {
    let (workers, all) = step.batch_totals(text(step, "prefix"))?;
    Ok(json!({"total": all.processed, "worker_count": workers}))
}

fn log_line(step: &Step) -> Value {
    let level = text(step, "level").parse().unwrap_or(log::Level::Info);
    log::log!(level, "{}", text(step, "message"));
    json!({"logged": true})
}

fn progress(step: &Step) -> Value {
    let n = json!({"n": number(step, "n")});
    step.heartbeat(&n);
    n
}

struct Methods;

impl Handler for Methods {
    fn call(&self, step: &Step) -> Result<Outcome, Failure> {
        note("begin", "conf.methods", step);
        Ok(Outcome::done(json!({"method": "call"})))
    }

    fn call_method(&self, method: &str, _: &Step) -> Result<Outcome, Failure> {
        match method {
            "other" => Ok(Outcome::done(json!({"method": "other"}))),
            _ => Err(Failure::permanent(format!("conf.methods has no method {method}")).kind("handler_not_found")),
        }
    }
}

fn sizes(step: &Step) -> Result<Value, Failure> {
    let all = step.dependencies()?;
    Ok(all.into_iter().map(|(name, r)| (name, json!(r["blob"].as_str().map_or(0, str::len)))).collect())
}

fn uuids(step: &Step) -> Result<Value, Failure> {
    let names = step.config()["names"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(|name| Ok((name.to_owned(), json!(step.dependency_uuid(name)?)))).collect()
}

#[derive(serde::Serialize)]
struct Number {
    value: f64,
}

fn deep(step: &Step) -> Value {
    let nested = (0..number(step, "depth")).fold(Value::Null, |inner, i| if i == 0 { json!([]) } else { json!([inner]) });
    json!({ "value": nested })
}

fn huge(step: &Step) -> Value {
    json!({"blob": "x".repeat(usize::try_from(number(step, "bytes")).unwrap_or(0))})
}

/// Until it works: the first is taken for a real one by the runtime, which restores what the system does with it, and one that comes while another waits is none.
fn kill_self() {
    loop {
        drop(std::process::Command::new("kill").args(["-SEGV", &std::process::id().to_string()]).status());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn attempts_left(step: &Step) -> bool {
    step.attempt() <= step.config()["attempts"].as_i64().unwrap_or(0)
}

fn crash(step: &Step) -> Value {
    if attempts_left(step) {
        kill_self();
    }
    json!({"survived": true})
}

fn exit(step: &Step) -> Value {
    if attempts_left(step) {
        std::process::exit(3);
    }
    json!({"survived": true})
}

fn garbage(step: &Step) -> Result<Value, Failure> {
    let n = number(step, "bytes");
    let bytes: Vec<u8> = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 7 & 0xFF) as u8).collect();
    std::io::stdout().write_all(&bytes)?;
    std::io::stderr().write_all(&bytes)?;
    Ok(json!({"printed": n}))
}

fn publisher(_: &Value, result: &Value, _: &Step) -> Publish {
    assert!(result["amount"] != 13, "13 brings bad luck");
    if result["amount"].as_i64().is_some_and(|n| n < 0) {
        return Publish::Skip;
    }
    Publish::Payload(json!({"amount": result["amount"], "by": "conf.publisher"}), json!({"note": "conf"}))
}

/// With its beginning noted.
fn noted<R: IntoOutcome>(name: &'static str, body: impl Fn(&Step) -> R + Send + Sync + 'static) -> impl Handler {
    move |step: &Step| {
        note("begin", name, step);
        body(step)
    }
}

fn builder() -> Builder {
    let mut b = Worker::builder().publisher("conf.publisher", publisher).handler("conf.nothing", |_: &Step| ()).handler("conf.methods", Methods);
    macro_rules! handlers {
        ($($name:literal $body:expr;)*) => { $(b = b.handler($name, noted($name, $body));)* };
    }
    handlers! {
        "conf.echo" echo;
        "conf.value" |s: &Step| s.config()["value"].clone();
        "conf.fail" fail;
        "conf.error_retryable" |s: &Step| Failure::retryable(text(s, "message"));
        "conf.error_permanent" |s: &Step| Failure::permanent(text(s, "message")).code(text(s, "error_code"));
        "conf.raise" ordinary;
        "conf.retry_after" retry_after;
        "conf.flaky" flaky;
        "conf.wait" wait;
        "conf.open" open;
        "conf.sleep_until_cancelled" sleep_until_cancelled;
        "conf.hang" hang;
        "conf.checkpoint" checkpoint;
        "conf.save" save;
        "conf.decision" decision;
        "conf.analyze" |s: &Step| Outcome::batches("work", number(s, "total"), number(s, "size"));
        "conf.batch" batch;
        "conf.aggregate" aggregate;
        "conf.event" |s: &Step| json!({"amount": s.config()["amount"]});
        "conf.log" log_line;
        "conf.progress" progress;
        "conf.sizes" sizes;
        "conf.uuids" uuids;
        "conf.nan" |_: &Step| Json(Number { value: f64::NAN });
        "conf.infinite" |_: &Step| Json(Number { value: f64::INFINITY });
        "conf.nul" |_: &Step| json!({"value": "a\0b"});
        "conf.deep" deep;
        "conf.wide" |_: &Step| json!({"value": 9_007_199_254_740_993_i64});
        "conf.huge" huge;
        "conf.crash" crash;
        "conf.exit" exit;
        "conf.garbage_stdout" garbage;
    }
    b
}

fn worker(mut args: impl Iterator<Item = String>) -> ExitCode {
    taskerd::logging::init(log::LevelFilter::Info, None);
    let (mut b, mut rest) = (builder(), Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--concurrency" => {
                let n = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
                b = b.threads(n).max_concurrency(n);
            }
            "--events" => {
                let pattern = args.next().unwrap_or_default();
                b = b.subscribe(&pattern, |e| {
                    append(&json!({"event": "event", "name": e["event_name"], "payload": e["payload"]["payload"], "pid": std::process::id()}));
                });
            }
            _ => rest.push(arg),
        }
    }
    b.main_with(rest.into_iter())
}

fn shown(task: &Value) -> Value {
    json!({"task_uuid": task["task_uuid"], "name": task["name"], "namespace": task["namespace"], "status": task["state"], "context": task["context"]})
}

fn call(line: &Value, socket: &str) -> Result<Value, Error> {
    let args = &line["args"];
    let client = Client::builder().socket(line["socket"].as_str().unwrap_or(socket)).connect()?;
    let uuid = args["task_uuid"].as_str().unwrap_or_default();
    match line["call"].as_str().unwrap_or_default() {
        "create_task" => {
            let mut task = NewTask::new(args["name"].as_str().unwrap_or_default());
            for (key, value) in args.as_object().into_iter().flatten() {
                task = task.set(key, value.clone());
            }
            client.create_task(task).map(|made| json!({"task_uuid": made.task_uuid}))
        }
        "get_task" => client.task(uuid).map(|t| shown(&t)),
        "list_tasks" => client.list_tasks(args).map(|page| json!({"tasks": page["tasks"].as_array().into_iter().flatten().map(shown).collect::<Vec<_>>()})),
        "list_task_steps" => {
            let steps = client.steps(uuid)?;
            Ok(steps.iter().map(|s| json!({"name": s["name"], "current_state": s["state"]})).collect())
        }
        "wait_for_task" => client.wait_for_task(uuid, Duration::from_secs_f64(args["timeout"].as_f64().unwrap_or(30.0))).map(|t| shown(&t)),
        "cancel_task" => client.cancel_task(uuid, None),
        "health_check" => client.request("ping", &json!({})).map(|_| json!({"healthy": true})),
        _ => client.request(args["method"].as_str().unwrap_or_default(), &args["params"]),
    }
}

fn client(socket: &str) -> ExitCode {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        let answer = match call(&line, socket) {
            Ok(value) => json!({"ok": value}),
            Err(e) => json!({"error": {"code": e.code, "message": e.to_string(), "retryable": e.is_retryable()}}),
        };
        println!("{answer}");
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    match (command.as_str(), args.collect::<Vec<_>>().as_slice()) {
        ("worker", rest) => worker(rest.iter().cloned()),
        ("client", [_, socket]) => client(socket),
        ("replay", [option, socket, step]) => builder().main_with([option.clone(), socket.clone(), "--replay".into(), step.clone()].into_iter()),
        _ => ExitCode::from(2),
    }
}
