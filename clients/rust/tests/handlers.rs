//! Handlers without a daemon.
#![allow(missing_docs)]

use serde_json::{json, Value};
use std::time::Duration;
use taskerd::testing::FakeStep;
use taskerd::{BatchCounts, Failure, Handler, Json, Outcome, Step};

#[test]
fn errors_are_retryable_and_say_where() {
    fn parse(step: &Step) -> Result<i32, std::num::ParseIntError> {
        step.input("n").as_str().unwrap_or("x").parse()
    }
    let failure = FakeStep::new().run(|step: &Step| -> Result<Value, Failure> { Ok(json!(parse(step)?)) }).unwrap_err();
    assert!(failure.is_retryable());
    assert!(format!("{failure:?}").contains("handlers.rs"), "{failure:?}");
}

#[test]
fn panics_are_failures() {
    let failure = FakeStep::new().run(|_: &Step| -> Value { panic!("out of cheese") }).unwrap_err();
    assert_eq!((failure.message(), failure.is_retryable()), ("out of cheese", true));
}

#[test]
fn what_json_cannot_say_is_final() {
    let failure = FakeStep::new().run(|_: &Step| Json(vec![f64::INFINITY])).unwrap_err();
    assert_eq!((failure.message(), failure.is_retryable()), ("the handler's result cannot be sent: [0]: infinity", false));
}

#[test]
fn batches() {
    let made = Outcome::batches("work", 25, 10);
    let cursors = made.result()["batch_processing_outcome"]["cursor_configs"].as_array().unwrap();
    assert_eq!(cursors.len(), 3);
    assert_eq!(cursors[2], json!({"batch_id": "003", "start_cursor": 20, "end_cursor": 25, "batch_size": 5}));
    assert_eq!(Outcome::batches("work", 0, 10).result()["batch_processing_outcome"]["type"], "no_batches");
    let step = FakeStep::new().dependency("work_001", json!({"items_processed": 3})).dependency("work_002", json!({"items_processed": 4, "items_failed": 1}));
    let (workers, sum) = step.step().batch_totals("work_").unwrap();
    assert_eq!((workers, sum), (2, BatchCounts { processed: 7, succeeded: Some(6), failed: 1, skipped: 0 }));
}

#[test]
fn what_a_step_tells() {
    let step = FakeStep::new();
    let outcome = step.run(|step: &Step| {
        step.heartbeat(&json!({"half": true}));
        step.log("info", "hello");
        step.save_checkpoint(7, 7, json!({"sum": 1})).map(|()| json!({}))
    });
    assert!(outcome.is_ok());
    let told: Vec<String> = step.told().into_iter().map(|(method, _)| method).collect();
    assert_eq!(told, ["step.heartbeat", "step.log", "step.checkpoint"]);
    assert_eq!(step.told()[2].1["cursor"], 7);
}

#[test]
fn methods_and_resolvers() {
    struct Two;
    impl Handler for Two {
        fn call(&self, _: &Step) -> Result<Outcome, Failure> {
            Ok(Outcome::done(json!("call")))
        }
    }
    let method = |m: &str| FakeStep::new().set("handler", json!({"callable": "h", "method": m}));
    assert_eq!(method("call").run(Two).unwrap().result(), "call");
    let missing = method("other").run(Two).unwrap_err();
    assert!(missing.message().contains("other") && !missing.is_retryable());
    let resolver = FakeStep::new().set("handler", json!({"callable": "h", "resolver": "nobody"})).run(Two).unwrap_err();
    assert!(resolver.message().contains("nobody") && !resolver.is_retryable());
}

#[test]
fn what_a_failure_says() {
    let failure = FakeStep::new().run(|_: &Step| Failure::retryable("busy").kind("bank").code("BUSY").retry_after(Duration::from_secs(3))).unwrap_err();
    assert_eq!((failure.error_type(), failure.error_code(), failure.delay()), ("bank", Some("BUSY"), Some(Duration::from_secs(3))));
    assert_eq!(failure.to_string(), "busy");
    assert_eq!(Failure::permanent("no").error_type(), "permanent_error");
}

#[test]
fn results_of_handlers_stay_small() {
    assert!(size_of::<Failure>() <= 16, "lints about large errors would tell everybody who writes a handler");
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::*;

    #[tokio::test]
    async fn a_handler() {
        let double = |step: Step| async move {
            tokio::task::yield_now().await;
            step.input("n").as_i64().map(|n| json!(2 * n)).ok_or_else(|| Failure::permanent("no n"))
        };
        assert_eq!(FakeStep::new().context(json!({"n": 4})).run_async(double).await.unwrap().result(), &json!(8));
        assert!(!FakeStep::new().run_async(double).await.unwrap_err().is_retryable());
    }

    #[tokio::test]
    async fn panics_say_where() {
        async fn bad(step: Step) {
            tokio::task::yield_now().await;
            panic!("attempt {}", step.attempt());
        }
        let failure = FakeStep::new().run_async(bad).await.unwrap_err();
        assert_eq!((failure.message(), failure.error_type()), ("attempt 1", "handler_panic"));
        assert!(format!("{failure:?}").contains("handlers.rs"), "{failure:?}");
        let at_once = FakeStep::new().run_async(|_: Step| -> std::future::Ready<()> { panic!("before any await") }).await;
        assert_eq!(at_once.unwrap_err().message(), "before any await");
    }

    #[tokio::test]
    async fn a_method_that_is_not_there() {
        let failure = FakeStep::new().set("handler", json!({"callable": "h", "method": "refund"})).run_async(|_: Step| async {}).await.unwrap_err();
        assert_eq!((failure.message(), failure.error_type()), ("handler \"h\" has no method \"refund\"", "handler_not_found"));
    }
}
