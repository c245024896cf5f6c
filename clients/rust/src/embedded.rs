//! A taskerd of one's own, with an embedded database, for tests of whole workflows.

use crate::client::{Client, NewTask};
use crate::engine::Stats;
use crate::error::{Error, Result};
use crate::worker::{Builder, Stopper, Worker};
use serde_json::{json, Value as Json};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Runs the daemon ($2 and on) until its standard input ends, which it does however this process ends, and removes the directory ($1).
const KEEPER: &str = r#"
directory=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
daemon=$!
{ read -r _ <&3; kill "$daemon"; } &
reader=$!
exec 3<&-
wait "$daemon"
status=$?
kill "$reader"
rm -rf -- "$directory"
exit "$status"
"#;
const START: Duration = Duration::from_secs(120);
const RUN: Duration = Duration::from_secs(60);

/// `taskerd --embedded` in a temporary directory. Both are gone when this is dropped, by a panic as well, or when the process ends, in whatever way.
pub struct Embedded {
    keeper: Child,
    client: Client,
    socket: PathBuf,
}

/// A task with its steps, as [`Client::task`] answers it.
#[derive(Clone, Debug)]
pub struct Done(Json);

impl Done {
    /// The task object.
    pub fn task(&self) -> &Json {
        &self.0
    }

    /// `complete`, ...
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap_or_default()
    }

    /// The step object of that name, `Null` if there is none.
    pub fn step(&self, name: &str) -> &Json {
        let found = self.0["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["name"] == name));
        found.unwrap_or(&Json::Null)
    }

    /// The result of that step, `Null` if there is none.
    pub fn result(&self, name: &str) -> &Json {
        &self.step(name)["result"]
    }

    /// It, if the task is complete; else a panic that says what the steps say.
    ///
    /// # Panics
    /// If the task is not complete.
    #[allow(clippy::must_use_candidate, reason = "asserting is a use")]
    #[track_caller]
    pub fn complete(self) -> Done {
        let wrong = |step: &Json| step["error"]["message"].as_str().map(|message| format!("\n  {}: {message}", step["name"].as_str().unwrap_or_default()));
        let why: String = self.0["steps"].as_array().into_iter().flatten().filter_map(wrong).collect();
        assert!(self.state() == "complete", "task {} is {}{why}", self.0["name"].as_str().unwrap_or_default(), self.state());
        self
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new("unreachable", why.to_string())
}

fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("TASKERD_PROGRAM").filter(|name| !name.is_empty()) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join("taskerd")).find(|place| place.is_file());
    found.ok_or_else(|| failed("there is no taskerd on the PATH; set TASKERD_PROGRAM"))
}

fn temporary() -> std::io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let name = format!("taskerd-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let place = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&place) {
            Ok(()) => {
                fs::set_permissions(&place, fs::Permissions::from_mode(0o711))?; // a database that root starts runs as another user
                return Ok(place);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

fn option(name: &str, value: &Path) -> OsString {
    let mut all = OsString::from(name);
    all.push(value);
    all
}

fn launch(program: &Path, directory: &Path, socket: &Path) -> std::io::Result<Child> {
    let log = File::create(directory.join("taskerd.log"))?;
    Command::new("/bin/sh")
        .args(["-c", KEEPER, "sh"])
        .arg(directory)
        .arg(program)
        .arg(option("--embedded=", &directory.join("database")))
        .arg(option("--socket=", socket))
        .process_group(0) // what a terminal sends ends the test, and the end of the test ends these
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn log_text(directory: &Path) -> String {
    let text = fs::read(directory.join("taskerd.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Closes the daemon's standard input, and waits until it and its database have ended.
fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    drop(keeper.wait());
}

fn healthy(socket: &Path) -> Result<Client> {
    let client = Client::builder().socket(socket).timeout(RUN).connect()?;
    client.list_tasks(&json!({"limit": 1}))?;
    Ok(client)
}

fn await_database(keeper: &mut Child, directory: &Path, socket: &Path) -> Result<Client> {
    let deadline = Instant::now() + START;
    // The log is kept: the keeper removes it.
    let mut log = String::new();
    loop {
        match healthy(socket) {
            Ok(client) => return Ok(client),
            Err(e) if !e.is_retryable() => return Err(e),
            Err(_) => {}
        }
        let text = log_text(directory);
        log = if text.is_empty() { log } else { text };
        if keeper.try_wait().map_err(failed)?.is_some() {
            return Err(failed(format!("taskerd has ended:\n{log}")));
        }
        if Instant::now() > deadline {
            return Err(failed(format!("taskerd does not get ready:\n{log}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A worker of the test's on a thread, stopped and waited for when dropped.
struct Running(Stopper, Option<JoinHandle<Result<Stats>>>);

impl Running {
    /// Why the worker has ended by itself, if it has.
    fn refused(&mut self) -> Option<Error> {
        let ended = self.1.take_if(|thread| thread.is_finished())?;
        ended.join().ok()?.err()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
        drop(self.1.take().map(JoinHandle::join));
    }
}

impl Embedded {
    /// Starts the daemon, `$TASKERD_PROGRAM` or the one on the PATH, and waits until it has its database.
    pub fn start() -> Result<Self> {
        Embedded::start_program(&program()?)
    }

    /// The same with another program.
    pub fn start_program(program: &Path) -> Result<Self> {
        let directory = temporary().map_err(failed)?;
        let socket = directory.join("taskerd.sock");
        let mut keeper = match launch(program, &directory, &socket) {
            Ok(keeper) => keeper,
            Err(e) => {
                drop(fs::remove_dir_all(&directory));
                return Err(failed(e));
            }
        };
        match await_database(&mut keeper, &directory, &socket) {
            Ok(client) => Ok(Embedded { keeper, client, socket }),
            Err(e) => {
                end(&mut keeper);
                Err(e)
            }
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of the daemon.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        self.socket.parent().map(log_text).unwrap_or_default()
    }

    /// Registers a template (YAML or JSON), runs one task of it with a worker in this process and returns it when nothing of it moves any more, for a minute at
    /// most.
    pub fn run(&self, template: &str, context: impl Into<Json>, worker: Builder) -> Result<Done> {
        let made = self.client.apply_template(template)?;
        let text = |key: &str| made[key].as_str().unwrap_or_default();
        let task = NewTask::new(text("name")).namespace(text("namespace")).version(text("version")).context(context);
        let worker = worker.socket(&self.socket).build();
        self.run_task(task, worker)
    }

    fn run_task(&self, task: NewTask, worker: Worker) -> Result<Done> {
        let mut running = Running(worker.stopper(), Some(std::thread::spawn(move || worker.run())));
        let task = self.client.create_task(task)?;
        let done = self.client.wait_for_task(&task.task_uuid, RUN);
        if done.is_err() {
            running.0.stop(); // and do not wait for what hangs
        }
        done.map(Done).map_err(|why| running.refused().unwrap_or(why))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("taskerd said:\n{}", self.log());
        }
        end(&mut self.keeper);
    }
}
