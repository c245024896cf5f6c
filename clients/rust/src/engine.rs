//! What a worker's threads share: the steps it holds, the results that were not acknowledged, the messages to send. One lock; the thread that writes to the
//! socket is woken by one condition, those that run handlers by another, whoever waits for the connection or the end by a third. A wake-up is a system call,
//! whether somebody waits or not: so only those are woken that do.

use crate::conn::Welcome;
use crate::error::{Error, Result};
use crate::run::{Attempt, Registry};
use crate::step::{lock, Host, Key, Step};
use crate::wire::{self, Value};
use crate::outcome::Failure;
use std::collections::{HashMap, VecDeque};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{sync_channel, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// While steps wait for a thread, a result waits this long for others to go with it: what comes together the daemon records together. A worker that has
/// nothing more to begin sends at once.
const LINGER: Duration = Duration::from_micros(500);
/// Results that go without waiting for more.
const ENOUGH: usize = 256;

/// A result as it goes over the wire.
struct Kept {
    key: Key,
    claim: Value,
    bytes: Vec<u8>,
}

pub(crate) struct Link {
    pub stream: Arc<UnixStream>,
    pub welcome: Welcome,
    /// `worker.update {draining}` was sent.
    draining: bool,
    /// The session was resumed: results may go.
    ready: bool,
}

enum Stage {
    Waiting,
    /// On a thread of the worker's.
    Running,
    /// On a runtime.
    #[cfg(feature = "tokio")]
    Detached,
}

struct Held {
    step: Step,
    stage: Stage,
    cancelled: Option<Instant>,
    connection: u64,
}

/// Counters of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Given to handlers.
    pub steps: u64,
    /// Acknowledged as recorded, or recorded before.
    pub recorded: u64,
    /// Acknowledged as something else.
    pub refused: u64,
    /// Connections made.
    pub connects: u64,
    /// Handlers that did not return after their step was cancelled.
    pub abandoned: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Step>,
    held: HashMap<Key, Held>,
    unsent: VecDeque<Kept>,
    /// Since when the first of them waits.
    unsent_since: Option<Instant>,
    /// Not acknowledged yet, in the order of sending.
    sent: VecDeque<Kept>,
    notes: Vec<u8>,
    requests: HashMap<u32, SyncSender<Result<Value>>>,
    next_id: u32,
    link: Option<Link>,
    connection: u64,
    /// The token of the last connection: to resume.
    session: Option<String>,
    stopping: u8,
    ended: bool,
    /// Threads that wait for a step.
    idle: usize,
    /// The writing thread waits,
    writer_idle: bool,
    /// and knows of results: it need not be told of each.
    writer_lingers: bool,
    threads_wanted: usize,
    stats: Stats,
}

pub(crate) struct Engine {
    pub registry: Registry,
    pub abandon_after: Option<Duration>,
    state: Mutex<State>,
    work: Condvar,
    write: Condvar,
    changed: Condvar,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

fn wait<'a, T>(condition: &Condvar, guard: std::sync::MutexGuard<'a, T>, timeout: Duration) -> std::sync::MutexGuard<'a, T> {
    condition.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
}

impl State {
    fn held_now(&self) -> usize {
        self.held.len() + self.unsent.len() + self.sent.len()
    }

    /// How long the results there are may wait for more; `None`: what there is goes now.
    fn linger(&self) -> Option<Duration> {
        if self.queue.is_empty() || !self.notes.is_empty() || self.stopping > 0 || self.unsent.len() >= ENOUGH {
            return None;
        }
        self.unsent_since.and_then(|since| LINGER.checked_sub(since.elapsed())).filter(|left| !left.is_zero())
    }

    /// What comes first is near the front: results are recorded about in the order in which they were sent.
    fn acknowledged(&mut self, key: &(String, i64)) -> bool {
        let at = self.sent.iter().position(|kept| *kept.key == *key);
        at.and_then(|at| self.sent.remove(at)).is_some()
    }

