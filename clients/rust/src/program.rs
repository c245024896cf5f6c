//! A worker as a whole program: the command line, signals, processes that replace each other.

use crate::worker::{Builder, Worker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const USAGE: &str = "options:
  --socket PATH          of taskerd
  --name NAME            shown to people
  --namespace NS         take steps of this one only; may be repeated
  --threads N            handlers that run at a time in one process
  --max-concurrency N    steps held at a time
  --processes N          so many worker processes; one that crashes is replaced
  --replay STEP_UUID     run the handler of a recorded step again, record nothing
  --quiet                no lines about connections";

#[derive(Default)]
struct Options {
    processes: usize,
    replay: Option<String>,
    quiet: bool,
    help: bool,
    one_of_several: bool,
}

/// Says to a process that it is one of several, and hears from the one that has started it on its standard input.
const ONE_OF_SEVERAL: &str = "--one-of-several";

fn number(name: &str, value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|n| *n <= 100_000).ok_or_else(|| format!("{name}: a number is needed, not {value:?}"))
}

fn read(mut builder: Builder, args: impl Iterator<Item = String>) -> Result<(Builder, Options), String> {
    let mut options = Options::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quiet" => options.quiet = true,
            "--help" => options.help = true,
            ONE_OF_SEVERAL => options.one_of_several = true,
            "--socket" | "--name" | "--namespace" | "--threads" | "--max-concurrency" | "--processes" | "--replay" => {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                match arg.as_str() {
                    "--socket" => builder = builder.socket(value),
                    "--name" => builder = builder.name(&value),
                    "--namespace" => builder = builder.namespace(&value),
                    "--threads" => builder = builder.threads(number(&arg, &value)?),
                    "--max-concurrency" => builder = builder.max_concurrency(number(&arg, &value)?),
                    "--processes" => options.processes = number(&arg, &value)?,
                    _ => options.replay = Some(value),
                }
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok((builder, options))
}

impl Builder {
    /// `main` of a worker program: the options of its command line (`--help` lists them), SIGTERM and SIGINT drain it, a second one ends it at once. The status
    /// is 0 when it has drained, 1 if the daemon refuses it, 2 for a wrong command line.
    pub fn main(self) -> ExitCode {
        self.main_with(std::env::args().skip(1))
    }

    /// The same with other arguments.
    pub fn main_with(self, args: impl Iterator<Item = String>) -> ExitCode {
        let (mut builder, options) = match read(self, args) {
            Ok(read) => read,
            Err(why) => {
                eprintln!("{why}\n{USAGE}");
                return ExitCode::from(2);
            }
        };
        if options.help {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        if options.processes > 1 && options.replay.is_none() {
            return supervise(options.processes);
        }
        if options.quiet {
            builder.log = None;
        }
        let worker = builder.build();
        match options.replay {
            Some(step) => replay(&worker, &step),
            None => run(&worker, options.one_of_several),
        }
    }
}

fn replay(worker: &Worker, step: &str) -> ExitCode {
    match worker.replay(step) {
        Ok(shown) => {
            println!("{shown:#}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("cannot replay: {e}");
            ExitCode::FAILURE
        }
    }
}

fn signals() -> Signals {
    Signals::new([SIGTERM, SIGINT]).unwrap_or_else(|e| {
        eprintln!("signals cannot be caught: {e}");
        std::process::exit(1)
    })
}

/// The parent's word on standard input: a byte each time that it is told to stop, the end if it is gone.
fn follow_parent(stop: impl Fn()) {
    let mut told = std::io::stdin().lock().bytes();
    let again = matches!(told.next(), Some(Ok(_)));
    stop();
    if again && matches!(told.next(), Some(Ok(_))) {
        std::process::exit(1);
    }
}

fn run(worker: &Worker, one_of_several: bool) -> ExitCode {
    // A service manager tells every process, and so does the parent: that is once, and what runs is finished.
    let (stopper, stopped) = (worker.stopper(), AtomicBool::new(false));
    let stop = Arc::new(move || {
        if !stopped.swap(true, Ordering::AcqRel) {
            stopper.stop();
        }
    });
    if one_of_several {
        let stop = stop.clone();
        std::thread::spawn(move || follow_parent(&*stop));
    }
    let mut caught = signals();
    std::thread::spawn(move || {
        for (n, _) in caught.forever().enumerate() {
            if n > 0 {
                std::process::exit(1);
            }
            stop();
        }
    });
    match worker.run() {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// The processes of a worker, by the pipes to their standard input, and how often they were told to stop.
struct Processes {
    told: AtomicUsize,
    pipes: Mutex<Vec<Option<ChildStdin>>>,
}

impl Processes {
    fn stopping(&self) -> bool {
        self.told.load(Ordering::Acquire) > 0
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Option<ChildStdin>>) -> T) -> T {
        act(&mut self.pipes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Once more. How often that makes.
    fn tell(&self) -> usize {
        self.with(|pipes| {
            for pipe in pipes.iter_mut().flatten() {
                drop(pipe.write_all(b".")); // one that has ended needs no telling
            }
            self.told.fetch_add(1, Ordering::AcqRel) + 1
        })
    }

    /// Keep the pipe to a process; it may have been begun too late to have been told.
    fn keep(&self, place: usize, pipe: Option<ChildStdin>) {
        self.with(|pipes| {
            pipes[place] = pipe;
            if let Some(pipe) = &mut pipes[place] {
                drop(pipe.write_all(&b"..."[..self.told.load(Ordering::Acquire).min(3)]));
            }
        });
    }
}

/// This program again, with the same arguments but `--processes`, in a process group of its own: what a terminal sends reaches it by its parent, once.
fn child() -> std::io::Result<Child> {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(at) = args.iter().position(|a| a == "--processes") {
        args.drain(at..(at + 2).min(args.len()));
    }
    Command::new(std::env::current_exe()?).args(args).arg(ONE_OF_SEVERAL).stdin(Stdio::piped()).process_group(0).spawn()
}

fn keep_one_running(all: &Processes, place: usize) -> bool {
    while !all.stopping() {
        let began = Instant::now();
        let mut running = match child() {
            Ok(running) => running,
            Err(e) => {
                eprintln!("cannot start another process: {e}; trying again");
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        let pid = running.id();
        all.keep(place, running.stdin.take());
        let Ok(status) = running.wait() else { return false };
        all.keep(place, None);
        if all.stopping() || status.code() == Some(0) {
            return status.success();
        }
        if status.code() == Some(1) {
            return false;
        }
        eprintln!("worker process {pid} ended: {status}; it is replaced");
        if began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    true
}

fn supervise(n: usize) -> ExitCode {
    let all = Arc::new(Processes { told: AtomicUsize::new(0), pipes: Mutex::new((0..n).map(|_| None).collect()) });
    let (mut caught, told) = (signals(), all.clone());
    std::thread::spawn(move || {
        for _ in &mut caught.forever() {
            if told.tell() > 2 {
                std::process::exit(1);
            }
        }
    });
    let kept: Vec<_> = (0..n).map(|place| (all.clone(), place)).map(|(all, place)| std::thread::spawn(move || keep_one_running(&all, place))).collect();
    let ended: Vec<bool> = kept.into_iter().map(|t| t.join().unwrap_or(false)).collect();
    ExitCode::from(u8::from(ended.contains(&false)))
}
