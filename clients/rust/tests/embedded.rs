//! A daemon of a test's own: `$TASKERD_PROGRAM` names it; without, there is nothing to try.
#![allow(missing_docs)]

use serde_json::json;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use taskerd::testing::Embedded;
use taskerd::{Client, Failure, Step, Worker};

const ONE: &str = r#"{"name": "one", "namespace_name": "test", "version": "1.0.0", "steps": [{"name": "only", "handler": {"callable": "only"}}]}"#;

fn there() -> bool {
    std::env::var_os("TASKERD_PROGRAM").is_some()
}

fn wait_until(what: &str, true_: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !true_() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ended(socket: &Path) -> bool {
    Client::builder().socket(socket).connect().is_err() && !socket.parent().unwrap().exists()
}

#[test]
fn gone_after_a_panic() {
    if !there() {
        return;
    }
    let mut socket = PathBuf::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let daemon = Embedded::start().unwrap();
        socket = daemon.socket().to_owned();
        let handlers = Worker::builder().handler("only", |_: &Step| Failure::permanent("no money"));
        daemon.run(ONE, json!({}), handlers).unwrap().complete();
    }));
    let said = panicked.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(*said, "task one is blocked_by_failures\n  only: no money");
    assert!(ended(&socket));
}

/// Begins a daemon, says where, and ends without a word: as another process, by the test below.
#[test]
#[ignore = "aborts"]
fn aborts() {
    let daemon = Embedded::start().unwrap();
    let done = daemon.run(ONE, json!({}), Worker::builder().handler("only", |_: &Step| json!({}))).unwrap().complete();
    assert_eq!(done.result("only"), &json!({}));
    std::fs::write(std::env::var_os("PLACE").unwrap(), daemon.socket().to_str().unwrap()).unwrap();
    std::process::abort();
}

#[test]
fn gone_after_an_abort() {
    if !there() {
        return;
    }
    let place = std::env::temp_dir().join(format!("taskerd-abort-{}", std::process::id()));
    let done = Command::new(std::env::current_exe().unwrap()).args(["--exact", "aborts", "--ignored", "--nocapture"]).env("PLACE", &place).output().unwrap();
    let socket = std::fs::read_to_string(&place).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)));
    std::fs::remove_file(&place).unwrap();
    wait_until("the daemon to be gone", || ended(Path::new(&socket)));
}

#[test]
fn one_that_does_not_start() {
    let why = Embedded::start_program(Path::new("/bin/false")).err().unwrap();
    assert!(why.message.starts_with("taskerd has ended:"), "{why}");
}