    fn keep(&mut self, step: &Step, bytes: Vec<u8>) {
        self.unsent.push_back(Kept { key: step.0.key.clone(), claim: step.0.claim.clone(), bytes });
        self.unsent_since.get_or_insert_with(Instant::now);
    }

    /// What was sent and not acknowledged goes first on the next connection.
    fn rewind(&mut self) {
        while let Some(kept) = self.sent.pop_back() {
            self.unsent.push_front(kept);
        }
    }

    /// Steps that have not begun are given to others when the session ends.
    fn give_back(&mut self) {
        self.queue.clear();
        self.held.retain(|_, h| !matches!(h.stage, Stage::Waiting));
    }

    /// Takes a step that waits for a thread.
    fn begin_step(&mut self) -> Option<Step> {
        let step = self.queue.pop_front().filter(|_| !self.ended)?;
        if let Some(held) = self.held.get_mut(&step.0.key) {
            held.stage = Stage::Running;
        }
        self.stats.steps += 1;
        Some(step)
    }

    fn lose_link(&mut self) {
        if let Some(link) = self.link.take() {
            drop(link.stream.shutdown(Shutdown::Both));
        }
        self.notes.clear();
        for (_, reply) in self.requests.drain() {
            drop(reply.try_send(Err(Error::lost("it broke"))));
        }
    }

    /// Everything that may be sent now, as frames.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.notes);
        let Some(link) = self.link.as_mut().filter(|l| l.ready) else { return out };
        if self.stopping > 0 && !link.draining {
            link.draining = true;
            wire::notification(&mut out, "worker.update", |p| {
                wire::put_map(p, 1);
                wire::put_str(p, "draining");
                wire::put_bool(p, true);
            });
        }
        // Every item takes a byte or more, so this bounds the items as well.
        let limit = link.welcome.max_frame.min(link.welcome.max_items).saturating_sub(256);
        self.unsent_since = None;
        while !self.unsent.is_empty() {
            let mut n = 0;
            let mut used = 0;
            while self.unsent.get(n).is_some_and(|k| n == 0 || used + k.bytes.len() <= limit) {
                used += self.unsent[n].bytes.len();
                n += 1;
            }
            wire::notification(&mut out, "step.result", |p| {
                wire::put_map(p, 1);
                wire::put_str(p, "results");
                wire::put_array(p, n);
                self.unsent.iter().take(n).for_each(|k| p.extend_from_slice(&k.bytes));
            });
            self.sent.extend(self.unsent.drain(..n));
        }
        out
    }
}

impl Engine {
    pub fn new(registry: Registry, abandon_after: Option<Duration>, log: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Engine { registry, abandon_after, state: Mutex::default(), work: Condvar::new(), write: Condvar::new(), changed: Condvar::new(), log }
    }

    fn wake_writer(&self, state: &mut State) {
        if std::mem::take(&mut state.writer_idle) {
            self.write.notify_one();
        }
    }

    pub fn say(&self, line: &str) {
        (self.log)(line);
    }

    pub fn stats(&self) -> Stats {
        lock(&self.state).stats
    }

    // ---- handlers' threads ----

