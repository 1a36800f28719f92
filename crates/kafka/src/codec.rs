//! Events as Kafka records and back: CloudEvents in binary mode, and structured events read too.

use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use smol_str::{SmolStr, format_smolstr};
use trunkline_core::cloudevents::{
    Headers, STRUCTURED_JSON, from_headers, from_json, to_json, visit_headers,
};
use trunkline_core::{Data, Error, Event, EventId, Group, Result, Topic, WireOverrides};

/// The media type of the data.
const CONTENT_TYPE: &str = "content-type";
/// When a delayed record is due, in milliseconds since 1970.
pub(crate) const DUE: &str = "trunkline-due";
/// How many attempts were made of a record, in all.
pub(crate) const ATTEMPTS: &str = "trunkline-attempts";
/// The topic of a record that waits in a topic of ours.
pub(crate) const TOPIC: &str = "trunkline-topic";
/// The partition that a delayed record is to have.
pub(crate) const PARTITION: &str = "trunkline-partition";
/// Who a record is for: `broadcast` is for broadcast subscribers only.
pub(crate) const AUDIENCE: &str = "trunkline-audience";
/// The group that gave a dead letter up, and the only one that a redriven event is for.
pub(crate) const GROUP: &str = "trunkline-group";
/// All headers of ours begin with it.
const OURS: &str = "trunkline-";

/// A header as it stands on the wire; its value may be null.
pub(crate) type RawHeader = (SmolStr, Option<Bytes>);

/// What a record holds beside the event itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    /// The key as it stands in the record, where it is not just the event's.
    pub(crate) key: Option<Bytes>,
    /// Headers that are neither attributes nor ours; all of them where the record is no event.
    pub(crate) headers: Vec<RawHeader>,
    /// The partition that a delayed record is to have.
    pub(crate) partition: Option<i32>,
    /// It is for broadcast subscribers only.
    pub(crate) broadcast_only: bool,
}

/// A record as it was read.
pub(crate) struct Record {
    pub(crate) event: Event,
    /// Why it is no event; `event` then holds its raw bytes.
    pub(crate) defect: Option<Error>,
    pub(crate) extras: Option<Box<Extras>>,
    pub(crate) attempts: u32,
    /// When the log took it, in milliseconds since 1970.
    pub(crate) at: i64,
    /// Milliseconds since 1970.
    pub(crate) due: Option<i64>,
    pub(crate) broadcast_only: bool,
    /// It is for this group only.
    pub(crate) group: Option<Group>,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) key: Option<Bytes>,
    pub(crate) headers: OwnedHeaders,
    pub(crate) payload: Option<Bytes>,
    pub(crate) partition: Option<i32>,
    header_bytes: usize,
}

impl Draft {
    /// The event in binary mode.
    pub(crate) fn of(event: &Event, extras: Option<&Extras>) -> Result<Self> {
        let data = event.data()?;
        let key = match extras.and_then(|extras| extras.key.clone()) {
            Some(raw) => Some(raw),
            None => event.attributes().key().map(|key| Bytes::copy_from_slice(key.as_bytes())),
        };
        // Taken out and put back: to insert consumes them.
        let mut headers = Some(OwnedHeaders::new_with_capacity(16));
        let mut header_bytes = 0;
        visit_headers(event, Headers::Underscore, |key, value| {
            header_bytes += header_len(key, value.len());
            headers = headers.take().map(|all| all.insert(Header { key, value: Some(value) }));
        });
        let headers = headers.unwrap_or_default();
        let mut draft = Self { key, headers, payload: data.bytes, partition: None, header_bytes };
        if let Some(content_type) = &data.content_type {
            draft = draft.with(CONTENT_TYPE, Some(content_type.as_bytes()));
        }
        let Some(extras) = extras else { return Ok(draft) };
        draft.partition = extras.partition;
        Ok(draft.with_all(&extras.headers).for_audience(extras.broadcast_only))
    }

    /// The event in structured mode.
    pub(crate) fn structured(event: &Event) -> Result<Self> {
        let key = event.attributes().key().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let (headers, payload) = (OwnedHeaders::new(), Some(to_json(event)?));
        let draft = Self { key, headers, payload, partition: None, header_bytes: 0 };
        Ok(draft.with(CONTENT_TYPE, Some(STRUCTURED_JSON.as_bytes())))
    }

