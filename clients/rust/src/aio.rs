//! With the feature `tokio`: handlers that are `async`, and a client whose calls are.

use crate::client::{created, safe_to_repeat, unsettled, wait_params, Created};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::no_method;
use crate::outcome::{Failure, IntoOutcome, Outcome};
use crate::run::{guarded, may_begin, panicked};
use crate::step::Step;
use crate::testing::FakeStep;
use crate::wire::Value;
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

    /// For a template that names a `method` other than `call`.
    fn call_method(&self, method: &str, step: Step) -> Attempt {
        let failure = no_method(method, &step);
        Box::pin(std::future::ready(Err(failure)))
    }
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

/// One attempt: given up when its step is cancelled; each piece of it runs as its step, for logs and panics.
pub(crate) async fn attempt(handler: Arc<dyn AsyncHandler>, step: Step) -> std::result::Result<Outcome, Failure> {
    may_begin(&step)?;
    let begin = || match step.0.method.as_deref() {
        None | Some("call") => handler.call(step.clone()),
        Some(method) => handler.call_method(method, step.clone()),
    };
    let mut running: Option<Attempt> = None;
    let mut told = std::pin::pin!(step.cancelled());
    let ended = std::future::poll_fn(|context| match guarded(&step, || running.get_or_insert_with(begin).as_mut().poll(context)) {
        Ok(Poll::Pending) => told.as_mut().poll(context).map(|()| {
            let reason = step.cancel_reason().unwrap_or_default();
            Err(Failure::library("cancelled", true, format!("cancelled: {reason}")))
        }),
        Ok(ended) => ended,
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await;
    guarded(&step, || drop(running))?;
    ended
}

pub(crate) fn spawn(runtime: &tokio::runtime::Handle, engine: Arc<Engine>, handler: Arc<dyn AsyncHandler>, step: Step) {
    let began = Instant::now();
    runtime.spawn(async move {
        let attempt = attempt(handler, step.clone()).await;
        engine.finish(&step, &attempt, began);
    });
}

/// Runs one attempt to its end, from any thread.
pub(crate) fn wait_for(runtime: &tokio::runtime::Handle, handler: &Arc<dyn AsyncHandler>, step: &Step) -> std::result::Result<Outcome, Failure> {
    // A thread that belongs to a runtime may not wait for one.
    let thread = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(attempt(handler.clone(), step.clone()))).join());
    thread.unwrap_or_else(|payload| Err(panicked(&*payload)))
}

impl FakeStep {
    /// Runs an async handler, panics and all.
    pub async fn run_async(&self, handler: impl AsyncHandler) -> std::result::Result<Outcome, Failure> {
        attempt(Arc::new(handler), self.step()).await
    }
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
        on_a_thread(move || builder.connect()).await.map(Client)
    }

    /// Any calls of [`crate::Client`], on a thread where they may block: `client.blocking(|c| c.list_tasks(&query))`.
    pub async fn blocking<T: Send + 'static>(&self, calls: impl FnOnce(&crate::Client) -> Result<T> + Send + 'static) -> Result<T> {
        let client = self.0.clone();
        on_a_thread(move || calls(&client)).await
    }

    /// Any request of the protocol; no limit of time but the caller's.
    pub async fn request(&self, method: &str, params: &Json) -> Result<Json> {
        match self.once(method, params).await {
            Err(e) if e.code == "connection_lost" && safe_to_repeat(method, params) => self.once(method, params).await,
            answer => answer,
        }
        .map(Value::into_json)
    }

    async fn once(&self, method: &str, params: &Json) -> Result<Value> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        // What is written fits into the socket's buffer, or waits shortly for a daemon that reads.
        let sent = self.0.start(method, params, Box::new(move |r| drop(tx.send(r))))?;
        let answer = rx.await.unwrap_or_else(|_| Err(Error::lost("it broke")));
        drop(sent);
        answer
    }

    /// Creates a task.
    pub async fn create_task(&self, task: crate::NewTask) -> Result<Created> {
        self.request("task.create", &task.into_json()).await.map(|answer| created(&answer))
    }

    /// Creates many with few messages; what became of each, in their order.
    pub async fn create_tasks(&self, tasks: impl IntoIterator<Item = crate::NewTask>) -> Result<Vec<Result<Created>>> {
        let tasks: Vec<crate::NewTask> = tasks.into_iter().collect();
        self.blocking(move |client| client.create_tasks(tasks)).await
    }

    /// The task object, with its steps.
    pub async fn task(&self, task_uuid: &str) -> Result<Json> {
        self.request("task.get", &json!({ "task_uuid": task_uuid })).await
    }

    /// Waits until nothing of the task moves any more without an operator, or so long; the task object then.
    pub async fn wait_for_task(&self, task_uuid: &str, timeout: impl Into<Option<Duration>>) -> Result<Json> {
        let answer = self.request("task.wait", &wait_params(task_uuid, timeout.into())).await?;
        if answer["settled"] != true {
            return Err(unsettled(task_uuid));
        }
        self.task(task_uuid).await
    }

    /// Cancels a task.
    pub async fn cancel_task(&self, task_uuid: &str, reason: Option<&str>) -> Result<Json> {
        self.request("task.cancel", &json!({ "task_uuid": task_uuid, "reason": reason })).await
    }

    /// Registers a template, YAML or JSON.
    pub async fn apply_template(&self, source: &str) -> Result<Json> {
        self.request("template.apply", &json!({ "source": source })).await
    }
}

async fn on_a_thread<T: Send + 'static>(calls: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let made = tokio::task::spawn_blocking(calls).await;
    made.unwrap_or_else(|e| Err(Error::new("internal", e.to_string())))
}
