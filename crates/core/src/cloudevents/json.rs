//! The JSON format, with `data` left unparsed.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer as _};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::attributes::{AttributeReader, AttributeValue};
use crate::codec::{Codec, Data};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::topic::Topic;

/// The media type of one structured event.
pub const STRUCTURED_JSON: &str = "application/cloudevents+json; charset=UTF-8";

/// Writes one structured event, with its `topic`, as one line of JSON.
///
/// JSON data stands as it is; other data is base64.
///
/// # Errors
/// `Encode` when the payload does not encode.
pub fn to_json(event: &Event) -> Result<Bytes> {
    let data = event.data()?;
    let mut out = Vec::with_capacity(256 + data.as_slice().len());
    let failed = |cause: serde_json::Error| {
        Error::new(ErrorKind::Encode, "encode", "the event does not encode as JSON").because(cause)
    };
    let mut serializer = serde_json::Serializer::new(&mut out);
    let mut map = serializer.serialize_map(None).map_err(failed)?;
    let mut written = map.serialize_entry("specversion", "1.0");
    event.attributes().visit(|name, value| {
        if written.is_ok() {
            written = write_attribute(&mut map, name, &value);
        }
    });
    written.map_err(failed)?;
    map.serialize_entry("topic", event.topic()).map_err(failed)?;
    if let Some(content_type) = &data.content_type {
        map.serialize_entry("datacontenttype", content_type).map_err(failed)?;
    }
    write_data(&mut map, &data).map_err(failed)?;
    map.end().map_err(failed)?;
    Ok(Bytes::from(out))
}

fn write_attribute<M: SerializeMap>(
    map: &mut M,
    name: &str,
    value: &AttributeValue,
) -> Result<(), M::Error> {
    match value {
        AttributeValue::Boolean(value) => map.serialize_entry(name, value),
        AttributeValue::Integer(value) => map.serialize_entry(name, value),
        other => map.serialize_entry(name, &other.to_text()),
    }
}

fn write_data<M: SerializeMap>(map: &mut M, data: &Data) -> Result<(), M::Error> {
    let Some(bytes) = &data.bytes else { return Ok(()) };
    let json = match Codec::for_content_type(data.content_type.as_deref()) {
        // One event is one line: text that spans lines is compacted by way of serde.
        Codec::Json => std::str::from_utf8(bytes).ok().and_then(one_line_json),
        _ => None,
    };
    match json {
        Some(json) => map.serialize_entry("data", &*json),
        None => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes)),
    }
}

/// The text as one line of JSON: itself, or without the line breaks between its tokens.
fn one_line_json(text: &str) -> Option<Cow<'_, RawValue>> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    if !raw.get().contains(['\n', '\r']) {
        return Some(Cow::Borrowed(raw));
    }
    // JSON strings hold no raw line break, so every one here stands between tokens.
    let line = raw.get().replace(['\n', '\r'], " ");
    RawValue::from_string(line).ok().map(Cow::Owned)
}

/// Reads one structured event; without a `topic` attribute it is published on `fallback`.
///
/// # Errors
/// `Invalid` when the text is no UTF-8, no JSON object, or no CloudEvent: the message names the
/// attribute.
pub fn from_json(text: &[u8], fallback: Option<&Topic>) -> Result<Event> {
    let text = std::str::from_utf8(text).map_err(|cause| {
        Error::new(ErrorKind::Invalid, "event", "the event is not UTF-8 text").because(cause)
    })?;
    let parsed: Structured = serde_json::from_str(text).map_err(|cause| {
        let message = format!("the event is no JSON object of CloudEvents: {cause}");
        Error::new(ErrorKind::Invalid, "event", message)
    })?;
    let Structured { reader, data, data_base64, content_type } = parsed;
    let reader = reader?;
    let data = read_data(data, data_base64, content_type)?;
    Ok(Event::from_parts(reader.finish(fallback)?, data))
}

fn read_data(
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
    content_type: Option<SmolStr>,
) -> Result<Data> {
    let invalid = |message| Error::new(ErrorKind::Invalid, "event", message);
    let bytes = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(invalid("the event has both `data` and `data_base64`: keep one"));
        }
        (None, None) => None,
        (None, Some(text)) => {
            let bytes = BASE64_STANDARD.decode(text).map_err(|cause| {
                invalid("the attribute `data_base64` is no base64").because(cause)
            })?;
            // Bytes without a media type must not be taken for JSON.
            let content_type = content_type.or_else(|| Some(Codec::Raw.content_type().into()));
            return Ok(Data { bytes: Some(Bytes::from(bytes)), content_type });
        }
        (Some(data), None) => Some(data_bytes(data, content_type.as_deref())),
    };
    let content_type = match &bytes {
        Some(_) => content_type.or_else(|| Some(Codec::Json.content_type().into())),
        None => content_type,
    };
    Ok(Data { bytes, content_type })
}

/// JSON stays JSON; a JSON string under another media type is that text itself.
fn data_bytes(data: Box<RawValue>, content_type: Option<&str>) -> Bytes {
    let is_json = Codec::for_content_type(content_type) == Codec::Json;
    if !is_json && let Ok(text) = serde_json::from_str::<String>(data.get()) {
        return Bytes::from(text);
    }
    let text: Box<str> = data.into();
    Bytes::from(String::from(text))
}

struct Structured {
    /// An attribute that is wrong is reported after the text is known to be JSON.
    reader: Result<AttributeReader>,
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
    content_type: Option<SmolStr>,
}

