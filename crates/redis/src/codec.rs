//! An event as the fields of a stream entry, and back.

use bytes::Bytes;
use redis::{Cmd, RedisWrite as _, Value};
use smol_str::SmolStr;
use trunkline_core::cloudevents::{
    Headers, STRUCTURED_JSON, from_headers, from_json, to_json, visit_headers,
};
use trunkline_core::{
    Attributes, Audience, DEFAULT_SOURCE, Data, Error, ErrorKind, Event, EventId, Result, Topic,
};

/// The attempts written to a copy.
pub(crate) const ATTEMPTS: &str = "tl-attempts";
/// Set to [`BROADCAST`] on what groups pass over.
const AUDIENCE: &str = "tl-audience";
const BROADCAST: &[u8] = b"broadcast";
/// The type of what stands for an entry that is no event.
const UNDECODABLE: &str = "trunkline.undecodable";

/// Fields of an entry, in order.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Writes the fields of an event into a command.
pub(crate) fn write(
    command: &mut Cmd,
    event: &Event,
    data: &Data,
    audience: Audience,
    headers: &[(SmolStr, Bytes)],
) {
    visit_headers(event, Headers::Underscore, |name, value| {
        command.write_arg(name.as_bytes());
        command.write_arg(value.as_bytes());
    });
    if let Some(trace) = event.attributes().trace() {
        command.write_arg(b"traceparent");
        command.write_arg_fmt(trace);
    }
    write_data(command, data, audience, headers);
}

/// As [`write`], with the whole event as one text in `data`.
pub(crate) fn write_structured(
    command: &mut Cmd,
    event: &Event,
    audience: Audience,
    headers: &[(SmolStr, Bytes)],
) -> Result<()> {
    let content_type = Some(SmolStr::new_static(STRUCTURED_JSON));
    let whole = Data { bytes: Some(to_json(event)?), content_type };
    write_data(command, &whole, audience, headers);
    Ok(())
}

/// What both modes have: the data with its type, and what belongs to this publish alone.
fn write_data(command: &mut Cmd, data: &Data, audience: Audience, headers: &[(SmolStr, Bytes)]) {
    if let Some(content_type) = &data.content_type {
        command.write_arg(b"content-type");
        command.write_arg(content_type.as_bytes());
    }
    if audience == Audience::BroadcastOnly {
        command.write_arg(AUDIENCE.as_bytes());
        command.write_arg(BROADCAST);
    }
    for (name, value) in headers {
        command.write_arg(name.as_bytes());
        command.write_arg(value);
    }
    if let Some(bytes) = &data.bytes {
        command.write_arg(b"data");
        command.write_arg(bytes);
    }
}

/// An entry that was read: an event, or what is there instead of one.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    /// Why it is no event; its data is then the raw bytes.
    pub(crate) defect: Option<Error>,
    pub(crate) attempts: u32,
    /// Whether groups pass over it.
    pub(crate) is_broadcast_only: bool,
}

/// Reads the fields of an entry on `topic`.
pub(crate) fn read(mut fields: Fields, topic: &Topic) -> Entry {
    let mut data = Data::none();
    let (mut attempts, mut is_broadcast_only, mut is_binary) = (0, false, false);
    for (name, value) in &mut fields {
        match name.as_slice() {
            b"data" => data.bytes = Some(Bytes::from(std::mem::take(value))),
            b"content-type" | b"ce_datacontenttype" => {
                data.content_type = std::str::from_utf8(value).ok().map(SmolStr::new);
            }
            name if name.starts_with(b"ce_") => is_binary = true,
            name if name == ATTEMPTS.as_bytes() => attempts = parse_number(value).unwrap_or(0),
            name if name == AUDIENCE.as_bytes() => is_broadcast_only = value == BROADCAST,
            _ => {}
        }
    }
    let read = if is_binary {
        let headers = fields.iter().filter_map(|(name, value)| {
            Some((std::str::from_utf8(name).ok()?, Some(value.as_slice().into())))
        });
        from_headers(Headers::Underscore, headers, topic, data.clone())
    } else {
        structured(&data, topic)
    };
    let (event, defect) = match read {
        Ok(event) => (event, None),
        Err(defect) => (raw(&fields, data.bytes, topic), Some(defect)),
    };
    Entry { event, defect, attempts, is_broadcast_only }
}

fn parse_number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A lone `data` field that holds a whole event, as Dapr writes it.
fn structured(data: &Data, topic: &Topic) -> Result<Event> {
    let Some(bytes) = &data.bytes else {
        let message =
            "the entry has neither `ce_` fields nor a `data` field with a structured event";
        return Err(Error::new(ErrorKind::Decode, "read", message));
    };
    let event = from_json(bytes, Some(topic))?;
    if event.topic() == topic {
        return Ok(event);
    }
    // Where it was published is where it stands.
    event.amend(|attributes| {
        attributes.set_topic(topic.clone());
        Ok(())
    })
}

/// What is no event, with its bytes: its data, the only value of another name, or else all fields as
/// JSON text.
fn raw(fields: &Fields, data: Option<Bytes>, topic: &Topic) -> Event {
    let bytes = data.unwrap_or_else(|| match fields.as_slice() {
        [(_, value)] => Bytes::copy_from_slice(value),
        _ => json_of(fields).into(),
    });
    let data = Data::raw(bytes, "application/octet-stream");
    let attributes =
        Attributes::new(EventId::generate(), DEFAULT_SOURCE, UNDECODABLE, topic.clone());
    #[expect(clippy::expect_used, reason = "a fixed source, a fixed type and a fresh id are valid")]
    let attributes = attributes.expect("a fixed source, a fixed type and a fresh id are valid");
    Event::from_parts(attributes, data)
}

fn json_of(fields: &Fields) -> Vec<u8> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let map: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| (text(name), text(value).into())).collect();
    serde_json::Value::Object(map).to_string().into_bytes()
}

/// The id of a stream entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct EntryId {
    pub(crate) ms: u64,
    pub(crate) seq: u64,
}

impl EntryId {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Writes an id as an argument, without a string in between.
pub(crate) fn write_id(command: &mut Cmd, id: EntryId) {
    command.write_arg_fmt(id);
}

/// The bytes of a string answer.
pub(crate) fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

pub(crate) fn text_of(value: Value) -> Option<String> {
    String::from_utf8(bytes_of(value)?).ok()
}

pub(crate) fn int_of(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

pub(crate) fn array_of(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        Value::Map(pairs) => Some(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect()),
        _ => None,
    }
}

/// A flat list of names and values, in pairs.
pub(crate) fn pairs_of(value: Value) -> Option<Fields> {
    let mut values = array_of(value)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.push((bytes_of(name)?, bytes_of(value)?));
    }
    Some(pairs)
}

/// One entry of a stream: its id and fields.
pub(crate) fn entry_of(value: Value) -> Option<(EntryId, Fields)> {
    let mut parts = array_of(value)?.into_iter();
    let id = EntryId::parse(&bytes_of(parts.next()?)?)?;
    Some((id, pairs_of(parts.next()?)?))
}

/// Entries of one stream, by its name.
pub(crate) type Batch = (String, Vec<(EntryId, Fields)>);

/// The answer of a read: entries by stream.
pub(crate) fn streams_of(value: Value) -> Option<Vec<Batch>> {
    let mut streams = Vec::new();
    for stream in array_of(value)? {
        let mut parts = array_of(stream)?.into_iter();
        let name = text_of(parts.next()?)?;
        let entries = array_of(parts.next()?)?.into_iter().filter_map(entry_of).collect();
        streams.push((name, entries));
    }
    Some(streams)
}
