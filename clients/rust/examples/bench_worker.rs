//! A worker whose handlers do nothing, for tests/bench: the callables are its arguments behind `--`.
use std::process::ExitCode;
use taskerd::{Step, Worker};

fn main() -> ExitCode {
    let mut options: Vec<String> = std::env::args().skip(1).collect();
    let at = options.iter().position(|a| a == "--").unwrap_or(options.len());
    let callables = options.split_off(at);
    let mut builder = Worker::builder().name("bench-rust");
    for callable in callables.iter().skip(1) {
        builder = builder.handler(callable, |_: &Step| ());
    }
    builder.main_with(options.into_iter())
}
