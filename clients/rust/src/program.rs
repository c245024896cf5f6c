//! A worker as a whole program: the command line, signals, processes that replace each other.

use crate::worker::{Builder, Worker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
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
}

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
            None => run(&worker),
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
            eprintln!("{e}");
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

fn run(worker: &Worker) -> ExitCode {
    let stopper = worker.stopper();
    let mut caught = signals();
    std::thread::spawn(move || {
        for (n, _) in caught.forever().enumerate() {
            if n > 0 {
                std::process::exit(1);
            }
            stopper.stop();
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

/// This program again, with the same arguments but `--processes`.
fn child() -> std::io::Result<Child> {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(at) = args.iter().position(|a| a == "--processes") {
        args.drain(at..(at + 2).min(args.len()));
    }
    Command::new(std::env::current_exe()?).args(args).spawn()
}

fn keep_one_running(stopping: &AtomicBool) -> bool {
    while !stopping.load(Ordering::Acquire) {
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
        let mut told = false;
        let status = loop {
            match running.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => return false,
            }
            if stopping.load(Ordering::Acquire) && !told {
                told = true;
                drop(Command::new("kill").args(["-TERM", &pid.to_string()]).status());
            }
        };
        if stopping.load(Ordering::Acquire) || status.code() == Some(0) {
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
    let stopping = Arc::new(AtomicBool::new(false));
    let (mut caught, told) = (signals(), stopping.clone());
    std::thread::spawn(move || {
        for (n, _) in caught.forever().enumerate() {
            if n > 0 {
                std::process::exit(1);
            }
            told.store(true, Ordering::Release);
        }
    });
    let kept: Vec<_> = (0..n).map(|_| stopping.clone()).map(|s| std::thread::spawn(move || keep_one_running(&s))).collect();
    let ended: Vec<bool> = kept.into_iter().map(|t| t.join().unwrap_or(false)).collect();
    ExitCode::from(u8::from(ended.contains(&false)))
}
