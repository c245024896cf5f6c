//! The worker: what it offers, and its life.

use crate::conn::{self, Backoff, Frames};
use crate::engine::{Engine, Stats};
use crate::error::{Error, Result};
use crate::handler::{Handler, Publisher};
use crate::outcome::Failure;
use crate::run::{may_begin, Attempt, Registry};
use crate::step::Step;
use crate::wire::{self, Message};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How often a worker that stops tries to deliver what it has.
const DRAIN_OFFLINE_TRIES: u32 = 5;
const RESUME_ID: u32 = u32::MAX;

type Heard = Box<dyn Fn(&serde_json::Value) + Send + Sync>;
type Log = Box<dyn Fn(&str) + Send + Sync>;

/// A worker being described.
pub struct Builder {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) threads: usize,
    pub(crate) max_concurrency: Option<usize>,
    pub(crate) abandon_after: Option<Duration>,
    pub(crate) handlers: HashMap<String, Arc<dyn Handler>>,
    publishers: HashMap<String, Arc<dyn Publisher>>,
    subscriptions: Vec<(String, Arc<Heard>)>,
    pub(crate) log: Option<Log>,
    #[cfg(feature = "tokio")]
    pub(crate) runtime: Option<tokio::runtime::Handle>,
    #[cfg(feature = "tokio")]
    pub(crate) async_handlers: HashMap<String, Arc<dyn crate::aio::AsyncHandler>>,
}

/// Runs steps: [`Worker::builder`], then [`Worker::run`].
pub struct Worker {
    builder: Builder,
    engine: Arc<Engine>,
    socket: PathBuf,
}

/// Stops a worker, from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<Engine>);

impl Stopper {
    /// Takes no more steps, lets those that run finish, delivers their results, ends. A second call does not wait.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// How it goes.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

impl Builder {
    fn new() -> Self {
        Builder {
            socket: None,
            name: None,
            client: None,
            namespaces: Vec::new(),
            threads: 4,
            max_concurrency: None,
            abandon_after: Some(Duration::from_secs(30)),
            handlers: HashMap::new(),
            publishers: HashMap::new(),
            subscriptions: Vec::new(),
            log: Some(Box::new(|line| eprintln!("taskerd: {line}"))),
            #[cfg(feature = "tokio")]
            runtime: None,
            #[cfg(feature = "tokio")]
            async_handlers: HashMap::new(),
        }
    }

    /// Where the daemon listens, if not where programs look by themselves.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// A label for people.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Name and version of the program, for the daemon's lists.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Takes steps of this namespace only; may be called again. Without: of all.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespaces.push(namespace.into());
        self
    }

    /// Handlers that run at a time: 4.
    #[must_use]
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = n.max(1);
        self
    }

    /// Steps held at a time; without: two for each thread.
    #[must_use]
    pub fn max_concurrency(mut self, n: usize) -> Self {
        self.max_concurrency = Some(n.max(1));
        self
    }

    /// A handler that has not returned this long after its step was cancelled loses its thread to a new one: 30 s. `None`: never.
    #[must_use]
    pub fn abandon_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.abandon_after = time.into();
        self
    }

    /// What runs the steps whose template names `callable`.
    #[must_use]
    pub fn handler(mut self, callable: &str, handler: impl Handler) -> Self {
        self.handlers.insert(callable.into(), Arc::new(handler));
        self
    }

    /// What makes the events whose template names `publisher`.
    #[must_use]
    pub fn publisher(mut self, publisher: &str, made_by: impl Publisher) -> Self {
        self.publishers.insert(publisher.into(), Arc::new(made_by));
        self
    }

    /// Called with each fast event that fits the pattern.
    #[must_use]
    pub fn subscribe(mut self, pattern: &str, heard: impl Fn(&serde_json::Value) + Send + Sync + 'static) -> Self {
        self.subscriptions.push((pattern.into(), Arc::new(Box::new(heard))));
        self
    }

    /// Gets the lines about connections and refused results; without, they go to stderr.
    #[must_use]
    pub fn on_log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// The worker.
    pub fn build(mut self) -> Worker {
        let registry = Registry { handlers: self.handlers.clone(), publishers: std::mem::take(&mut self.publishers) };
        let log = self.log.take().unwrap_or_else(|| Box::new(|_| {}));
        let engine = Arc::new(Engine::new(registry, self.abandon_after, log));
        let socket = self.socket.clone().unwrap_or_else(conn::default_socket);
        Worker { builder: self, engine, socket }
    }

    fn callables(&self) -> Vec<&String> {
        let sync = self.handlers.keys();
        #[cfg(feature = "tokio")]
        return sync.chain(self.async_handlers.keys()).collect();
        #[cfg(not(feature = "tokio"))]
        sync.collect()
    }

    fn concurrency(&self) -> usize {
        self.max_concurrency.unwrap_or(2 * self.threads)
    }

    fn put_offer(&self, out: &mut Vec<u8>, name: &str) {
        let callables = self.callables();
        wire::put_str(out, "worker");
        wire::put_map(out, 4);
        wire::put_str(out, "name");
        wire::put_str(out, name);
        wire::put_str(out, "namespaces");
        wire::put_array(out, self.namespaces.len().max(1));
        self.namespaces.iter().for_each(|n| wire::put_str(out, n));
        if self.namespaces.is_empty() {
            wire::put_str(out, "*");
        }
        wire::put_str(out, "handlers");
        wire::put_array(out, callables.len());
        callables.iter().for_each(|c| wire::put_str(out, c));
        wire::put_str(out, "max_concurrency");
        wire::put_int(out, i64::try_from(self.concurrency()).unwrap_or(i64::MAX));
    }
}

