//! Attributes by their CloudEvents names: what codecs read and write.

use smol_str::{SmolStr, ToSmolStr};

use super::value::{check_name, check_text};
use super::{AttributeValue, Attributes};
use crate::error::{Error, ErrorKind, Result};
use crate::id::EventId;
use crate::topic::Topic;

impl Attributes {
    /// The value of an attribute by its CloudEvents name, `topic` included.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AttributeValue> {
        match name {
            "topic" => return Some(AttributeValue::from(self.topic.as_str())),
            "specversion" => return Some(AttributeValue::from("1.0")),
            "datacontenttype" => return self.content_type().map(AttributeValue::from),
            _ => {}
        }
        let mut found = None;
        self.visit(|known, value| {
            if known == name {
                found = Some(value);
            }
        });
        found
    }

    /// The free attributes, in the order they were set.
    pub fn free(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        let free = self.rare.iter().flat_map(|rare| &rare.free);
        free.map(|(name, value)| (name.as_str(), value))
    }

    /// Sets an attribute by its CloudEvents name: one that has a place of its own, or a free one.
    ///
    /// # Errors
    /// `Invalid` when the name is not `[a-z0-9]+` or the value does not fit the attribute.
    pub fn set(&mut self, name: &str, value: impl Into<AttributeValue>) -> Result<()> {
        let value = value.into();
        match name {
            "id" => self.id = EventId::from(text(name, value)?),
            "source" => self.source = text(name, value)?,
            "type" => self.event_type = text(name, value)?,
            "topic" => self.set_topic(Topic::new(text(name, value)?)?),
            "time" => self.time = Some(timestamp(name, &value)?),
            "expirytime" => self.set_expiry(Some(timestamp(name, &value)?)),
            "partitionkey" => self.set_key(Some(text(name, value)?))?,
            "datacontenttype" => self.content_type = Some(text(name, value)?),
            "correlationid" => self.correlation = Some(EventId::from(text(name, value)?)),
            "causationid" => self.causation = Some(EventId::from(text(name, value)?)),
            "dataversion" => self.version = Some(version(&value)?),
            "priority" => self.priority = text(name, value)?.parse()?,
            "kind" => self.kind = Some(text(name, value)?.parse()?),
            "traceparent" => self.set_traceparent(&text(name, value)?)?,
            "subject" => self.set_subject(Some(text(name, value)?))?,
            "dataschema" => self.set_schema(Some(text(name, value)?))?,
            "tracestate" => self.set_tracestate(Some(text(name, value)?))?,
            // A missing tenant is the empty string: both are the same identity.
            "tenantid" if value.to_text().is_empty() => self.set_tenant(None)?,
            "tenantid" => self.set_tenant(Some(text(name, value)?))?,
            "userid" => self.set_user(Some(text(name, value)?))?,
            "projectid" => self.set_project(Some(text(name, value)?))?,
            "originid" => self.set_origin(Some(text(name, value)?))?,
            "specversion" => check_specversion(&value)?,
            free => self.set_free(free, value)?,
        }
        Ok(())
    }

    /// A `traceparent` that is not W3C's is a foreign attribute: kept, not understood.
    fn set_traceparent(&mut self, text: &str) -> Result<()> {
        match text.parse() {
            Ok(trace) => {
                self.trace = Some(trace);
                self.rare.iter_mut().for_each(|rare| rare.free.retain(|(n, _)| n != "traceparent"));
            }
            Err(_) => {
                self.trace = None;
                self.set_free("traceparent", AttributeValue::from(text))?;
            }
        }
        Ok(())
    }

    fn set_free(&mut self, name: &str, value: AttributeValue) -> Result<()> {
        check_name(name)?;
        if let AttributeValue::Text(text) = &value {
            // CloudEvents allows an empty free String; only control characters are refused.
            if !text.is_empty() {
                check_text(name, text)?;
            }
        }
        let free = &mut self.rare_mut().free;
        match free.iter_mut().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = value,
            None => free.push((SmolStr::new(name), value)),
        }
        Ok(())
    }

    /// Calls `each` with every attribute that is set, by CloudEvents name: `specversion`, `topic` and
    /// `datacontenttype` are left to the codec.
    pub fn visit(&self, mut each: impl FnMut(&str, AttributeValue)) {
        let id_text = |id: &EventId| AttributeValue::Text(SmolStr::from(id.clone()));
        each("id", id_text(&self.id));
        each("source", AttributeValue::Text(self.source.clone()));
        each("type", AttributeValue::Text(self.event_type.clone()));
        if let Some(time) = self.time {
            each("time", AttributeValue::Timestamp(time));
        }
        if let Some(key) = &self.key {
            each("partitionkey", AttributeValue::Text(key.clone()));
        }
        if let Some(id) = &self.correlation {
            each("correlationid", id_text(id));
        }
        if let Some(id) = &self.causation {
            each("causationid", id_text(id));
        }
        if let Some(trace) = self.trace {
            each("traceparent", AttributeValue::Text(trace.to_smolstr()));
        }
        if let Some(version) = self.version {
            each("dataversion", version_value(version));
        }
        if self.priority != super::Priority::Normal {
            each("priority", AttributeValue::from(self.priority.as_str()));
        }
        if let Some(kind) = self.kind {
            each("kind", AttributeValue::from(kind.as_str()));
        }
        self.visit_rare(each);
    }

    fn visit_rare(&self, mut each: impl FnMut(&str, AttributeValue)) {
        let Some(rare) = &self.rare else { return };
        let texts = [
            ("subject", &rare.subject),
            ("dataschema", &rare.schema),
            ("tracestate", &rare.tracestate),
            ("tenantid", &rare.tenant),
            ("userid", &rare.user),
            ("projectid", &rare.project),
            ("originid", &rare.origin),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                each(name, AttributeValue::Text(text.clone()));
            }
        }
        if let Some(expiry) = rare.expiry {
            each("expirytime", AttributeValue::Timestamp(expiry));
        }
        for (name, value) in &rare.free {
            each(name, value.clone());
        }
    }
}

