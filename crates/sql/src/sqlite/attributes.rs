//! The attributes of an event as a JSON object, typed and in order.
//!
//! Booleans, integers and text are JSON's own. A timestamp or bytes in a free attribute would come
//! back as text, so they are written as an object that names their type.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use smol_str::SmolStr;
use trunkline_core::{AttributeValue, Attributes, Error, ErrorKind, EventId, Result};

const BYTES: &str = "base64";
const TIMESTAMP: &str = "timestamp";

/// Attributes that have a column of their own and are not repeated in the object.
const IN_COLUMNS: [&str; 7] =
    ["id", "source", "type", "partitionkey", "correlationid", "tenantid", "projectid"];

/// The attributes without a column, as JSON.
pub(super) fn to_json(attributes: &Attributes) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Written(attributes))
}

/// Sets what [`to_json`] wrote.
pub(super) fn set_from_json(attributes: &mut Attributes, json: &str) -> Result<()> {
    let Stored(entries) = serde_json::from_str(json)
        .map_err(|cause| damaged("the attributes are no JSON object").because(cause))?;
    entries.into_iter().try_for_each(|(name, value)| set(attributes, &name, value))
}

fn set(attributes: &mut Attributes, name: &str, value: Value) -> Result<()> {
    let value = typed(value)?;
    match (name, &value) {
        // The setters of these take any value: what was accepted once must read back.
        ("causationid", AttributeValue::Text(text)) => {
            attributes.set_causation(Some(EventId::from(text.clone())));
        }
        ("dataversion", value) => {
            let version = value
                .to_text()
                .parse()
                .map_err(|cause| damaged("the version of the data is no number").because(cause));
            attributes.set_version(Some(version?));
        }
        _ => attributes.set(name, value)?,
    }
    Ok(())
}

fn typed(value: Value) -> Result<AttributeValue> {
    match value {
        Value::Bool(value) => Ok(AttributeValue::Boolean(value)),
        Value::String(text) => Ok(AttributeValue::from(text)),
        Value::Number(number) => {
            let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
            number.map(AttributeValue::Integer).ok_or_else(|| damaged("a number is not of 32 bits"))
        }
        Value::Object(object) => {
            let text = |name| object.get(name).and_then(Value::as_str);
            match (text(BYTES), text(TIMESTAMP)) {
                (Some(text), None) => bytes(text),
                (None, Some(text)) => timestamp(text),
                _ => Err(damaged("a value names no type")),
            }
        }
        Value::Null | Value::Array(_) => Err(damaged("a value is of no attribute type")),
    }
}

fn bytes(text: &str) -> Result<AttributeValue> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes = bytes.map_err(|cause| damaged("bytes are no base64").because(cause))?;
    Ok(AttributeValue::Binary(bytes.into()))
}

fn timestamp(text: &str) -> Result<AttributeValue> {
    let time: Timestamp =
        text.parse().map_err(|cause: jiff::Error| damaged("a time is none").because(cause))?;
    Ok(AttributeValue::Timestamp(time))
}

fn damaged(message: &'static str) -> Error {
    Error::new(ErrorKind::Decode, "read", message)
}

struct Written<'a>(&'a Attributes);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut written = Ok(());
        self.0.visit(|name, value| {
            if written.is_ok() && !IN_COLUMNS.contains(&name) {
                written = write(&mut map, name, &value);
            }
        });
        written?;
        map.end()
    }
}

fn write<M: SerializeMap>(map: &mut M, name: &str, value: &AttributeValue) -> Result<(), M::Error> {
    match value {
        AttributeValue::Boolean(value) => map.serialize_entry(name, value),
        AttributeValue::Integer(value) => map.serialize_entry(name, value),
        AttributeValue::Text(text) => map.serialize_entry(name, text),
        // These two have a type by their name.
        AttributeValue::Timestamp(_) if name == "time" || name == "expirytime" => {
            map.serialize_entry(name, &value.to_text())
        }
        AttributeValue::Timestamp(_) => {
            map.serialize_entry(name, &json!({ TIMESTAMP: value.to_text() }))
        }
        AttributeValue::Binary(_) => map.serialize_entry(name, &json!({ BYTES: value.to_text() })),
    }
}

/// The entries as they stand: a JSON map would sort them, and drop the first of two of one name.
struct Stored(Vec<(SmolStr, Value)>);

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = Stored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stored, A::Error> {
        let mut entries = Vec::with_capacity(8);
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Stored(entries))
    }
}
