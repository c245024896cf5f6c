//! The socket: where it is, opening it, frames in and out, the handshake.

use crate::error::{Error, Result};
use crate::wire::{self, Message, Value};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIBRARY: &str = concat!("taskerd-rust/", env!("CARGO_PKG_VERSION"));
const PROTOCOL: (i64, i64) = (1, 0);
/// Bytes that a read may bring at least, and those that a buffer keeps.
const CHUNK: usize = 65_536;
const KEPT: usize = 1 << 20;
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// The socket a program without an explicit path uses: `$TASKERD_SOCKET`, `$XDG_RUNTIME_DIR/taskerd/taskerd.sock` if it exists,
/// `/run/taskerd/taskerd.sock`.
pub fn default_socket() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(path) = set("TASKERD_SOCKET") {
        return path.into();
    }
    set("XDG_RUNTIME_DIR")
        .map(|dir| Path::new(&dir).join("taskerd/taskerd.sock"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/run/taskerd/taskerd.sock".into())
}

#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub node: String,
    pub server: String,
    pub session: String,
    pub heartbeat: Duration,
    pub max_frame: usize,
    pub max_items: usize,
    pub max_bulk: usize,
}

impl Welcome {
    pub fn read(v: &Value) -> Result<Self> {
        if let [Value::Int(major), Value::Int(minor), ..] = v.array("protocol") {
            if *major != PROTOCOL.0 {
                let message = format!("the daemon speaks protocol {major}.{minor}, this library {}.{}", PROTOCOL.0, PROTOCOL.1);
                return Err(Error::new("unsupported_version", message));
            }
        }
        let none = Value::Nil;
        let limits = v.get("limits").unwrap_or(&none);
        let limit = |key, otherwise| limits.uint(key).filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok()).unwrap_or(otherwise);
        let text = |key| v.str(key).unwrap_or_default().to_owned();
        Ok(Welcome {
            node: text("node"),
            server: text("server"),
            session: text("session"),
            heartbeat: Duration::from_millis(v.uint("heartbeat_ms").filter(|n| *n > 0).unwrap_or(10_000)),
            max_frame: limit("max_frame", 4 << 20).min(1 << 30),
            max_items: limit("max_items", 262_144),
            max_bulk: limit("max_bulk", 100),
        })
    }
}

/// The reading end: whole frames of what arrives.
pub(crate) struct Frames {
    stream: UnixStream,
    /// What is between `start` and `end` has been read; the rest is room.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pub max_frame: usize,
    pub max_items: usize,
}

impl Frames {
    fn new(stream: UnixStream) -> Self {
        Frames { stream, buffer: Vec::new(), start: 0, end: 0, max_frame: 65_536, max_items: 4_096 }
    }

    /// The next message that is here already.
    pub fn buffered(&mut self) -> Result<Option<Message>> {
        let rest = &self.buffer[self.start..self.end];
        let Some(head) = rest.first_chunk::<4>() else { return Ok(None) };
        let n = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if n == 0 || n > self.max_frame {
            return Err(Error::new("protocol_error", format!("the daemon sent a frame of {n} bytes")));
        }
        let Some(payload) = rest.get(4..4 + n) else { return Ok(None) };
        let message = wire::message(payload, self.max_items);
        self.start += 4 + n;
        message.map(Some).map_err(|why| Error::new("protocol_error", format!("the daemon sent a broken message: {why}")))
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == 0 && self.buffer.len() > KEPT {
            self.buffer = Vec::new(); // a large frame has come and gone
        }
        if self.buffer.len() - self.end < CHUNK {
            self.buffer.resize((self.end + CHUNK).next_power_of_two(), 0);
        }
    }

    /// Waits for more bytes.
    pub fn fill(&mut self) -> Result<()> {
        self.make_room();
        let got = loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.end += *got.as_ref().unwrap_or(&0);
        match got {
            Ok(0) => Err(Error::lost("taskerd closed it")),
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Error::new("timeout", "taskerd did not answer in time")),
            Err(e) => Err(Error::lost(e)),
        }
    }

    pub fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill()?;
        }
    }
}

fn names(file: &str, id: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut rows = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let wanted = id.to_string();
    rows.find(|r| r.get(2) == Some(&wanted.as_str())).map_or(wanted.clone(), |r| r[0].to_owned())
}