    /// The next step to run; `None` when the worker ends.
    pub fn next_step(&self) -> Option<Step> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            if let Some(step) = state.begin_step() {
                return Some(step);
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// The step runs on a runtime, not on the thread that took it.
    #[cfg(feature = "tokio")]
    pub fn detached(&self, step: &Step) {
        if let Some(held) = lock(&self.state).held.get_mut(&step.0.key) {
            held.stage = Stage::Detached;
        }
    }

    /// Bytes and items a result may have.
    fn room(&self) -> (usize, usize) {
        lock(&self.state).link.as_ref().map_or((4 << 20, 262_144), |l| (l.welcome.max_frame, l.welcome.max_items))
    }

    /// An attempt has ended. False: it was given up, and its thread with it.
    #[cfg(any(test, feature = "tokio"))]
    pub fn finish(&self, step: &Step, attempt: &Attempt, began: Instant) -> bool {
        self.finish_and(step, attempt, began, |_| ()).is_some()
    }

    /// The same, and the next step to run, for a thread; `None`: it ends.
    pub fn next_after(&self, step: &Step, attempt: &Attempt, began: Instant) -> Option<Step> {
        self.finish_and(step, attempt, began, State::begin_step)?.or_else(|| self.next_step())
    }

    /// With one turn at the lock for both, and the writing thread woken when that is free again.
    fn finish_and<T>(&self, step: &Step, attempt: &Attempt, began: Instant, then: impl FnOnce(&mut State) -> T) -> Option<T> {
        let bytes = self.registry.encode(step, attempt, Some(began), self.room());
        let mut state = lock(&self.state);
        if !state.held.get(&step.0.key).is_some_and(|held| Arc::ptr_eq(&held.step.0, &step.0)) {
            return None;
        }
        let held = state.held.remove(&step.0.key);
        state.keep(step, bytes);
        let wake = (!state.writer_lingers || state.linger().is_none()) && std::mem::take(&mut state.writer_idle);
        let result = then(&mut state);
        drop(state);
        if wake {
            self.write.notify_one();
        }
        drop(held);
        Some(result)
    }

    // ---- what the daemon sends ----

    pub fn on_message(self: &Arc<Self>, method: &str, params: Value) {
        match method {
            "step.execute" => self.on_steps(params),
            "result.ack" => self.on_acks(params),
            "step.cancel" => {
                if let (Some(uuid), Some(attempt)) = (params.str("step_uuid"), params.int("attempt")) {
                    self.cancel(&Key::new((uuid.to_owned(), attempt)), params.str("reason").unwrap_or("stale"));
                }
            }
            "server.draining" => self.say("taskerd is stopping"),
            "worker.finish" => {
                self.say("an operator sends this worker home; it finishes what it runs, and ends");
                if !self.is_stopping() {
                    self.stop();
                }
            }
            "error" => self.say(&format!("taskerd complains: {}", Error::from_wire(params))),
            _ => {}
        }
    }

    fn on_steps(self: &Arc<Self>, mut params: Value) {
        let Some(Value::Array(steps)) = params.take("steps") else { return };
        let steps: Vec<Step> = steps.into_iter().filter_map(|v| Step::read(v, self.clone())).collect();
        let mut state = lock(&self.state);
        if state.stopping > 0 {
            return;
        }
        let mut fresh = 0;
        for step in steps {
            let held = Held { step: step.clone(), stage: Stage::Waiting, cancelled: None, connection: state.connection };
            if state.held.insert(step.0.key.clone(), held).is_none() {
                state.queue.push_back(step);
                fresh += 1;
            }
        }
        let wake = fresh.min(state.idle);
        drop(state);
        for _ in 0..wake {
            self.work.notify_one();
        }
    }

    fn on_acks(&self, mut params: Value) {
        let Some(Value::Array(acks)) = params.take("acks") else { return };
        let named = acks.into_iter().filter_map(|mut ack| match (ack.take("step_uuid"), ack.int("attempt")) {
            (Some(Value::Str(uuid)), Some(attempt)) => Some(((uuid, attempt), ack)),
            _ => None,
        });
        let acks: Vec<_> = named.collect();
        let mut refusals = Vec::new();
        let mut state = lock(&self.state);
        for (key, ack) in &acks {
            if !state.acknowledged(key) {
                continue;
            }
            match ack.str("status") {
                Some("recorded" | "duplicate") => state.stats.recorded += 1,
                status => {
                    state.stats.refused += 1;
                    let message = ack.str("message").unwrap_or_default();
                    refusals.push(format!("the result of step {} was not taken ({}): {message}", key.0, status.unwrap_or("?")));
                }
            }
        }
        if state.stopping > 0 {
            self.wake_writer(&mut state);
        }
        drop(state);
        refusals.iter().for_each(|line| self.say(line));
    }

    fn cancel(&self, key: &Key, reason: &str) {
        let mut state = lock(&self.state);
        if let Some(held) = state.held.get_mut(key) {
            held.cancelled.get_or_insert_with(Instant::now);
            held.step.cancel(reason);
            self.wake_writer(&mut state);
        }
    }

    pub fn on_response(&self, id: u32, outcome: std::result::Result<Value, Value>) {
        let reply = lock(&self.state).requests.remove(&id);
        if let Some(reply) = reply {
            drop(reply.try_send(outcome.map_err(Error::from_wire)));
        }
    }

    // ---- the connection ----

    /// What to say in hello of what is held, and to name when the session is resumed.
    pub fn held(&self) -> (usize, Vec<u8>) {
        let mut state = lock(&self.state);
        state.connection += 1;
        let mut entries = Vec::new();
        let mut named = |uuid: &str, attempt: i64, claim: &Value| {
            wire::put_map(&mut entries, 3);
            wire::put_str(&mut entries, "step_uuid");
            wire::put_str(&mut entries, uuid);
            wire::put_str(&mut entries, "attempt");
            wire::put_int(&mut entries, attempt);
            wire::put_str(&mut entries, "claim");
            wire::put(&mut entries, claim);
        };
        for held in state.held.values() {
            named(held.step.uuid(), held.step.attempt(), &held.step.0.claim);
        }
        for kept in &state.unsent {
            named(&kept.key.0, kept.key.1, &kept.claim);
        }
        (state.held_now(), entries)
    }

    pub fn session(&self) -> Option<String> {
        lock(&self.state).session.clone()
    }

    pub fn remember(&self, session: &str) {
        lock(&self.state).session = Some(session.to_owned()).filter(|s| !s.is_empty());
    }

    pub fn attach(&self, stream: UnixStream, welcome: Welcome) {
        let mut state = lock(&self.state);
        state.stats.connects += 1;
        state.link = Some(Link { stream: Arc::new(stream), welcome, draining: false, ready: false });
    }

    /// What goes to others is not to be answered by handlers that still run; results are sent whatever the daemon says.
    pub fn resumed(&self, answer: &Value) {
        for step in answer.array("steps") {
            if step.str("status") == Some("held") {
                continue;
            }
            let (Some(uuid), Some(attempt)) = (step.str("step_uuid"), step.int("attempt")) else { continue };
            let key = Key::new((uuid.to_owned(), attempt));
            let mut state = lock(&self.state);
            let newer = state.connection;
            if let Some(held) = state.held.get(&key).filter(|h| h.connection < newer) {
                held.step.cancel("stale");
                // Its thread is replaced: it may not come back for long.
                let replaced = usize::from(matches!(held.stage, Stage::Running));
                state.held.remove(&key);
                state.queue.retain(|s| s.0.key != key);
                state.threads_wanted += replaced;
            }
        }
    }

    pub fn ready(&self) {
        let mut state = lock(&self.state);
        if let Some(link) = &mut state.link {
            link.ready = true;
        }
        self.wake_writer(&mut state);
        self.changed.notify_all();
    }

    pub fn detach(&self) {
        let mut state = lock(&self.state);
        state.lose_link();
        state.rewind();
    }

    // ---- stopping ----

    /// True the first time.
    pub fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        state.stopping = state.stopping.saturating_add(1);
        if state.stopping > 1 {
            state.lose_link();
        }
        state.give_back();
        self.wake_writer(&mut state);
        self.changed.notify_all();
        state.stopping == 1
    }