fn program_name() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_name().map_or_else(|| "rust".into(), |n| n.to_string_lossy().into_owned())
}

impl Worker {
    /// A worker without handlers yet.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// For stopping it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.engine.clone())
    }

    /// Runs until it is stopped and has drained. Waits for the daemon, and reconnects, with growing pauses. An error: the daemon refuses this worker.
    pub fn run(&self) -> Result<Stats> {
        self.spawn_handlers(self.builder.threads);
        self.spawn_writer();
        self.spawn_subscribers();
        let ended = self.serve();
        self.engine.end();
        ended.map(|()| self.engine.stats())
    }

    fn spawn_handlers(&self, n: usize) {
        spawn_handlers(&self.engine, n, &self.extra());
    }

    /// Async handlers are given to their runtime by the threads.
    fn extra(&self) -> Extra {
        Extra {
            #[cfg(feature = "tokio")]
            handlers: Arc::new(self.builder.async_handlers.clone()),
            #[cfg(feature = "tokio")]
            runtime: self.builder.runtime.clone(),
        }
    }

    fn spawn_writer(&self) {
        let (engine, extra) = (self.engine.clone(), self.extra());
        std::thread::spawn(move || {
            let spawn = |n| spawn_handlers(&engine, n, &extra);
            while let Some((stream, out, last)) = engine.outgoing(&spawn) {
                if (&*stream).write_all(&out).is_err() || last {
                    // The reading side sees the end, after what the daemon may still have to say.
                    drop(stream.shutdown(std::net::Shutdown::Both));
                    engine.detach();
                }
            }
        });
    }

    fn spawn_subscribers(&self) {
        for (pattern, heard) in &self.builder.subscriptions {
            let (engine, socket, pattern, heard) = (self.engine.clone(), self.socket.clone(), pattern.clone(), heard.clone());
            std::thread::spawn(move || {
                let mut backoff = Backoff::new();
                while !engine.is_stopping() {
                    let listened = crate::Client::builder().socket(&socket).connect().and_then(|client| {
                        let events = client.subscribe(&[&pattern], &[])?;
                        backoff.reset();
                        events.for_each(|e| heard(&e));
                        Ok(())
                    });
                    drop(listened);
                    engine.pause(backoff.pause(None));
                }
            });
        }
    }

    fn serve(&self) -> Result<()> {
        let mut backoff = Backoff::new();
        let mut complained: Option<Instant> = None;
        while !self.engine.drained() {
            let ended = self.connection(&mut backoff, &mut complained);
            self.engine.detach();
            if self.engine.drained() || (self.engine.is_stopping() && backoff.failures() >= DRAIN_OFFLINE_TRIES) {
                break;
            }
            if ended.is_final() {
                return Err(ended);
            }
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                self.engine.say(&format!("{ended}; trying again"));
                complained = Some(Instant::now());
            }
            self.engine.pause(backoff.pause(ended.retry_after));
        }
        Ok(())
    }

    /// Makes a connection and serves it to its end, which is what it returns.
    fn connection(&self, backoff: &mut Backoff, complained: &mut Option<Instant>) -> Error {
        match self.attach() {
            Ok(mut frames) => {
                *complained = None;
                match self.read(&mut frames, backoff) {
                    Err(e) => e,
                    Ok(()) => Error::lost("the worker has ended"),
                }
            }
            Err(e) => e,
        }
    }

    fn attach(&self) -> Result<Frames> {
        let name = self.builder.name.clone().unwrap_or_else(program_name);
        let (held, entries) = self.engine.held();
        let session = self.engine.session();
        let hello = conn::hello(self.builder.client.as_deref(), 1 + usize::from(session.is_some()), |out| {
            self.builder.put_offer(out, &name);
            if let Some(session) = &session {
                wire::put_str(out, "resume");
                wire::put_map(out, 2);
                wire::put_str(out, "session");
                wire::put_str(out, session);
                wire::put_str(out, "held");
                wire::put_int(out, i64::try_from(held).unwrap_or(i64::MAX));
            }
        });
        let (mut stream, frames, welcome) = conn::open(&self.socket, &hello, conn::HANDSHAKE)?;
        let resume = held > 0 && session.is_some();
        self.engine.say(&format!("connected to {} on node {}", welcome.server, welcome.node));
        self.engine.remember(&welcome.session);
        if resume {
            let mut out = Vec::new();
            wire::request(&mut out, RESUME_ID, "session.resume", |p| {
                wire::put_map(p, 1);
                wire::put_str(p, "steps");
                wire::put_array(p, held);
                p.extend_from_slice(&entries);
            });
            stream.write_all(&out).map_err(Error::lost)?;
        }
        self.engine.attach(stream, welcome);
        if !resume {
            self.engine.ready();
        }
        Ok(frames)
    }

    fn read(&self, frames: &mut Frames, backoff: &mut Backoff) -> Result<()> {
        loop {
            match frames.next()? {
                Message::Response { id: RESUME_ID, outcome } => {
                    self.engine.resumed(&outcome.map_err(Error::from_wire).map_err(Error::lost)?);
                    self.engine.ready();
                }
                Message::Response { id, outcome } => {
                    backoff.reset();
                    self.engine.on_response(id, outcome);
                }
                Message::Notification { method, params } => {
                    if method == "result.ack" && !params.array("acks").is_empty() {
                        backoff.reset();
                    }
                    self.engine.on_message(&method, params);
                }
            }
        }
    }

    /// One attempt in the foreground; an error if there is no handler for it.
    pub(crate) fn attempt_here(&self, step: &Step) -> std::result::Result<Attempt, Failure> {
        may_begin(step)?;
        #[cfg(feature = "tokio")]
        if let (Some(handler), Some(runtime)) = (self.builder.async_handlers.get(&step.0.callable), &self.builder.runtime) {
            return Ok(crate::aio::wait_for(runtime, handler, step));
        }
        self.engine.registry.find(step)?;
        Ok(self.engine.registry.attempt(step))
    }

    pub(crate) fn socket_path(&self) -> &std::path::Path {
        &self.socket
    }
}