    pub(crate) fn for_audience(self, broadcast_only: bool) -> Self {
        if broadcast_only { self.with(AUDIENCE, Some(b"broadcast")) } else { self }
    }

    /// The record of an event that was read, whether it is one or not.
    pub(crate) fn again(
        event: &Event,
        extras: Option<&Extras>,
        is_defective: bool,
    ) -> Result<Self> {
        match extras {
            Some(extras) if is_defective => Ok(Self::raw(event, extras)),
            extras => Self::of(event, extras),
        }
    }

    /// For a topic whose partitions are not the original's.
    pub(crate) fn anywhere(mut self) -> Self {
        self.partition = None;
        self
    }

    /// A record that was no event, as it was.
    fn raw(event: &Event, extras: &Extras) -> Self {
        let payload = event.data().ok().and_then(|data| data.bytes);
        let headers = OwnedHeaders::new_with_capacity(extras.headers.len());
        let draft =
            Self { key: extras.key.clone(), headers, payload, partition: None, header_bytes: 0 };
        draft.with_all(&extras.headers)
    }

    /// A record of ours that is no event.
    pub(crate) fn plain(key: &str, payload: Option<Vec<u8>>) -> Self {
        Self {
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            headers: OwnedHeaders::new(),
            payload: payload.map(Bytes::from),
            partition: None,
            header_bytes: 0,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.header_bytes += header_len(name, value.map_or(0, <[u8]>::len));
        self.headers = self.headers.insert(Header { key: name, value });
        self
    }

    pub(crate) fn with_text(self, name: &str, value: &impl ToString) -> Self {
        self.with(name, Some(value.to_string().as_bytes()))
    }

    fn with_all(mut self, headers: &[RawHeader]) -> Self {
        for (name, value) in headers {
            self = self.with(name, value.as_deref());
        }
        self
    }

    pub(crate) fn with_overrides(mut self, wire: &WireOverrides) -> Self {
        for (name, value) in &wire.headers {
            self = self.with(name, Some(value));
        }
        self.partition = wire.partition.and_then(|partition| i32::try_from(partition).ok());
        self
    }

    /// About how many bytes the record has.
    pub(crate) fn len(&self) -> usize {
        let bytes = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        bytes(&self.key) + bytes(&self.payload) + self.header_bytes + 128
    }
}

/// The bytes of a header with its lengths.
fn header_len(name: &str, value: usize) -> usize {
    name.len() + value + 8
}

/// Reads a record; without a header that says otherwise it is of `topic`.
pub(crate) fn read(message: &BorrowedMessage<'_>, topic: &Topic) -> Record {
    // Asked for once: each is a call of the client.
    let headers: Vec<_> =
        message.headers().into_iter().flat_map(|headers| headers.iter()).collect();
    let mut own = Own::default();
    own.read(headers.iter().map(|header| (header.key, header.value)));
    let topic = own.topic.clone().unwrap_or_else(|| topic.clone());
    let payload = || message.payload().map(Bytes::copy_from_slice);
    let read = match own.structured {
        true => from_json(message.payload().unwrap_or_default(), Some(&topic)).and_then(|event| {
            event.amend(|attributes| {
                attributes.set_topic(topic.clone());
                Ok(())
            })
        }),
        false => from_binary(&headers, &topic, &own, payload()),
    };
    let read = read.map(|event| keyed(event, message.key()));
    let (event, defect) = match read {
        Ok(event) => (event, None),
        Err(defect) => (unreadable(message, &topic, payload()), Some(defect)),
    };
    let extras = extras_of(message, &event, &own, defect.is_some());
    Record {
        event,
        defect,
        extras,
        attempts: own.attempts,
        at: message.timestamp().to_millis().unwrap_or(0),
        due: own.due,
        broadcast_only: own.broadcast_only,
        group: own.group,
    }
}

/// What the headers say that are not attributes.
#[derive(Default)]
struct Own {
    content_type: Option<SmolStr>,
    structured: bool,
    topic: Option<Topic>,
    attempts: u32,
    due: Option<i64>,
    partition: Option<i32>,
    broadcast_only: bool,
    group: Option<Group>,
    has_foreign: bool,
}

impl Own {
    fn read<'a>(&mut self, headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) {
        for (name, value) in headers {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            match name {
                CONTENT_TYPE => {
                    self.content_type = text.map(SmolStr::new);
                    self.structured = text.is_some_and(is_structured);
                }
                DUE => self.due = text.and_then(|text| text.parse().ok()),
                ATTEMPTS => self.attempts = text.and_then(|text| text.parse().ok()).unwrap_or(0),
                TOPIC => self.topic = text.and_then(|text| Topic::new(text).ok()),
                PARTITION => self.partition = text.and_then(|text| text.parse().ok()),
                AUDIENCE => self.broadcast_only = text == Some("broadcast"),
                GROUP => self.group = text.and_then(|text| Group::new(text).ok()),
                name => self.has_foreign |= is_foreign(name),
            }
        }
    }
}

