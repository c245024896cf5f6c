//! `MessagePack` as the protocol allows it: no extension types, string keys that occur once, UTF-8, bounded depth and number of items.
//! What is read is checked while it is read, and nothing is allocated for more than there are bytes.

use rmp::Marker;
use serde_json::{Map, Number, Value as Json};
use std::borrow::Cow;

pub(crate) const MAX_DEPTH: usize = 30;
/// Values inside of messages may be nested so deep.
const MAX_VALUE_DEPTH: usize = 24;

/// The key of an entry. Those of the messages that come for every step are not copied.
pub(crate) type Name = Cow<'static, str>;

/// In alphabetical order; a bit for each of them fits into a number.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "acks", "attempt", "callable", "checkpoint", "claim", "context", "correlation_id", "dependencies", "dependencies_partial", "dependency_steps", "handler",
    "initialization", "inputs", "max_attempts", "message", "method", "namespace", "parent_correlation_id", "priority", "publishes_events", "reason", "resolver", "retryable",
    "status", "step", "step_uuid", "steps", "task_uuid", "template", "template_step", "timeout_ms", "traceparent", "tracestate", "version",
];

const _: () = assert!(KNOWN.len() <= u64::BITS as usize);

/// A value of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// Above the range of `Int`.
    Wide(u64),
    Float(f64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(Name, Value)>),
}

impl Value {
    /// The field of a map; `None` if it is absent or nil, or if this is no map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(k, v)| *k == key && *v != Value::Nil).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Takes a field out of a map.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        match self {
            Value::Map(entries) => {
                let at = entries.iter().position(|(k, _)| *k == key)?;
                match entries.swap_remove(at).1 {
                    Value::Nil => None,
                    v => Some(v),
                }
            }
            _ => None,
        }
    }

    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Str(s)) => Some(s),
            _ => None,
        }
    }

    pub fn int(&self, key: &str) -> Option<i64> {
        match self.get(key) {
            Some(Value::Int(n)) => Some(*n),
            _ => None,
        }
    }

    pub fn uint(&self, key: &str) -> Option<u64> {
        self.int(key).and_then(|n| u64::try_from(n).ok())
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(Value::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    pub fn array(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Value::Array(items)) => items,
            _ => &[],
        }
    }

    /// As JSON. What JSON cannot say, and the daemon does not send, becomes null.
    pub fn into_json(self) -> Json {
        match self {
            Value::Nil | Value::Bin(_) => Json::Null,
            Value::Bool(b) => Json::Bool(b),
            Value::Int(n) => n.into(),
            Value::Wide(n) => n.into(),
            Value::Float(f) => Number::from_f64(f).map_or(Json::Null, Json::Number),
            Value::Str(s) => Json::String(s),
            Value::Array(items) => Json::Array(items.into_iter().map(Value::into_json).collect()),
            Value::Map(entries) => Json::Object(entries.into_iter().map(|(k, v)| (k.into_owned(), v.into_json())).collect()),
        }
    }

    /// As JSON that the daemon can store; what it cannot is named with its place.
    pub fn into_storable(self) -> Result<Json, String> {
        storable(&self, &mut Vec::new())?;
        Ok(self.into_json())
    }
}

/// A place in a value, as keys and indices.
enum Part {
    Key(String),
    Index(usize),
}

fn place(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        match part {
            Part::Key(k) if text.is_empty() => text.clone_from(k),
            Part::Key(k) => text = format!("{text}.{k}"),
            Part::Index(i) => text = format!("{text}[{i}]"),
        }
    }
    if text.is_empty() {
        text.push_str("the value");
    }
    text
}

fn refuse<T>(path: &[Part], what: &str) -> Result<T, String> {
    Err(format!("{}: {what}", place(path)))
}

fn check_text(s: &str, path: &[Part]) -> Result<(), String> {
    if s.contains('\0') {
        return refuse(path, "U+0000 in a string");
    }
    Ok(())
}