impl<'de> Deserialize<'de> for Structured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StructuredVisitor)
    }
}

struct StructuredVisitor;

impl<'de> Visitor<'de> for StructuredVisitor {
    type Value = Structured;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Structured, A::Error> {
        let (mut data, mut data_base64, mut content_type) = (None, None, None);
        let mut reader = Ok(AttributeReader::new());
        let mut seen: Vec<SmolStr> = Vec::with_capacity(12);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if seen.iter().any(|known| known.as_str() == name) {
                return Err(de::Error::custom(format_args!("`{name}` stands twice")));
            }
            seen.push(SmolStr::new(&name));
            match &*name {
                "data" => data = Some(map.next_value()?),
                "data_base64" => data_base64 = map.next_value()?,
                "datacontenttype" => content_type = map.next_value()?,
                name => {
                    let value = map.next_value::<Scalar>()?;
                    reader = reader.and_then(|reader| read_attribute(reader, name, value));
                }
            }
        }
        Ok(Structured { reader, data, data_base64, content_type })
    }
}

fn read_attribute(
    mut reader: AttributeReader,
    name: &str,
    value: Scalar,
) -> Result<AttributeReader> {
    match value {
        Scalar::Null => {}
        Scalar::Value(value) => reader.read(name, value)?,
        Scalar::Other(found) => {
            let message = format!(
                "the attribute `{name}` is {found}: use text, a 32-bit integer or a Boolean"
            );
            return Err(Error::new(ErrorKind::Invalid, "event", message));
        }
    }
    Ok(reader)
}

/// The value of an attribute; what CloudEvents does not allow is named, to be refused with its name.
enum Scalar {
    Null,
    Value(AttributeValue),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Value(AttributeValue::Boolean(value)),
            Value::String(text) => Self::Value(AttributeValue::Text(SmolStr::from(text))),
            Value::Number(number) => match number.as_i64().map(i32::try_from) {
                Some(Ok(value)) => Self::Value(AttributeValue::Integer(value)),
                _ => Self::Other("no whole number of 32 bits"),
            },
            Value::Array(_) => Self::Other("a list"),
            Value::Object(_) => Self::Other("an object"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"specversion":"1.0","id":"a 1","source":"/s","type":"t","time":"2024-01-01T00:00:00Z","partitionkey":"k","tenantid":"acme","priority":"high","retries":3,"urgent":true,"topic":"orders.placed","datacontenttype":"application/json","data":{"n":12345678901234567890123,"x":1.10}}"#;

    #[test]
    fn a_structured_event_round_trips_with_its_data_untouched() {
        let event = from_json(FULL.as_bytes(), None).unwrap();
        let again = from_json(&to_json(&event).unwrap(), None).unwrap();
        assert_eq!(event.attributes(), again.attributes());
        let data = again.data().unwrap();
        assert_eq!(data.as_slice(), br#"{"n":12345678901234567890123,"x":1.10}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"specversion":"1.0","source":"/s","type":"t","topic":"a"}"#, "lacks `id`"),
            (r#"{"id":"1","source":"/s","type":"t","topic":"a"}"#, "`specversion`"),
            (r#"{"specversion":"2.0","id":"1","source":"/s","type":"t"}"#, "must be `1.0`"),
            (r#"{"specversion":"1.0","id":"1","id":"2"}"#, "`id` stands twice"),
            (r#"{"specversion":"1.0","id":"1","Bad_Name":1}"#, "Bad_Name"),
            (r#"{"specversion":"1.0","id":"1","big":4294967296}"#, "no whole number of 32 bits"),
            (r#"{"specversion":"1.0","id":"1","list":[]}"#, "`list` is a list"),
            (r#"[1]"#, "JSON object"),
            (r#"{"specversion":"1.0""#, "EOF"),
            ("", "EOF"),
        ];
        for (text, expected) in cases {
            let error = from_json(text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text} gave {error}");
        }
        let error = from_json(b"{\"id\":\"\xff\"}", None).unwrap_err().to_string();
        assert!(error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn absent_null_and_empty_data_are_three_things() {
        let read = |data: &str| {
            let text = format!(
                r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","topic":"a"{data}}}"#
            );
            from_json(text.as_bytes(), None).unwrap().data().unwrap().bytes
        };
        assert_eq!(read(""), None);
        assert_eq!(read(r#","data":null"#).as_deref(), Some(b"null".as_slice()));
        assert_eq!(read(r#","data_base64":"""#).as_deref(), Some(b"".as_slice()));
        assert_eq!(
            read(r#","datacontenttype":"text/plain","data":"a\nb""#).as_deref(),
            Some(b"a\nb".as_slice())
        );
    }

    #[test]
    fn a_missing_topic_is_taken_from_the_caller() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        let topic = Topic::from_static("orders");
        assert_eq!(from_json(text.as_bytes(), Some(&topic)).unwrap().topic(), &topic);
        assert!(from_json(text.as_bytes(), None).is_err());
    }

    #[test]
    fn data_that_spans_lines_is_written_on_one() {
        let data = Data::json("{\n \"a\": \"x\\ny\"\r\n}");
        let event = Event::from_data("t", Topic::from_static("a"), data).build().unwrap();
        let line = to_json(&event).unwrap();
        assert!(!line.contains(&b'\n'));
        let again = from_json(&line, None).unwrap().data().unwrap();
        let value: serde_json::Value = serde_json::from_slice(again.as_slice()).unwrap();
        assert_eq!(value["a"], "x\ny");
    }
}
