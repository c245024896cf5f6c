//! Creating tasks and looking at them.

use crate::conn::{self, Welcome};
use crate::error::{Error, Result};
use crate::step::lock;
use crate::wire::{self, Message, Value};
use serde_json::{json, Map, Value as Json};
use std::collections::HashMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, sync_channel, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a client is made.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    socket: Option<PathBuf>,
    client: Option<String>,
    timeout: Duration,
}

impl ClientBuilder {
    /// Where the daemon listens, if not where programs look by themselves.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// Name and version of the program, for the daemon's lists.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.into());
        self
    }

    /// How long calls wait for their answers: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects and shakes hands.
    pub fn connect(self) -> Result<Client> {
        let path = self.socket.clone().unwrap_or_else(conn::default_socket);
        let inner = Inner { path, options: self, link: Mutex::new(None), events: Arc::default() };
        let client = Client(Arc::new(inner));
        client.0.link()?;
        Ok(client)
    }
}

type Reply = Box<dyn FnOnce(Result<Value>) + Send>;

struct Pending {
    requests: HashMap<u32, Reply>,
    next_id: u32,
    lost: Option<Error>,
}

/// A connection; a new one is made when it is lost and somebody calls again.
pub(crate) struct Link {
    stream: Mutex<UnixStream>,
    pending: Mutex<Pending>,
    welcome: Welcome,
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(lock(&self.stream).shutdown(Shutdown::Both));
    }
}

struct Inner {
    path: PathBuf,
    options: ClientBuilder,
    link: Mutex<Option<Arc<Link>>>,
    events: Arc<Mutex<Vec<mpsc::Sender<Json>>>>,
}

impl Link {
    fn fail(&self, why: &Error) {
        let mut pending = lock(&self.pending);
        pending.lost.get_or_insert_with(|| why.clone());
        let requests: Vec<Reply> = pending.requests.drain().map(|(_, r)| r).collect();
        drop(pending);
        requests.into_iter().for_each(|reply| reply(Err(why.clone())));
    }

    fn send(&self, method: &str, params: &[u8], reply: Reply) -> Result<u32> {
        let mut pending = lock(&self.pending);
        if let Some(why) = &pending.lost {
            return Err(why.clone());
        }
        pending.next_id = pending.next_id.wrapping_add(1).max(1);
        let id = pending.next_id;
        let mut out = Vec::with_capacity(params.len() + 64);
        wire::request(&mut out, id, method, |p| p.extend_from_slice(params));
        if out.len() - 4 > self.welcome.max_frame {
            let message = format!("the message has {} bytes, the daemon takes {}", out.len() - 4, self.welcome.max_frame);
            return Err(Error::new("too_large", message));
        }
        pending.requests.insert(id, reply);
        drop(pending);
        let written = lock(&self.stream).write_all(&out);
        if let Err(e) = written {
            self.fail(&Error::lost(e));
        }
        Ok(id)
    }
}

impl Inner {
    fn link(&self) -> Result<Arc<Link>> {
        let mut slot = lock(&self.link);
        if let Some(link) = slot.as_ref().filter(|l| lock(&l.pending).lost.is_none()) {
            return Ok(link.clone());
        }
        let hello = conn::hello(self.options.client.as_deref(), 0, |_| {});
        let (stream, mut frames, welcome) = conn::open(&self.path, &hello, conn::HANDSHAKE)?;
        let pending = Pending { requests: HashMap::new(), next_id: 0, lost: None };
        let link = Arc::new(Link { stream: Mutex::new(stream), pending: Mutex::new(pending), welcome });
        let (weak, events) = (Arc::downgrade(&link), self.events.clone());
        std::thread::spawn(move || loop {
            let message = frames.next();
            let Some(link) = weak.upgrade() else { return };
            match message {
                Ok(Message::Response { id, outcome }) => {
                    let reply = lock(&link.pending).requests.remove(&id);
                    if let Some(reply) = reply {
                        reply(outcome.map_err(Error::from_wire));
                    }
                }
                Ok(Message::Notification { method, mut params }) if method == "event.message" => {
                    if let Some(Json::Array(all)) = params.take("events").map(Value::into_json) {
                        lock(&events).retain(|tx| all.iter().all(|e| tx.send(e.clone()).is_ok()));
                    }
                }
                Ok(_) => {}
                Err(e) => {
                    link.fail(&e);
                    lock(&events).clear();
                    return;
                }
            }
        });
        *slot = Some(link.clone());
        Ok(link)
    }
}

/// Talks to the daemon; cheap to clone, and for any number of threads. A connection that was lost is made anew by the next call.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// What became of a task that was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The task's uuid.
    pub task_uuid: String,
    /// Its state.
    pub state: String,
    /// False: it was there already, by its key.
    pub created: bool,
}

/// A task to be created: `NewTask::new("order").namespace("shop").context(json!({...}))`.
#[derive(Clone, Debug)]
pub struct NewTask(Map<String, Json>);

