//! With the feature `tokio`: handlers that are `async`, and a client whose calls are.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::outcome::{Failure, IntoOutcome, Outcome};
use crate::run::panicked;
use crate::step::Step;
use crate::worker::Builder;
use serde_json::{json, Value as Json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

type Attempt = Pin<Box<dyn Future<Output = std::result::Result<Outcome, Failure>> + Send>>;

/// What runs a step without a thread of its own. Functions and closures from [`Step`] to a future are such handlers.
pub trait AsyncHandler: Send + Sync + 'static {
    /// One attempt. It is dropped at its next `await` when the step is cancelled.
    fn call(&self, step: Step) -> Attempt;
}

impl<F, Fut> AsyncHandler for F
where
    F: Fn(Step) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
{
    fn call(&self, step: Step) -> Attempt {
        let running = self(step);
        Box::pin(async move { running.await.into_outcome() })
    }
}

impl Builder {
    /// Where async handlers run; without: the runtime in which the worker is built.
    #[must_use]
    pub fn runtime(mut self, handle: tokio::runtime::Handle) -> Self {
        self.runtime = Some(handle);
        self
    }

    /// What runs the steps whose template names `callable`, on the runtime. As many run at a time as the worker holds steps.
    ///
    /// # Panics
    /// Outside a runtime, if none was given.
    #[must_use]
    pub fn async_handler(mut self, callable: &str, handler: impl AsyncHandler) -> Self {
        self.runtime.get_or_insert_with(tokio::runtime::Handle::current);
        self.async_handlers.insert(callable.into(), Arc::new(handler));
        self
    }
}

pub(crate) fn spawn(runtime: &tokio::runtime::Handle, engine: Arc<Engine>, handler: Arc<dyn AsyncHandler>, step: Step) {
    let began = Instant::now();
    let running = {
        let step = step.clone();
        runtime.spawn(async move {
            let mut attempt = handler.call(step.clone());
            let mut told = std::pin::pin!(step.cancelled());
            std::future::poll_fn(|context| match attempt.as_mut().poll(context) {
                Poll::Ready(attempt) => Poll::Ready(attempt),
                Poll::Pending => told.as_mut().poll(context).map(|()| {
                    let reason = step.cancel_reason().unwrap_or_default();
                    Err(Failure::library("cancelled", true, format!("cancelled: {reason}")))
                }),
            })
            .await
        })
    };
    runtime.spawn(async move {
        let attempt = running.await.unwrap_or_else(|e| {
            Err(match e.try_into_panic() {
                Ok(payload) => panicked(&*payload),
                Err(e) => Failure::library("cancelled", true, e.to_string()),
            })
        });
        engine.finish(&step, &attempt, began);
    });
}

/// The calls of [`crate::Client`] as futures.
#[derive(Clone)]
pub struct Client(crate::Client);

impl From<crate::Client> for Client {
    fn from(client: crate::Client) -> Self {
        Client(client)
    }
}

impl Client {
    /// Connects where programs look by themselves.
    pub async fn connect() -> Result<Self> {
        Client::with(crate::Client::builder()).await
    }

    /// With options.
    pub async fn with(builder: crate::ClientBuilder) -> Result<Self> {
        let made = tokio::task::spawn_blocking(move || builder.connect()).await;
        made.unwrap_or_else(|e| Err(Error::new("internal", e.to_string()))).map(Client)
    }

    /// Any request of the protocol; no limit of time but the caller's.
    pub async fn request(&self, method: &str, params: &Json) -> Result<Json> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        // What is written fits into the socket's buffer, or waits shortly for a daemon that reads.
        let sent = self.0.start(method, params, Box::new(move |r| drop(tx.send(r))))?;
        let answer = rx.await.unwrap_or_else(|_| Err(Error::lost("it broke")));
        drop(sent);
        answer.map(crate::wire::Value::into_json)
    }

    /// Creates a task; its uuid.
    pub async fn create_task(&self, task: crate::NewTask) -> Result<String> {
        let answer = self.request("task.create", &task.into_json()).await?;
        Ok(answer["task_uuid"].as_str().unwrap_or_default().to_owned())
    }

    /// The task object, with its steps.
    pub async fn task(&self, task_uuid: &str) -> Result<Json> {
        self.request("task.get", &json!({ "task_uuid": task_uuid })).await
    }

    /// Waits until nothing of the task moves any more without an operator; the task object then.
    pub async fn wait_for_task(&self, task_uuid: &str, timeout: Duration) -> Result<Json> {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).min(i32::MAX as u64);
        let answer = self.request("task.wait", &json!({ "task_uuid": task_uuid, "timeout_ms": ms })).await?;
        if answer["settled"] != true {
            return Err(Error::new("timeout", format!("task {task_uuid} is not settled yet")));
        }
        self.task(task_uuid).await
    }
}
