//! CloudEvents as AMQP 0.9.1 messages: binary mode written, binary and structured mode read.

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use smol_str::{SmolStr, ToSmolStr};
use trunkline_core::cloudevents::{
    HeaderValue, Headers, STRUCTURED_JSON, from_headers, from_json, to_headers, to_json,
};
use trunkline_core::{
    AttributeValue, Data, Error, ErrorKind, Event, EventId, Result, Topic, WireOverrides,
};

use crate::names::{ATTEMPTS, COPY, DUE, NO_DATA, SLOT, TOPIC, short, slot_of};

/// A message that is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
    pub(crate) headers: FieldTable,
}

impl Message {
    /// A record of our own, such as a line of a log.
    pub(crate) fn record(body: impl Into<Bytes>) -> Self {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        Self { body: body.into(), properties, headers: FieldTable::default() }
    }

    /// The same event in structured mode. Its headers stay, as the binding of CloudEvents allows: queues
    /// are chosen by them.
    pub(crate) fn structured(mut self, event: &Event) -> Result<Self> {
        self.body = to_json(event)?;
        self.properties = self.properties.with_content_type(STRUCTURED_JSON.into());
        Ok(self)
    }

    pub(crate) fn header(mut self, name: &'static str, text: impl Into<Vec<u8>>) -> Self {
        self.headers.insert(ShortString::from(name), long(text));
        self
    }

    pub(crate) fn into_parts(self) -> (Bytes, BasicProperties) {
        (self.body, self.properties.with_headers(self.headers))
    }
}

const PERSISTENT: u8 = 2;

fn long(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.into()))
}

/// Writes an event; `slot` is for one without a key.
pub(crate) fn encode(event: &Event, slot: u32) -> Result<Message> {
    let data = event.data()?;
    let attributes = event.attributes();
    let mut headers = FieldTable::default();
    for (name, value) in to_headers(event, Headers::Hyphen) {
        headers.insert(short(name)?, long(value));
    }
    let slot = attributes.key().map_or(slot, slot_of);
    headers.insert(ShortString::from(SLOT), long(slot.to_string()));
    if let Some(trace) = attributes.trace() {
        headers.insert(ShortString::from("traceparent"), long(trace.to_string()));
    }
    if data.bytes.is_none() {
        headers.insert(ShortString::from(NO_DATA), long("1"));
    }
    let properties = properties_of(event, &data);
    Ok(Message { body: data.bytes.unwrap_or_default(), properties, headers })
}

/// The properties that stand beside the headers, where a value fits.
fn properties_of(event: &Event, data: &Data) -> BasicProperties {
    let attributes = event.attributes();
    let fitting = |text: &str| ShortString::try_new(text).ok();
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(content_type) = data.content_type.as_deref().and_then(fitting) {
        properties = properties.with_content_type(content_type);
    }
    if let Some(id) = fitting(&event.id().to_smolstr()) {
        properties = properties.with_message_id(id);
    }
    if let Some(event_type) = fitting(attributes.event_type()) {
        properties = properties.with_type(event_type);
    }
    let seconds = attributes.time().and_then(|time| u64::try_from(time.as_second()).ok());
    if let Some(seconds) = seconds {
        properties = properties.with_timestamp(seconds);
    }
    let correlation = attributes.correlation().map(EventId::to_smolstr);
    if let Some(id) = correlation.as_deref().and_then(fitting) {
        properties = properties.with_correlation_id(id);
    }
    properties
}

/// Adds the headers that one publish asks for.
///
/// # Errors
/// `Invalid` for a name that would be read as an attribute, or is too long.
pub(crate) fn add_headers(message: &mut Message, wire: &WireOverrides) -> Result<()> {
    for (name, value) in &wire.headers {
        let is_ours = ["ce-", "cloudEvents", "tl-"].iter().any(|own| name.starts_with(own));
        if is_ours {
            let message = "a header of a publish may not begin with `ce-`, `cloudEvents` or `tl-`: \
                           set an attribute instead";
            let error = Error::new(ErrorKind::Invalid, "publish", message);
            return Err(error.with("header", name));
        }
        message.headers.insert(short(name.as_str())?, long(value.to_vec()));
    }
    Ok(())
}

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) event: Event,
    /// Why it is no event; `event` then holds the raw bytes.
    pub(crate) defect: Option<Error>,
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
    /// Tells a copy from the original; empty for the original.
    pub(crate) copy: SmolStr,
    /// When it is due, where it has a longer way to go.
    pub(crate) due: Option<Timestamp>,
}

