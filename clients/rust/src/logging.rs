//! The `log` crate's records go to the daemon's log, those of a handler with the ids of its task and step.

use crate::run::CURRENT;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Bridge {
    inner: Option<Box<dyn Log>>,
}

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        // Never while it is set: what is told is told by the step itself.
        if let Some(step) = CURRENT.try_with(|c| c.borrow().clone()).ok().flatten() {
            step.log(level, &record.args().to_string());
        }
        match &self.inner {
            Some(inner) => inner.log(record),
            None => eprintln!("{level}: {}", record.args()),
        }
    }

    fn flush(&self) {}
}

/// Installs the bridge. `inner` gets every record too; without one they also go to stderr. False if the program has a logger already.
pub fn init(level: LevelFilter, inner: Option<Box<dyn Log>>) -> bool {
    let installed = log::set_boxed_logger(Box::new(Bridge { inner })).is_ok();
    if installed {
        log::set_max_level(level);
    }
    installed
}