    /// Nothing left to do, or no time left for it.
    pub fn drained(&self) -> bool {
        let state = lock(&self.state);
        state.stopping > 1 || (state.stopping == 1 && state.held_now() == 0)
    }

    pub fn is_stopping(&self) -> bool {
        lock(&self.state).stopping > 0
    }

    /// Ends the threads; those that run handlers end when these return.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        for held in state.held.values() {
            held.step.cancel("shutdown");
        }
        state.lose_link();
        self.work.notify_all();
        self.write.notify_all();
        self.changed.notify_all();
    }

    /// Pauses until it is time to connect, or to stop.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = lock(&self.state);
        let before = state.stopping;
        while state.stopping == before && !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || (before > 0 && state.held_now() == 0) {
                return;
            }
            state = wait(&self.changed, state, left);
        }
    }

    // ---- the writing thread ----

    /// Gives up handlers that were cancelled long ago; returns when to look again.
    fn abandon(&self, state: &mut State) -> Duration {
        let far = Duration::from_secs(3600);
        let Some(limit) = self.abandon_after else { return far };
        let late: Vec<Key> = state
            .held
            .iter()
            .filter(|(_, h)| !matches!(h.stage, Stage::Waiting) && h.cancelled.is_some_and(|at| at.elapsed() >= limit))
            .map(|(k, _)| k.clone())
            .collect();
        for key in late {
            let Some(held) = state.held.remove(&key) else { continue };
            let failure = Failure::library("cancelled", true, "cancelled, and the handler did not return");
            let bytes = self.registry.encode(&held.step, &Err(failure), None, (65_536, 4_096));
            state.keep(&held.step, bytes);
            state.threads_wanted += usize::from(matches!(held.stage, Stage::Running));
            state.stats.abandoned += 1;
            self.say(&format!("the handler of step {} does not return: it is given up", key.0));
        }
        let next = state.held.values().filter(|h| !matches!(h.stage, Stage::Waiting)).filter_map(|h| h.cancelled).min();
        next.map_or(far, |at| limit.saturating_sub(at.elapsed()))
    }

    /// One turn: waits until there is something to send and gives it, with where to send it. `None` when the worker ends.
    pub fn outgoing(&self, spawn: &dyn Fn(usize)) -> Option<(Arc<UnixStream>, Vec<u8>, bool)> {
        let mut state = lock(&self.state);
        let mut beat = Instant::now();
        loop {
            if state.ended {
                return None;
            }
            let look_again = self.abandon(&mut state);
            if state.threads_wanted > 0 {
                spawn(std::mem::take(&mut state.threads_wanted));
            }
            let heartbeat = state.link.as_ref().map_or(Duration::from_secs(1), |l| l.welcome.heartbeat / 3);
            let linger = state.linger();
            let mut out = if state.link.is_some() && linger.is_none() { state.outgoing() } else { Vec::new() };
            let done = state.stopping > 0 && state.held_now() == 0;
            if done {
                wire::notification(&mut out, "goodbye", |p| wire::put_map(p, 0));
            } else if out.is_empty() && state.link.is_some() && beat.elapsed() >= heartbeat {
                wire::notification(&mut out, "heartbeat", |p| wire::put_map(p, 0));
            }
            if let (false, Some(link)) = (out.is_empty(), &state.link) {
                return Some((link.stream.clone(), out, done));
            }
            if state.link.is_none() {
                beat = Instant::now();
            }
            let left = heartbeat.saturating_sub(beat.elapsed()).max(Duration::from_millis(1));
            state.writer_idle = true;
            state.writer_lingers = linger.is_some();
            let look_again = look_again.max(Duration::from_millis(1));
            state = wait(&self.write, state, left.min(linger.unwrap_or(look_again)));
            (state.writer_idle, state.writer_lingers) = (false, false);
        }
    }

    fn send_request(&self, method: &str, params: &[u8]) -> Result<(u32, std::sync::mpsc::Receiver<Result<Value>>)> {
        let (tx, rx) = sync_channel(1);
        let mut state = lock(&self.state);
        let until = Instant::now() + REQUEST_TIMEOUT;
        while !state.link.as_ref().is_some_and(|l| l.ready) && !state.ended && Instant::now() < until {
            state = wait(&self.changed, state, Duration::from_millis(500));
        }
        if !state.link.as_ref().is_some_and(|l| l.ready) {
            return Err(Error::lost("there is none"));
        }
        state.next_id = if state.next_id >= u32::MAX - 1 { 1 } else { state.next_id + 1 };
        let id = state.next_id;
        state.requests.insert(id, tx);
        wire::request(&mut state.notes, id, method, |p| p.extend_from_slice(params));
        self.wake_writer(&mut state);
        Ok((id, rx))
    }
}