/// Reads a delivery.
pub(crate) fn decode(delivery: &mut Delivery) -> Received {
    let body = Bytes::from(std::mem::take(&mut delivery.data));
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let text = |name: &str| text_of(&headers, name);
    let topic = text(TOPIC).unwrap_or(delivery.routing_key.as_str());
    let read = Topic::new(topic);
    let content_type = delivery.properties.content_type().as_ref().map(ShortString::as_str);
    let event = read_event(&headers, read.as_ref().ok(), content_type, &body);
    let (event, defect) = match event {
        Ok(event) => (event, None),
        Err(error) => {
            const UNKNOWN: Topic = Topic::from_static("undecodable");
            (raw_event(&read.unwrap_or(UNKNOWN), &body, content_type, delivery), Some(error))
        }
    };
    let counted = headers.inner().get("x-delivery-count").and_then(whole);
    let redeliveries = counted.unwrap_or(i64::from(delivery.redelivered));
    Received {
        event,
        defect,
        attempts: text(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(0),
        redeliveries: u32::try_from(redeliveries).unwrap_or(u32::MAX),
        copy: text(COPY).map(SmolStr::new).unwrap_or_default(),
        due: text(DUE).and_then(|text| text.parse().ok()).and_then(millis),
    }
}

fn millis(millis: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millis).ok()
}

/// The text of a header.
pub(crate) fn text_of<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn read_event(
    headers: &FieldTable,
    topic: Option<&Topic>,
    content_type: Option<&str>,
    body: &Bytes,
) -> Result<Event> {
    let is_structured = content_type.is_some_and(|kind| {
        kind.trim_start().to_ascii_lowercase().starts_with("application/cloudevents")
    });
    if is_structured {
        let event = from_json(body, topic)?;
        let Some(topic) = topic.filter(|topic| event.topic() != *topic) else { return Ok(event) };
        // Where it was published is where it stands.
        return event.amend(|attributes| {
            attributes.set_topic(topic.clone());
            Ok(())
        });
    }
    let topic = topic.ok_or_else(|| {
        let message = "the routing key is no topic, and the message names none in `tl-topic`";
        Error::new(ErrorKind::Invalid, "event", message)
    })?;
    let none = headers.contains_key(NO_DATA) || (body.is_empty() && content_type.is_none());
    let data =
        Data { bytes: (!none).then(|| body.clone()), content_type: content_type.map(SmolStr::new) };
    let pairs = headers.into_iter().map(|(name, value)| (name.as_str(), header_value(value)));
    from_headers(Headers::Hyphen, pairs, topic, data)
}

/// What is left of a message that is no event: its bytes.
fn raw_event(
    topic: &Topic,
    body: &Bytes,
    content_type: Option<&str>,
    delivery: &Delivery,
) -> Event {
    let kind = content_type.unwrap_or("application/octet-stream");
    let make = |id: EventId| {
        Event::from_data("undecodable", topic.clone(), Data::raw(body.clone(), kind)).id(id).build()
    };
    let id = delivery
        .properties
        .message_id()
        .as_ref()
        .map(|id| EventId::from(SmolStr::new(id.as_str())));
    let own = || {
        let draft = Event::from_data("undecodable", topic.clone(), Data::raw(body.clone(), kind));
        draft.build()
    };
    let named = id.and_then(|id| make(id).ok());
    #[expect(clippy::expect_used, reason = "an event of our own type, id and source is valid")]
    named.unwrap_or_else(|| own().expect("the type, source and id are constants that are valid"))
}

/// AMQP values arrive typed; what has no type in CloudEvents becomes its text.
fn header_value(value: &AMQPValue) -> Option<HeaderValue<'_>> {
    let integer = |number: i64| match i32::try_from(number) {
        Ok(number) => AttributeValue::Integer(number),
        Err(_) => AttributeValue::from(number.to_string()),
    };
    Some(match value {
        AMQPValue::LongString(text) => HeaderValue::Bytes(text.as_bytes()),
        AMQPValue::ShortString(text) => HeaderValue::Bytes(text.as_str().as_bytes()),
        AMQPValue::Boolean(flag) => HeaderValue::Typed(AttributeValue::Boolean(*flag)),
        AMQPValue::Timestamp(seconds) => {
            let time = i64::try_from(*seconds).ok().and_then(|s| Timestamp::from_second(s).ok())?;
            HeaderValue::Typed(AttributeValue::Timestamp(time))
        }
        AMQPValue::ByteArray(bytes) => {
            let bytes = Bytes::copy_from_slice(bytes.as_slice());
            HeaderValue::Typed(AttributeValue::Binary(bytes))
        }
        AMQPValue::Float(number) => HeaderValue::Typed(AttributeValue::from(number.to_string())),
        AMQPValue::Double(number) => HeaderValue::Typed(AttributeValue::from(number.to_string())),
        AMQPValue::Void | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => return None,
        other => HeaderValue::Typed(integer(whole(other)?)),
    })
}