/// Whose the socket is, or the nearest directory above it that may be looked at.
fn forbidden(path: &Path) -> String {
    let found = path.ancestors().find_map(|p| std::fs::metadata(p).ok().map(|m| (p, m)));
    let own = std::fs::metadata("/proc/self").map_or(0, |m| m.uid());
    match found {
        Some((p, m)) => format!(
            "permission denied: {} is for user {} and group {}, this process is user {}",
            p.display(),
            names("/etc/passwd", m.uid()),
            names("/etc/group", m.gid()),
            names("/etc/passwd", own)
        ),
        None => format!("permission denied: {}", path.display()),
    }
}

fn unreachable(path: &Path, e: &std::io::Error) -> Error {
    let message = match e.kind() {
        ErrorKind::NotFound => format!("no socket at {}: taskerd is not running, or listens elsewhere", path.display()),
        ErrorKind::ConnectionRefused => format!("nobody listens at {} any more: taskerd has stopped", path.display()),
        ErrorKind::PermissionDenied => forbidden(path),
        _ => format!("cannot connect to {}: {e}", path.display()),
    };
    Error::new("unreachable", message)
}

/// What hello says of every client; `extra` are further entries, `n` of them.
pub(crate) fn hello(client: Option<&str>, n: usize, extra: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_map(&mut out, 4 + n);
    wire::put_str(&mut out, "protocol");
    wire::put_array(&mut out, 2);
    wire::put_int(&mut out, PROTOCOL.0);
    wire::put_int(&mut out, PROTOCOL.1);
    wire::put_str(&mut out, "client");
    wire::put_str(&mut out, client.unwrap_or(LIBRARY));
    wire::put_str(&mut out, "language");
    wire::put_str(&mut out, "rust");
    wire::put_str(&mut out, "pid");
    wire::put_int(&mut out, std::process::id().into());
    extra(&mut out);
    out
}

/// Connects and shakes hands. What the daemon sends behind its welcome is in the frames.
pub(crate) fn open(path: &Path, hello: &[u8], timeout: Duration) -> Result<(UnixStream, Frames, Welcome)> {
    let mut stream = UnixStream::connect(path).map_err(|e| unreachable(path, &e))?;
    let mut out = Vec::new();
    wire::request(&mut out, 0, "hello", |out| out.extend_from_slice(hello));
    if out.len() > 65_536 + 4 {
        return Err(Error::new("too_large", "the list of handlers is too long for the handshake"));
    }
    let lost = |e: std::io::Error| Error::lost(e);
    stream.set_read_timeout(Some(timeout)).map_err(lost)?;
    stream.write_all(&out).map_err(lost)?;
    let mut frames = Frames::new(stream.try_clone().map_err(lost)?);
    let welcome = Welcome::read(&greeting(&mut frames, Instant::now() + timeout)?)?;
    frames.max_frame = welcome.max_frame;
    frames.max_items = welcome.max_items;
    stream.set_read_timeout(None).map_err(lost)?;
    Ok((stream, frames, welcome))
}

fn greeting(frames: &mut Frames, deadline: Instant) -> Result<Value> {
    let mut farewell = None;
    while Instant::now() < deadline {
        match frames.next() {
            Ok(Message::Response { id: 0, outcome }) => return outcome.map_err(Error::from_wire),
            Ok(Message::Notification { method, params }) if method == "error" => farewell = Some(Error::from_wire(params)),
            Ok(_) => {}
            Err(e) => return Err(farewell.unwrap_or(e)),
        }
    }
    Err(Error::new("timeout", "taskerd accepted the connection but did not greet in time"))
}

/// Pauses between attempts to connect: full jitter, from 0.1 s doubling to at most 10 s.
pub(crate) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    pub fn new() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        Backoff { failures: 0, random: RandomState::new().build_hasher().finish() | 1 }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        // A restarted daemon keeps steps for its workers for ten seconds, which they must not sleep away.
        let cap = (100_u64 << self.failures.min(7)).min(2_000);
        self.failures += 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let own = Duration::from_millis(self.random % cap);
        own.max(asked.filter(|d| *d <= Duration::from_secs(60)).unwrap_or_default())
    }
}