impl NewTask {
    /// Of this template.
    pub fn new(template: &str) -> Self {
        NewTask(Map::from_iter([("name".to_owned(), json!(template))]))
    }

    /// Any parameter of `task.create`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn into_json(self) -> Json {
        Json::Object(self.0)
    }

    /// The template's namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        self.set("namespace", namespace)
    }

    /// The template's version; without: the newest.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.set("version", version)
    }

    /// What handlers see.
    #[must_use]
    pub fn context(self, context: impl Into<Json>) -> Self {
        self.set("context", context)
    }

    /// A repeat with this key gives the task there is.
    #[must_use]
    pub fn idempotency_key(self, key: &str) -> Self {
        self.set("idempotency_key", key)
    }

    /// For finding it again.
    #[must_use]
    pub fn tags(self, tags: &[&str]) -> Self {
        self.set("tags", tags)
    }

    /// -100 to 100.
    #[must_use]
    pub fn priority(self, priority: i8) -> Self {
        self.set("priority", priority)
    }
}

pub(crate) fn created(answer: &Json) -> Created {
    let text = |k| answer[k].as_str().unwrap_or_default().to_owned();
    Created { task_uuid: text("task_uuid"), state: text("state"), created: answer["created"] == true }
}

pub(crate) fn wait_params(task_uuid: &str, timeout: Option<Duration>) -> Json {
    let mut params = json!({ "task_uuid": task_uuid });
    if let Some(time) = timeout {
        params["timeout_ms"] = json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(i32::MAX as u64));
    }
    params
}

pub(crate) fn unsettled(task_uuid: &str) -> Error {
    Error::new("timeout", format!("task {task_uuid} is not settled yet"))
}

pub(crate) fn safe_to_repeat(method: &str, params: &Json) -> bool {
    match method {
        "task.create" => !params["idempotency_key"].is_null(),
        "task.get" | "task.list" | "task.wait" | "task.history" | "step.get" | "ping" | "server.info" | "doctor" => true,
        _ => method.ends_with(".list") || method.ends_with(".get"),
    }
}

impl Client {
    /// Connects where programs look by themselves.
    pub fn connect() -> Result<Self> {
        Client::builder().connect()
    }