fn whole(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(message: Message, routing_key: &str) -> Received {
        let (body, properties) = message.into_parts();
        let mut delivery = Delivery::mock(1, "x".into(), routing_key.into(), false, body.to_vec());
        delivery.properties = properties;
        decode(&mut delivery)
    }

    #[test]
    fn an_event_reads_as_it_was_written_and_typed_headers_too() {
        let topic = Topic::from_static("orders.placed");
        let event = Event::from_data("t", topic, Data::json("{}")).key("k").build().unwrap();
        let mut message = encode(&event, 0).unwrap();
        message.headers.insert("ce-retries".into(), AMQPValue::LongLongInt(3));
        let read = deliver(message, "orders.placed");
        assert!(read.defect.is_none(), "{:?}", read.defect);
        assert_eq!(read.event.attributes().get("retries"), Some(AttributeValue::Integer(3)));
        assert_eq!(read.event.id(), event.id());
    }

    /// The message of another program: its headers, and JSON.
    fn foreign<const N: usize>(headers: [(&str, AMQPValue); N]) -> Received {
        let mut message = Message::record(&b"{}"[..]);
        message.properties = message.properties.with_content_type("application/json".into());
        for (name, value) in headers {
            message.headers.insert(name.into(), value);
        }
        deliver(message, "orders.placed")
    }

    #[test]
    fn the_other_prefixes_of_the_binding_are_read() {
        for prefix in ["cloudEvents_", "cloudEvents:", "ce-"] {
            let name = |attribute: &str| format!("{prefix}{attribute}");
            let read = foreign([
                (&name("specversion"), long("1.0")),
                (&name("id"), long("o-1")),
                (&name("source"), long("/shop")),
                (&name("type"), AMQPValue::ShortString("order.placed".into())),
                (&name("partitionkey"), long("k")),
            ]);
            assert!(read.defect.is_none(), "{prefix}: {:?}", read.defect);
            let attributes = read.event.attributes();
            assert_eq!(
                (read.event.id().to_string().as_str(), attributes.key()),
                ("o-1", Some("k"))
            );
            assert_eq!(attributes.event_type(), "order.placed");
        }
    }

    #[test]
    fn values_of_every_amqp_type_become_attributes() {
        let read = foreign([
            ("ce-specversion", long("1.0")),
            ("ce-id", long("o-1")),
            ("ce-source", long("/shop")),
            ("ce-type", long("order.placed")),
            ("ce-time", AMQPValue::Timestamp(1_700_000_000)),
            ("ce-flag", AMQPValue::Boolean(true)),
            ("ce-small", AMQPValue::ShortShortInt(-1)),
            ("ce-unsigned", AMQPValue::LongUInt(7)),
            ("ce-large", AMQPValue::LongLongInt(1 << 40)),
            ("ce-double", AMQPValue::Double(1.5)),
            ("ce-bytes", AMQPValue::ByteArray(vec![0, 255].into())),
            ("ce-nothing", AMQPValue::Void),
        ]);
        assert!(read.defect.is_none(), "{:?}", read.defect);
        let attributes = read.event.attributes();
        let get = |name: &str| attributes.get(name);
        assert_eq!(attributes.time().map(Timestamp::as_second), Some(1_700_000_000));
        assert_eq!(get("flag"), Some(AttributeValue::Boolean(true)));
        assert_eq!(get("small"), Some(AttributeValue::Integer(-1)));
        assert_eq!(get("unsigned"), Some(AttributeValue::Integer(7)));
        // An Integer of CloudEvents has 32 bits.
        assert_eq!(get("large"), Some(AttributeValue::from((1_i64 << 40).to_string())));
        assert_eq!(get("double"), Some(AttributeValue::from("1.5".to_owned())));
        let bytes = AttributeValue::Binary(Bytes::from_static(&[0, 255]));
        assert_eq!(get("bytes"), Some(bytes));
        assert_eq!(get("nothing"), None);
    }

    #[test]
    fn what_is_no_event_keeps_its_bytes() {
        let read = deliver(Message::record(&b"\xff\x00"[..]), "orders");
        assert!(read.defect.is_some());
        assert_eq!(read.event.data().unwrap().as_slice(), b"\xff\x00");
        assert_eq!(read.event.topic().as_str(), "orders");
    }
}
