//! Replay: a recorded step is run again here, with what the daemon has of it, and nothing is recorded.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::run::shown;
use crate::step::{encoded, Host, Step};
use crate::wire::{self, Value};
use crate::worker::Worker;
use serde_json::{json, Value as Json};
use std::sync::Arc;

/// Shows what would be told, and asks for results that were left out of the step for size.
struct Shown(Client);

impl Shown {
    fn show(method: &str, params: &[u8]) {
        let params = wire::decode(params, usize::MAX).map_or(Json::Null, Value::into_json);
        eprintln!("{method} {params}");
    }
}

impl Host for Shown {
    fn notify(&self, method: &'static str, params: Vec<u8>) {
        Shown::show(method, &params);
    }

    fn request(&self, method: &'static str, params: Vec<u8>) -> Result<Value> {
        if method == "step.dependencies" {
            let params = wire::decode(&params, usize::MAX).map_or(Json::Null, Value::into_json);
            return self.0.request_value(method, &params);
        }
        Shown::show(method, &params);
        Ok(Value::Map(Vec::new()))
    }
}

impl Worker {
    /// Runs the handler of a recorded step again, here, and gives its result beside the recorded one: `{step, handler, recorded, replayed, same}`. Nothing is
    /// recorded.
    pub fn replay(&self, step_uuid: &str) -> Result<Json> {
        let client = Client::builder().socket(self.socket_path()).connect()?;
        let mut answer = client.request("step.replay", &json!({"step_uuid": step_uuid}))?;
        let (fields, recorded) = (answer["step"].take(), answer["recorded"].take());
        let value = wire::decode(&encoded(&fields), usize::MAX).map_err(|why| Error::new("protocol_error", why))?;
        let step = Step::read(value, Arc::new(Shown(client))).ok_or_else(|| Error::new("not_found", "the step has no uuid"))?;
        let attempt = self.attempt_here(&step).map_err(|failure| Error::new("not_found", failure.message()))?;
        let same = matches!(&attempt, Ok(outcome) if outcome.result == recorded["result"]);
        Ok(json!({"step": fields["step"], "handler": fields["handler"]["callable"], "recorded": recorded, "replayed": shown(&attempt), "same": same}))
    }
}