fn text(name: &str, value: AttributeValue) -> Result<SmolStr> {
    let text = match value {
        AttributeValue::Text(text) => text,
        other => SmolStr::new(other.to_text()),
    };
    check_text(name, &text)?;
    Ok(text)
}

fn timestamp(name: &str, value: &AttributeValue) -> Result<jiff::Timestamp> {
    if let AttributeValue::Timestamp(time) = value {
        return Ok(*time);
    }
    parse_time(name, &value.to_text())
}

fn parse_time(name: &str, text: &str) -> Result<jiff::Timestamp> {
    text.parse().map_err(|cause: jiff::Error| {
        let message = format!("the attribute `{name}` is no RFC 3339 time");
        Error::new(ErrorKind::Invalid, "event", message).with("found", text).because(cause)
    })
}

fn version(value: &AttributeValue) -> Result<u32> {
    let text = value.to_text();
    let version = text.parse().ok().filter(|version| *version > 0);
    version.ok_or_else(|| {
        let message = "the attribute `dataversion` is no whole number from 1";
        Error::new(ErrorKind::Invalid, "event", message).with("found", text)
    })
}

fn version_value(version: u32) -> AttributeValue {
    i32::try_from(version)
        .map_or_else(|_| AttributeValue::Text(version.to_smolstr()), AttributeValue::Integer)
}

fn check_specversion(value: &AttributeValue) -> Result<()> {
    let text = value.to_text();
    if text == "1.0" {
        return Ok(());
    }
    let message = "the attribute `specversion` must be `1.0`";
    Err(Error::new(ErrorKind::Invalid, "event", message).with("found", text))
}

/// Gathers attributes one by one, as a codec meets them, and checks that the required ones came.
pub(crate) struct AttributeReader {
    attributes: Attributes,
    topic: Option<Topic>,
    specversion: bool,
}

impl AttributeReader {
    pub(crate) fn new() -> Self {
        const UNSET: Topic = Topic::from_static("unset");
        let empty = SmolStr::default();
        let attributes = Attributes::unchecked(EventId::empty(), empty.clone(), empty, UNSET);
        Self { attributes, topic: None, specversion: false }
    }

    pub(crate) fn read(&mut self, name: &str, value: AttributeValue) -> Result<()> {
        match name {
            "topic" => self.topic = Some(Topic::new(text(name, value)?)?),
            "specversion" => {
                check_specversion(&value)?;
                self.specversion = true;
            }
            name => self.attributes.set(name, value)?,
        }
        Ok(())
    }

    /// As [`AttributeReader::read`], without a copy of text that is not kept as text.
    pub(crate) fn read_text(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "id" => {
                check_text(name, value)?;
                self.attributes.id = EventId::from(value);
            }
            "time" => self.attributes.time = Some(parse_time(name, value)?),
            "traceparent" => {
                check_text(name, value)?;
                self.attributes.set_traceparent(value)?;
            }
            name => return self.read(name, AttributeValue::from(value)),
        }
        Ok(())
    }

    /// The attributes, on the topic that was read or else on `fallback`.
    pub(crate) fn finish(mut self, fallback: Option<&Topic>) -> Result<Attributes> {
        let topic = self.topic.or_else(|| fallback.cloned());
        let mut missing = Vec::new();
        for (name, absent) in [
            ("specversion", !self.specversion),
            ("id", self.attributes.id.is_empty()),
            ("source", self.attributes.source.is_empty()),
            ("type", self.attributes.event_type.is_empty()),
            ("topic", topic.is_none()),
        ] {
            if absent {
                missing.push(format!("`{name}`"));
            }
        }
        match topic {
            Some(topic) if missing.is_empty() => {
                self.attributes.set_topic(topic);
                Ok(self.attributes)
            }
            _ => {
                let message = format!("the event lacks {}", missing.join(", "));
                Err(Error::new(ErrorKind::Invalid, "event", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Data;
    use crate::event::Event;

    fn event(name: &str, value: &str) -> Event {
        let draft = Event::from_data("t", Topic::from_static("a"), Data::json("1"));
        draft.attribute(name, value).build().unwrap()
    }

    #[test]
    fn every_attribute_is_found_by_its_name() {
        let event = event("retries", "3");
        let get = |name| event.attributes().get(name).map(|value| value.to_text().into_owned());
        assert_eq!(get("specversion").as_deref(), Some("1.0"));
        assert_eq!(get("datacontenttype").as_deref(), Some("application/json"));
        assert_eq!(get("topic").as_deref(), Some("a"));
        assert_eq!(get("retries").as_deref(), Some("3"));
        assert_eq!(get("subject"), None);
    }

    #[test]
    fn a_traceparent_stands_once_whether_it_is_understood_or_not() {
        let names = |event: &Event| {
            let mut names = Vec::new();
            event.attributes().visit(|name, _| names.push(name.to_owned()));
            names.into_iter().filter(|name| name == "traceparent").count()
        };
        let foreign = event("traceparent", "garbage");
        assert_eq!((names(&foreign), foreign.attributes().trace()), (1, None));
        let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let again = foreign.amend(|attributes| attributes.set("traceparent", known)).unwrap();
        assert_eq!(names(&again), 1);
        assert!(again.attributes().trace().is_some());
    }

    #[test]
    fn an_empty_tenant_is_no_tenant() {
        let with = event("tenantid", "");
        assert_eq!(with.attributes().tenant(), None);
        assert!(with.attributes().identity().tenant.is_empty());
    }
}