impl Host for Engine {
    fn notify(&self, method: &'static str, params: Vec<u8>) {
        let mut state = lock(&self.state);
        if state.link.is_some() {
            wire::notification(&mut state.notes, method, |p| p.extend_from_slice(&params));
            self.wake_writer(&mut state);
        }
    }

    fn request(&self, method: &'static str, params: Vec<u8>) -> Result<Value> {
        let (id, answer) = self.send_request(method, &params)?;
        match answer.recv_timeout(REQUEST_TIMEOUT) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                lock(&self.state).requests.remove(&id);
                Err(Error::new("timeout", "taskerd did not answer in time"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::lost("it broke")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    /// A worker that is connected, and holds so many steps.
    fn busy(steps: i64) -> Arc<Engine> {
        let registry = Registry { handlers: HashMap::new(), publishers: HashMap::new() };
        let engine = Arc::new(Engine::new(registry, None, Box::new(|_| {})));
        let none = Value::Map(Vec::new());
        engine.attach(UnixStream::pair().unwrap().0, Welcome::read(&none).unwrap());
        engine.ready();
        let step = |n: i64| Value::Map(vec![("step_uuid".into(), Value::Str(format!("step-{n}"))), ("attempt".into(), Value::Int(1))]);
        engine.on_message("step.execute", Value::Map(vec![("steps".into(), Value::Array((0..steps).map(step).collect()))]));
        engine
    }

    fn run_one(engine: &Engine) {
        let step = engine.next_step().unwrap();
        assert!(engine.finish(&step, &Ok(Outcome::done(serde_json::json!({}))), Instant::now()));
    }

    /// How many results each frame of what is sent now has.
    fn sent(engine: &Engine) -> Vec<usize> {
        let (_, out, _) = engine.outgoing(&|_| {}).unwrap();
        let mut rest = &out[..];
        let mut counts = Vec::new();
        while let Some((head, body)) = rest.split_first_chunk::<4>() {
            let n = u32::from_be_bytes(*head) as usize;
            match wire::message(&body[..n], usize::MAX) {
                Ok(wire::Message::Notification { method, params }) if method == "step.result" => counts.push(params.array("results").len()),
                _ => panic!("not results"),
            }
            rest = &body[n..];
        }
        counts
    }

    #[test]
    fn results_go_together_once_nothing_is_left_to_begin() {
        let engine = busy(3);
        for _ in 0..2 {
            run_one(&engine);
            assert!(lock(&engine.state).unsent_since.is_some());
        }
        run_one(&engine);
        assert!(lock(&engine.state).linger().is_none());
        assert_eq!(sent(&engine), [3]);
    }

    #[test]
    fn a_result_does_not_wait_for_a_long_handler() {
        let engine = busy(3);
        run_one(&engine);
        let _long = engine.next_step().unwrap();
        assert_eq!(lock(&engine.state).queue.len(), 1);
        assert_eq!(sent(&engine), [1]);
        assert!(lock(&engine.state).unsent_since.is_none());
    }

    #[test]
    fn what_the_daemon_waits_for_does_not_linger() {
        let waiting = |change: &dyn Fn(&mut State)| {
            let engine = busy(2);
            run_one(&engine);
            let mut state = lock(&engine.state);
            state.unsent_since = Some(Instant::now() + Duration::from_secs(60));
            change(&mut state);
            state.linger().is_some()
        };
        assert!(waiting(&|_| {}));
        assert!(!waiting(&|state| state.notes.push(0)));
        assert!(!waiting(&|state| state.stopping = 1));
        assert!(!waiting(&|state| state.unsent_since = Some(Instant::now().checked_sub(LINGER).unwrap())));
    }
}