fn storable(value: &Value, path: &mut Vec<Part>) -> Result<(), String> {
    if path.len() > MAX_VALUE_DEPTH {
        return refuse(&path[..2], "nested too deeply");
    }
    match value {
        Value::Float(f) if !f.is_finite() => refuse(path, if f.is_nan() { "NaN" } else { "infinity" }),
        Value::Wide(_) => refuse(path, "an integer of more than 64 bits with its sign"),
        Value::Bin(_) => refuse(path, "bytes; make a string or an array of them"),
        Value::Str(s) => check_text(s, path),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, v)| inside(v, Part::Index(i), path)),
        Value::Map(entries) => entries.iter().try_for_each(|(k, v)| {
            check_text(k, path)?;
            inside(v, Part::Key(k.to_string()), path)
        }),
        _ => Ok(()),
    }
}

fn inside(value: &Value, part: Part, path: &mut Vec<Part>) -> Result<(), String> {
    path.push(part);
    storable(value, path)?;
    path.pop();
    Ok(())
}

/// The same for JSON that is there already. Cheap for what is fine.
pub(crate) fn check_json(value: &Json) -> Result<(), String> {
    fn fine(value: &Json, depth: usize) -> bool {
        depth <= MAX_VALUE_DEPTH
            && match value {
                Json::String(s) => !s.contains('\0'),
                Json::Number(n) => n.is_i64() || n.is_f64(),
                Json::Array(items) => items.iter().all(|v| fine(v, depth + 1)),
                Json::Object(entries) => entries.iter().all(|(k, v)| !k.contains('\0') && fine(v, depth + 1)),
                _ => true,
            }
    }
    if fine(value, 0) {
        return Ok(());
    }
    storable(&from_json(value), &mut Vec::new())
}

fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::Int(i),
            (None, Some(u)) => Value::Wide(u),
            _ => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::Str(s.clone()),
        Json::Array(items) => Value::Array(items.iter().map(from_json).collect()),
        Json::Object(entries) => Value::Map(entries.iter().map(|(k, v)| (k.clone().into(), from_json(v))).collect()),
    }
}

/// Anything that serde can serialise, as JSON that the daemon can store.
pub(crate) fn to_storable<T: serde::Serialize + ?Sized>(value: &T) -> Result<Json, String> {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|e| e.to_string())?;
    read(&bytes, usize::MAX, usize::MAX)?.into_storable()
}

// ---- reading ----------------------------------------------------------------------------------------------------------

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "invalid UTF-8".into())
}

struct Reader<'a> {
    rest: &'a [u8],
    items: usize,
    max_depth: usize,
}

/// Exactly one value that fills `bytes`.
pub(crate) fn decode(bytes: &[u8], max_items: usize) -> Result<Value, String> {
    read(bytes, max_items, MAX_DEPTH)
}

