//! What can go wrong between a program and the daemon.

use crate::wire::Value;
use std::fmt;
use std::time::Duration;

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Error {
    /// A code of the protocol (`not_found`, `conflict`, `overloaded`, ...) if the daemon said so, or `unreachable`, `connection_lost`, `timeout`,
    /// `protocol_error`, `invalid_value`, `too_large`, `stale`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Where in the parameters, if that is known.
    pub path: Option<String>,
    /// The daemon's wish for the pause before another try.
    pub retry_after: Option<Duration>,
    /// What else the daemon said.
    pub details: serde_json::Value,
}

impl Error {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Error { code: code.into(), message: message.into(), path: None, retry_after: None, details: serde_json::Value::Null }
    }

    pub(crate) fn lost(why: impl fmt::Display) -> Self {
        Error::new("connection_lost", format!("the connection to taskerd ended: {why}"))
    }

    pub(crate) fn from_wire(mut v: Value) -> Self {
        Error {
            code: v.str("code").unwrap_or("internal").into(),
            message: v.str("message").unwrap_or("taskerd gave no reason").into(),
            path: v.str("path").map(Into::into),
            retry_after: v.uint("retry_after_ms").map(Duration::from_millis),
            details: v.take("details").map_or(serde_json::Value::Null, Value::into_json),
        }
    }

    /// Whether another try may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code.as_str(),
            "overloaded" | "database_unavailable" | "shutting_down" | "unreachable" | "connection_lost" | "timeout"
        )
    }

    /// Whether a worker that is refused so will be refused again.
    pub(crate) fn is_final(&self) -> bool {
        !self.is_retryable() && !matches!(self.code.as_str(), "internal" | "protocol_error")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(path) = &self.path {
            write!(f, " ({path})")?;
        }
        write!(f, " [{}]", self.code)
    }
}

impl std::error::Error for Error {}

/// The outcome of a call.
pub type Result<T> = std::result::Result<T, Error>;