#[derive(Clone)]
pub(crate) struct Extra {
    #[cfg(feature = "tokio")]
    handlers: Arc<HashMap<String, Arc<dyn crate::aio::AsyncHandler>>>,
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Handle>,
}

impl Extra {
    /// True if the step was given to a runtime.
    #[cfg(feature = "tokio")]
    fn take(&self, engine: &Arc<Engine>, step: &Step) -> bool {
        match (self.handlers.get(&step.0.callable), &self.runtime) {
            (Some(handler), Some(runtime)) => {
                engine.detached(step);
                crate::aio::spawn(runtime, engine.clone(), handler.clone(), step.clone());
                true
            }
            _ => false,
        }
    }

    #[cfg(not(feature = "tokio"))]
    #[allow(clippy::unused_self)]
    fn take(&self, _: &Arc<Engine>, _: &Step) -> bool {
        false
    }
}

fn spawn_handlers(engine: &Arc<Engine>, n: usize, extra: &Extra) {
    for _ in 0..n {
        let (engine, extra) = (engine.clone(), extra.clone());
        std::thread::spawn(move || {
            let mut next = engine.next_step();
            while let Some(step) = next {
                next = if extra.take(&engine, &step) {
                    engine.next_step()
                } else {
                    let began = Instant::now();
                    let attempt = engine.registry.attempt(&step);
                    engine.next_after(&step, &attempt, began)
                };
            }
        });
    }
}