fn read(bytes: &[u8], max_items: usize, max_depth: usize) -> Result<Value, String> {
    let mut reader = Reader { rest: bytes, items: max_items, max_depth: max_depth.min(200) };
    let value = reader.value(0)?;
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err("bytes behind the value".into())
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        if n > self.rest.len() {
            return Err("truncated".into());
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, n: usize) -> Result<u64, String> {
        Ok(self.take(n)?.iter().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    }

    fn length(&mut self, n: usize) -> Result<usize, String> {
        usize::try_from(self.number(n)?).map_err(|_| "truncated".to_string())
    }

    /// A signed integer of `n` bytes.
    #[allow(clippy::cast_possible_wrap)]
    fn signed(&mut self, n: usize) -> Result<Value, String> {
        let unused = 64 - 8 * u32::try_from(n).unwrap_or(8);
        Ok(Value::Int((self.number(n)? << unused) as i64 >> unused))
    }

    fn unsigned(&mut self, n: usize) -> Result<Value, String> {
        let v = self.number(n)?;
        Ok(i64::try_from(v).map_or(Value::Wide(v), Value::Int))
    }

    fn text(&mut self, n: usize) -> Result<String, String> {
        text(self.take(n)?)
    }

    /// How long the string is that begins like this; `None`: it is something else.
    fn text_length(&mut self, marker: Marker) -> Result<Option<usize>, String> {
        match marker {
            Marker::FixStr(n) => Ok(Some(n.into())),
            Marker::Str8 => self.length(1).map(Some),
            Marker::Str16 => self.length(2).map(Some),
            Marker::Str32 => self.length(4).map(Some),
            _ => Ok(None),
        }
    }

    fn marker(&mut self) -> Result<Marker, String> {
        self.items = self.items.checked_sub(1).ok_or("too many items")?;
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn key(&mut self) -> Result<&'a [u8], String> {
        let marker = self.marker()?;
        let n = self.text_length(marker)?.ok_or("map key is not a string")?;
        self.take(n)
    }

    /// Room for a container: every element takes a byte or more.
    fn count(&self, n: usize, depth: usize) -> Result<usize, String> {
        if depth >= self.max_depth {
            Err("nested too deeply".into())
        } else if n > self.rest.len() {
            Err("truncated".into())
        } else {
            Ok(n)
        }
    }

    fn array(&mut self, n: usize, depth: usize) -> Result<Value, String> {
        let n = self.count(n, depth)?;
        let mut items = Vec::with_capacity(n.min(1024));
        for _ in 0..n {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, n: usize, depth: usize) -> Result<Value, String> {
        let n = self.count(n, depth)?;
        let mut entries = Vec::with_capacity(n.min(1024));
        let (mut seen, mut unknown, mut twice) = (0_u64, 0, false);
        for _ in 0..n {
            let key = self.key()?;
            let name = if let Ok(at) = KNOWN.binary_search_by(|known| known.as_bytes().cmp(key)) {
                twice |= seen >> at & 1 == 1;
                seen |= 1 << at;
                Name::Borrowed(KNOWN[at])
            } else {
                unknown += 1;
                Name::Owned(text(key)?)
            };
            entries.push((name, self.value(depth + 1)?));
        }
        if twice || (unknown > 1 && has_duplicates(&entries)) {
            return Err("duplicate map key".into());
        }
        Ok(Value::Map(entries))
    }

    fn bytes(&mut self, n: usize) -> Result<Value, String> {
        Ok(Value::Bin(self.take(n)?.to_vec()))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        let marker = self.marker()?;
        if let Some(n) = self.text_length(marker)? {
            return self.text(n).map(Value::Str);
        }
        match marker {
            Marker::Null => Ok(Value::Nil),
            Marker::False => Ok(Value::Bool(false)),
            Marker::True => Ok(Value::Bool(true)),
            Marker::FixPos(n) => Ok(Value::Int(n.into())),
            Marker::FixNeg(n) => Ok(Value::Int(n.into())),
            Marker::U8 => self.unsigned(1),
            Marker::U16 => self.unsigned(2),
            Marker::U32 => self.unsigned(4),
            Marker::U64 => self.unsigned(8),
            Marker::I8 => self.signed(1),
            Marker::I16 => self.signed(2),
            Marker::I32 => self.signed(4),
            Marker::I64 => self.signed(8),
            Marker::F32 => Ok(Value::Float(f32::from_bits(self.number(4)? as u32).into())),
            Marker::F64 => Ok(Value::Float(f64::from_bits(self.number(8)?))),
            Marker::Bin8 => self.length(1).and_then(|n| self.bytes(n)),
            Marker::Bin16 => self.length(2).and_then(|n| self.bytes(n)),
            Marker::Bin32 => self.length(4).and_then(|n| self.bytes(n)),
            Marker::FixArray(n) => self.array(n.into(), depth),
            Marker::Array16 => self.length(2).and_then(|n| self.array(n, depth)),
            Marker::Array32 => self.length(4).and_then(|n| self.array(n, depth)),
            Marker::FixMap(n) => self.map(n.into(), depth),
            Marker::Map16 => self.length(2).and_then(|n| self.map(n, depth)),
            Marker::Map32 => self.length(4).and_then(|n| self.map(n, depth)),
            Marker::Reserved => Err("reserved byte".into()),
            _ => Err("ext type".into()),
        }
    }
}

fn has_duplicates(entries: &[(Name, Value)]) -> bool {
    if entries.len() <= 8 {
        return entries.iter().enumerate().any(|(i, (k, _))| entries[..i].iter().any(|(other, _)| other == k));
    }
    let mut keys: Vec<&str> = entries.iter().map(|(k, _)| &**k).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

// ---- writing ----------------------------------------------------------------------------------------------------------

/// Writes to memory cannot fail, but for lengths beyond 32 bits, which no frame has.
pub(crate) fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => put_nil(out),
        Value::Bool(b) => put_bool(out, *b),
        Value::Int(n) => put_int(out, *n),
        Value::Wide(n) => drop(rmp::encode::write_uint(out, *n)),
        Value::Float(f) => put_float(out, *f),
        Value::Str(s) => put_str(out, s),
        Value::Bin(b) => put_bin(out, b),
        Value::Array(items) => {
            put_array(out, items.len());
            items.iter().for_each(|v| put(out, v));
        }
        Value::Map(entries) => {
            put_map(out, entries.len());
            for (k, v) in entries {
                put_str(out, k);
                put(out, v);
            }
        }
    }
}

pub(crate) fn put_json(out: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => put_nil(out),
        Json::Bool(b) => put_bool(out, *b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => put_int(out, i),
            (None, Some(u)) => drop(rmp::encode::write_uint(out, u)),
            _ => put_float(out, n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => put_str(out, s),
        Json::Array(items) => {
            put_array(out, items.len());
            items.iter().for_each(|v| put_json(out, v));
        }
        Json::Object(entries) => put_object(out, entries),
    }
}

pub(crate) fn put_object(out: &mut Vec<u8>, entries: &Map<String, Json>) {
    put_map(out, entries.len());
    for (k, v) in entries {
        put_str(out, k);
        put_json(out, v);
    }
}

fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn put_nil(out: &mut Vec<u8>) {
    out.push(Marker::Null.to_u8());
}

pub(crate) fn put_bool(out: &mut Vec<u8>, v: bool) {
    out.push(if v { Marker::True } else { Marker::False }.to_u8());
}

pub(crate) fn put_int(out: &mut Vec<u8>, v: i64) {
    drop(rmp::encode::write_sint(out, v));
}

pub(crate) fn put_float(out: &mut Vec<u8>, v: f64) {
    drop(rmp::encode::write_f64(out, v));
}

pub(crate) fn put_str(out: &mut Vec<u8>, v: &str) {
    drop(rmp::encode::write_str(out, v));
}

pub(crate) fn put_bin(out: &mut Vec<u8>, v: &[u8]) {
    drop(rmp::encode::write_bin(out, v));
}

pub(crate) fn put_array(out: &mut Vec<u8>, n: usize) {
    drop(rmp::encode::write_array_len(out, length(n)));
}

pub(crate) fn put_map(out: &mut Vec<u8>, n: usize) {
    drop(rmp::encode::write_map_len(out, length(n)));
}

/// How many items the value in these bytes, which were written here, has.
pub(crate) fn count(bytes: &[u8]) -> usize {
    let mut reader = Reader { rest: bytes, items: usize::MAX, max_depth: 200 };
    let mut n = 0;
    while !reader.rest.is_empty() && reader.value(0).is_ok() {
        n = usize::MAX - reader.items;
    }
    n
}

/// A frame: the length, and what `fill` writes.
pub(crate) fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let n = length(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&n.to_be_bytes());
}

pub(crate) fn notification(out: &mut Vec<u8>, method: &str, params: impl FnOnce(&mut Vec<u8>)) {
    frame(out, |out| {
        put_array(out, 3);
        put_int(out, 2);
        put_str(out, method);
        params(out);
    });
}

pub(crate) fn request(out: &mut Vec<u8>, id: u32, method: &str, params: impl FnOnce(&mut Vec<u8>)) {
    frame(out, |out| {
        put_array(out, 4);
        put_int(out, 0);
        put_int(out, id.into());
        put_str(out, method);
        params(out);
    });
}

/// What the daemon may send.
pub(crate) enum Message {
    Response { id: u32, outcome: Result<Value, Value> },
    Notification { method: String, params: Value },
}

/// A frame's payload as one of the envelopes.
pub(crate) fn message(bytes: &[u8], max_items: usize) -> Result<Message, String> {
    let Value::Array(parts) = decode(bytes, max_items)? else {
        return Err("not an array".into());
    };
    let n = parts.len();
    let mut parts = parts.into_iter();
    match (parts.next(), n) {
        (Some(Value::Int(1)), 4) => response(parts.next(), parts.next(), parts.next()),
        (Some(Value::Int(2)), 3) => match (parts.next(), parts.next()) {
            (Some(Value::Str(method)), Some(params @ Value::Map(_))) => Ok(Message::Notification { method, params }),
            _ => Err("not a method and its params".into()),
        },
        _ => Err("no message of the protocol".into()),
    }
}

fn response(id: Option<Value>, error: Option<Value>, result: Option<Value>) -> Result<Message, String> {
    let Some(Ok(id)) = id.map(|id| match id {
        Value::Int(n) => u32::try_from(n).map_err(|_| ()),
        _ => Err(()),
    }) else {
        return Err("id is not an unsigned 32-bit integer".into());
    };
    match (error, result) {
        (Some(Value::Nil), Some(result)) if result != Value::Nil => Ok(Message::Response { id, outcome: Ok(result) }),
        (Some(error @ Value::Map(_)), Some(Value::Nil)) => Ok(Message::Response { id, outcome: Err(error) }),
        _ => Err("not exactly one of error and result".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(name: &str) -> Vec<Json> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/vectors/").to_owned() + name;
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn bytes(v: &Json) -> Vec<u8> {
        let hex = v["hex"].as_str().unwrap();
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn golden_values_are_read_and_written() {
        for v in vectors("values.json") {
            let bytes = bytes(&v);
            let value = decode(&bytes, 1 << 20).unwrap_or_else(|why| panic!("{}: {why}", v["name"]));
            if v["canonical"] != false {
                let mut again = Vec::new();
                put(&mut again, &value);
                assert_eq!(again, bytes, "{}", v["name"]);
            }
            match v["refused"]["what"].as_str() {
                Some(_) => assert!(value.into_storable().is_err(), "{}", v["name"]),
                None => {
                    let json = value.into_json();
                    // serde_json does not read 309 digits before a point.
                    if let Ok(wanted) = serde_json::from_str::<Json>(v["json"].as_str().unwrap()) {
                        assert_eq!(json, wanted, "{}", v["name"]);
                    }
                }
            }
        }
    }

    #[test]
    fn golden_messages_to_clients_are_messages() {
        let mut seen = 0;
        for v in vectors("messages.json").iter().filter(|v| v["direction"] == "to_client") {
            assert!(message(&bytes(v), 1 << 20).is_ok(), "{}", v["name"]);
            seen += 1;
        }
        assert!(seen > 20);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        for v in vectors("hostile.json").iter().filter(|v| v["refused_by"] != "frame") {
            let refused = message(&bytes(v), 4096);
            assert!(refused.is_err(), "{}", v["name"]);
        }
    }

    #[test]
    fn known_keys_are_found() {
        assert!(KNOWN.windows(2).all(|pair| pair[0] < pair[1]));
        let read = decode(b"\x82\xa4acks\x01\xa7another\x02", 5).unwrap();
        let Value::Map(entries) = read else { panic!("no map") };
        assert!(matches!(entries[..], [(Name::Borrowed("acks"), Value::Int(1)), (Name::Owned(_), Value::Int(2))]));
    }

    #[test]
    fn keys_that_occur_twice_are_refused() {
        for (others, last) in [(1, "attempt"), (20, "attempt"), (1, "key 0"), (20, "key 0"), (1, "step"), (20, "step"), (1, "more"), (20, "more")] {
            let mut bytes = Vec::new();
            put_map(&mut bytes, others + 2);
            for key in (0..others).map(|n| format!("key {n}")).chain(["attempt".into(), last.into()]) {
                put_str(&mut bytes, &key);
                put_nil(&mut bytes);
            }
            assert_eq!(decode(&bytes, 1000).is_err(), matches!(last, "attempt" | "key 0"), "{others} others and {last}");
        }
    }

    #[test]
    fn places_are_named() {
        #[derive(serde::Serialize)]
        struct Deep {
            list: Vec<f64>,
        }
        let named = to_storable(&serde_json::json!({"a": [1, {"b": "x\0"}]})).unwrap_err();
        assert_eq!(named, "a[1].b: U+0000 in a string");
        assert_eq!(to_storable(&Deep { list: vec![1.0, f64::NAN] }).unwrap_err(), "list[1]: NaN");
        assert_eq!(check_json(&serde_json::json!({"n": u64::MAX})).unwrap_err(), "n: an integer of more than 64 bits with its sign");
    }
}