fn is_structured(content_type: &str) -> bool {
    let start = "application/cloudevents";
    content_type.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Whether a header is neither an attribute nor ours.
fn is_foreign(name: &str) -> bool {
    !name.starts_with("ce_") && name != CONTENT_TYPE && !name.starts_with(OURS)
}

fn from_binary(
    headers: &[Header<'_, &[u8]>],
    topic: &Topic,
    own: &Own,
    bytes: Option<Bytes>,
) -> Result<Event> {
    let data = Data { bytes, content_type: own.content_type.clone() };
    let pairs = headers.iter().map(|header| (header.key, header.value.map(Into::into)));
    from_headers(Headers::Underscore, pairs, topic, data)
}

/// Gives an event the key of its record, where it has none of its own: foreign programs write no
/// `partitionkey`, and their order by key is kept all the same.
fn keyed(event: Event, key: Option<&[u8]>) -> Event {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return event };
    if event.attributes().key().is_some() {
        return event;
    }
    let text = SmolStr::new(String::from_utf8_lossy(key));
    event.amend(|attributes| attributes.set_key(Some(text))).unwrap_or(event)
}

/// An event that carries the bytes of a record that is none.
fn unreadable(message: &BorrowedMessage<'_>, topic: &Topic, bytes: Option<Bytes>) -> Event {
    let id = format_smolstr!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    let content_type = bytes.is_some().then(|| SmolStr::new_static("application/octet-stream"));
    let data = Data { bytes, content_type };
    let event = Event::from_data("trunkline.unreadable", topic.clone(), data.clone());
    let event = match event.id(EventId::from(id)).source("/kafka").build() {
        Ok(event) => event,
        // A topic of another's choice cannot make the attributes invalid; but nothing is lost if so.
        Err(_) => Event::from_parts(plain_attributes(topic), data),
    };
    keyed(event, message.key())
}

fn plain_attributes(topic: &Topic) -> trunkline_core::Attributes {
    let event = Event::from_data("trunkline.unreadable", topic.clone(), Data::none()).build();
    match event {
        Ok(event) => event.attributes().clone(),
        Err(error) => unreachable!("the type and a generated id are valid attributes: {error}"),
    }
}

fn extras_of(
    message: &BorrowedMessage<'_>,
    event: &Event,
    own: &Own,
    is_defective: bool,
) -> Option<Box<Extras>> {
    let key = message
        .key()
        .filter(|key| is_defective || event.attributes().key().map(str::as_bytes) != Some(*key));
    let is_placed = own.partition.is_some() || own.broadcast_only;
    if key.is_none() && !own.has_foreign && !is_defective && !is_placed {
        return None;
    }
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let kept = headers
        .filter(|header| is_foreign(header.key) || (is_defective && !header.key.starts_with(OURS)));
    let raw = |header: Header<'_, &[u8]>| {
        (SmolStr::new(header.key), header.value.map(Bytes::copy_from_slice))
    };
    let headers = kept.map(raw).collect();
    Some(Box::new(Extras {
        key: key.map(Bytes::copy_from_slice),
        headers,
        partition: own.partition,
        broadcast_only: own.broadcast_only,
    }))
}

/// Now, as delayed records have it.
pub(crate) fn now_millis() -> i64 {
    Timestamp::now().as_millisecond()
}