    /// With options.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { socket: None, client: None, timeout: Duration::from_secs(30) }
    }

    pub(crate) fn start(&self, method: &str, params: &Json, reply: Reply) -> Result<(Arc<Link>, u32)> {
        wire::check_json(params).map_err(|why| Error::new("invalid_value", why))?;
        let link = self.0.link()?;
        let id = link.send(method, &crate::step::encoded(params), reply)?;
        Ok((link, id))
    }

    fn once(&self, method: &str, params: &Json, timeout: Option<Duration>) -> Result<Value> {
        let (tx, rx): (SyncSender<Result<Value>>, _) = sync_channel(1);
        let (link, id) = self.start(method, params, Box::new(move |r| drop(tx.try_send(r))))?;
        let answer = match timeout {
            Some(time) => rx.recv_timeout(time),
            None => rx.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        answer.unwrap_or_else(|e| {
            lock(&link.pending).requests.remove(&id);
            Err(match e {
                RecvTimeoutError::Timeout => Error::new("timeout", format!("taskerd did not answer {method} in time")),
                RecvTimeoutError::Disconnected => Error::lost("it broke"),
            })
        })
    }

    fn call(&self, method: &str, params: &Json, timeout: Option<Duration>) -> Result<Value> {
        match self.once(method, params, timeout) {
            Err(e) if e.code == "connection_lost" && safe_to_repeat(method, params) => self.once(method, params, timeout),
            outcome => outcome,
        }
    }

    pub(crate) fn request_value(&self, method: &str, params: &Json) -> Result<Value> {
        self.call(method, params, Some(self.0.options.timeout))
    }

    /// Any request of the protocol.
    pub fn request(&self, method: &str, params: &Json) -> Result<Json> {
        self.call(method, params, Some(self.0.options.timeout)).map(Value::into_json)
    }

    /// Creates a task.
    pub fn create_task(&self, task: NewTask) -> Result<Created> {
        self.call("task.create", &Json::Object(task.0), Some(self.0.options.timeout)).map(|v| created(&v.into_json()))
    }

    /// Creates many with few messages; what became of each, in their order.
    pub fn create_tasks(&self, tasks: impl IntoIterator<Item = NewTask>) -> Result<Vec<Result<Created>>> {
        let welcome = self.0.link()?.welcome.clone();
        let limit = welcome.max_frame.min(welcome.max_items).saturating_sub(512);
        let mut outcomes: Vec<Option<Result<Created>>> = Vec::new();
        let mut batch: Vec<(usize, Json)> = Vec::new();
        let mut size = 0;
        for task in tasks {
            let task = Json::Object(task.0);
            let bytes = crate::step::encoded(&task).len();
            outcomes.push(None);
            let at = outcomes.len() - 1;
            if let Err(why) = wire::check_json(&task) {
                outcomes[at] = Some(Err(Error::new("invalid_value", why)));
                continue;
            }
            if batch.len() == welcome.max_bulk || (size + bytes > limit && !batch.is_empty()) {
                self.create_batch(std::mem::take(&mut batch), &mut outcomes)?;
                size = 0;
            }
            size += bytes;
            batch.push((at, task));
        }
        self.create_batch(batch, &mut outcomes)?;
        Ok(outcomes.into_iter().map(|o| o.unwrap_or_else(|| Err(Error::new("internal", "the daemon left this one out")))).collect())
    }

    fn create_batch(&self, batch: Vec<(usize, Json)>, outcomes: &mut [Option<Result<Created>>]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (places, tasks): (Vec<usize>, Vec<Json>) = batch.into_iter().unzip();
        let mut answer = self.call("task.create_many", &json!({ "tasks": tasks }), Some(self.0.options.timeout))?;
        let Some(Value::Array(results)) = answer.take("results") else { return Ok(()) };
        for (place, mut result) in places.into_iter().zip(results) {
            outcomes[place] = Some(match result.take("error") {
                Some(error) => Err(Error::from_wire(error)),
                None => Ok(created(&result.into_json())),
            });
        }
        Ok(())
    }

    /// The task object, with its steps.
    pub fn task(&self, task_uuid: &str) -> Result<Json> {
        self.request("task.get", &json!({ "task_uuid": task_uuid }))
    }

    /// The steps of a task.
    pub fn steps(&self, task_uuid: &str) -> Result<Vec<Json>> {
        match self.task(task_uuid)?["steps"].take() {
            Json::Array(steps) => Ok(steps),
            _ => Ok(Vec::new()),
        }
    }

    /// The step object.
    pub fn step(&self, step_uuid: &str) -> Result<Json> {
        self.request("step.get", &json!({ "step_uuid": step_uuid }))
    }

    /// `{tasks, next_cursor}`; `query` are parameters of `task.list`.
    pub fn list_tasks(&self, query: &Json) -> Result<Json> {
        self.request("task.list", query)
    }

    /// Waits until nothing of the task moves any more without an operator, or so long; the task object then.
    pub fn wait_for_task(&self, task_uuid: &str, timeout: impl Into<Option<Duration>>) -> Result<Json> {
        let timeout = timeout.into();
        let patience = timeout.map(|t| t + Duration::from_secs(10));
        if self.call("task.wait", &wait_params(task_uuid, timeout), patience)?.bool("settled") != Some(true) {
            return Err(unsettled(task_uuid));
        }
        self.task(task_uuid)
    }

    /// Cancels a task.
    pub fn cancel_task(&self, task_uuid: &str, reason: Option<&str>) -> Result<Json> {
        self.request("task.cancel", &json!({ "task_uuid": task_uuid, "reason": reason }))
    }

    /// Registers a template, YAML or JSON.
    pub fn apply_template(&self, source: &str) -> Result<Json> {
        self.request("template.apply", &json!({ "source": source }))
    }

    /// Publishes an event; its id. `params` are further parameters of `event.publish`, or `Null`.
    pub fn publish_event(&self, name: &str, payload: impl Into<Json>, params: &Json) -> Result<String> {
        let mut all = params.as_object().cloned().unwrap_or_default();
        all.insert("name".into(), name.into());
        all.insert("payload".into(), payload.into());
        let answer = self.request("event.publish", &Json::Object(all))?;
        Ok(answer["event_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes durable events: `{messages}`; `params` are those of `event.consume`.
    pub fn consume_events(&self, params: &Json) -> Result<Vec<Json>> {
        let wait = Duration::from_millis(params["wait_ms"].as_u64().unwrap_or(0));
        let mut answer = self.call("event.consume", params, Some(self.0.options.timeout + wait))?.into_json();
        match answer["messages"].take() {
            Json::Array(messages) => Ok(messages),
            _ => Ok(Vec::new()),
        }
    }

    /// Acknowledges such messages.
    pub fn ack_events(&self, namespace: &str, messages: &[Json]) -> Result<Json> {
        let column = |key: &str| messages.iter().map(|m| m[key].clone()).collect::<Vec<_>>();
        self.request("event.ack", &json!({ "namespace": namespace, "ids": column("msg_id"), "read_counts": column("read_count") }))
    }

    /// Fast events that fit one of the patterns, of these namespaces (none: all), for as long as the connection lives.
    pub fn subscribe(&self, patterns: &[&str], namespaces: &[&str]) -> Result<impl Iterator<Item = Json>> {
        let (tx, rx) = mpsc::channel();
        lock(&self.0.events).push(tx);
        let mut params = json!({ "patterns": patterns });
        if !namespaces.is_empty() {
            params["namespaces"] = json!(namespaces);
        }
        self.request("event.subscribe", &params)?;
        let client = self.clone();
        // The connection lives as long as someone listens.
        Ok(rx.into_iter().inspect(move |_| {
            let _connection = &client;
        }))
    }
}
