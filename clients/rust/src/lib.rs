#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(feature = "tokio")]
pub mod aio;
mod client;
mod conn;
mod embedded;
mod engine;
mod error;
mod handler;
#[cfg(feature = "log")]
pub mod logging;
mod outcome;
#[cfg(feature = "signals")]
mod program;
mod replay;
mod run;
mod step;
pub mod testing;
mod wire;
mod worker;

pub use client::{Client, ClientBuilder, Created, NewTask};
pub use conn::default_socket;
pub use engine::Stats;
pub use error::{Error, Result};
pub use handler::{Handler, Publish, Publisher};
pub use outcome::{BatchCounts, Failure, IntoOutcome, Json, Outcome};
pub use step::{Batch, Step};
pub use worker::{Builder, Stopper, Worker};
