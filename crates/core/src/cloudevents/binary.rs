//! Binary mode: attributes as headers, data as the body.

use std::borrow::Cow;

use crate::attributes::{AttributeReader, AttributeValue};
use crate::codec::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::topic::Topic;

/// How a transport spells the header of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// Kafka and Redis: `ce_id`.
    Underscore,
    /// RabbitMQ 0.9.1: `ce-id`; `cloudEvents_id` and `cloudEvents:id` are read too.
    Hyphen,
    /// HTTP: `ce-id`, any case, with percent-encoded values.
    Http,
}

impl Headers {
    fn prefix(self) -> &'static str {
        match self {
            Self::Underscore => "ce_",
            Self::Hyphen | Self::Http => "ce-",
        }
    }

    /// The attribute that a header names, if it names one.
    fn attribute(self, header: &str) -> Option<Cow<'_, str>> {
        let prefixes: &[&str] = match self {
            Self::Underscore => &["ce_"],
            Self::Hyphen => &["ce-", "cloudEvents_", "cloudEvents:"],
            Self::Http => {
                let lower = header.to_ascii_lowercase();
                return lower.strip_prefix("ce-").map(|name| Cow::Owned(name.to_owned()));
            }
        };
        prefixes.iter().find_map(|prefix| header.strip_prefix(prefix)).map(Cow::Borrowed)
    }
}

/// The value of a header: bytes, or what a transport with types of its own, such as AMQP, has made
/// of it.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue<'a> {
    /// Text, as it stands on the wire.
    Bytes(&'a [u8]),
    /// A value with its type.
    Typed(AttributeValue),
}

impl<'a> From<&'a [u8]> for HeaderValue<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// The headers of an event in binary mode; the data's media type and bytes go where the transport
/// has a place for them, and so does the trace context of the hop.
///
/// `ce_traceparent` is where the event's trace started and is never rewritten; the header
/// `traceparent`, without a prefix, is the hop's, and the transport's to write.
#[must_use]
pub fn to_headers(event: &Event, style: Headers) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(8);
    visit_headers(event, style, |name, value| headers.push((name.to_owned(), value.to_owned())));
    headers
}

/// As [`to_headers`], for transports that copy what they are shown.
pub fn visit_headers(event: &Event, style: Headers, mut each: impl FnMut(&str, &str)) {
    let prefix = style.prefix();
    let mut header = String::with_capacity(32);
    header.push_str(prefix);
    header.push_str("specversion");
    each(&header, "1.0");
    event.attributes().visit(|name, value| {
        header.truncate(prefix.len());
        header.push_str(name);
        let text = value.to_text();
        match style {
            Headers::Http => each(&header, &http_encode(&text)),
            _ => each(&header, &text),
        }
    });
}

/// Reads an event in binary mode that came on `topic`.
///
/// Headers that name no attribute are passed over, and so is one without a value. Of a header that
/// is repeated the last counts, as Kafka's own clients have it.
///
/// # Errors
/// `Invalid` when a required attribute is missing or a value does not fit; the message names it.
pub fn from_headers<'a>(
    style: Headers,
    headers: impl IntoIterator<Item = (&'a str, Option<HeaderValue<'a>>)>,
    topic: &Topic,
    data: Data,
) -> Result<Event> {
    let mut reader = AttributeReader::new();
    for (header, value) in headers {
        let (Some(name), Some(value)) = (style.attribute(header), value) else { continue };
        if name == "datacontenttype" || name == "topic" {
            continue;
        }
        match value {
            HeaderValue::Bytes(bytes) => {
                reader.read_text(&name, &header_text(style, &name, bytes)?)?;
            }
            HeaderValue::Typed(value) => reader.read(&name, value)?,
        }
    }
    Ok(Event::from_parts(reader.finish(Some(topic))?, data))
}

fn header_text<'a>(style: Headers, name: &str, value: &'a [u8]) -> Result<Cow<'a, str>> {
    let invalid = || {
        let message = format!("the header of `{name}` is not UTF-8 text");
        Error::new(ErrorKind::Invalid, "event", message)
    };
    let text = std::str::from_utf8(value).map_err(|cause| invalid().because(cause))?;
    match style {
        Headers::Http => http_decode(text).map(Cow::Owned).ok_or_else(invalid),
        _ => Ok(Cow::Borrowed(text)),
    }
}

/// Percent-encodes a header value as the HTTP binding says: space, `"`, `%` and everything outside
/// U+0021–U+007E.
#[must_use]
pub fn http_encode(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(out)
}

/// Undoes [`http_encode`], and a quoted string first; `None` when the bytes are no UTF-8.
#[must_use]
pub fn http_decode(text: &str) -> Option<String> {
    let unquoted = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => Cow::Owned(unescape(inner)),
        None => Cow::Borrowed(text),
    };
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = pair.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match decoded.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn unescape(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::from_data("t", Topic::from_static("orders"), Data::json("{}"))
            .attribute("subject", "Euro € \"😀\" 100%")
            .key("k")
            .tenant("acme")
            .build()
            .unwrap()
    }

    /// Reads an event of the required attributes and `more` headers.
    fn read<const N: usize>(
        style: Headers,
        prefix: &str,
        more: [(&str, Option<HeaderValue<'_>>); N],
    ) -> Result<Event> {
        let names = ["specversion", "id", "source", "type"].map(|name| format!("{prefix}{name}"));
        let values: [&[u8]; 4] = [b"1.0", b"1", b"/s", b"t"];
        let required = names.iter().map(String::as_str).zip(values.map(|v| Some(v.into())));
        let topic = Topic::from_static("orders");
        from_headers(style, required.chain(more), &topic, Data::none())
    }

    #[test]
    fn every_style_reads_what_it_writes() {
        for style in [Headers::Underscore, Headers::Hyphen, Headers::Http] {
            let event = event();
            let headers = to_headers(&event, style);
            let bytes = |value: &'_ String| value.clone().into_bytes();
            let values: Vec<_> = headers.iter().map(|(name, value)| (name, bytes(value))).collect();
            let pairs =
                values.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice().into())));
            let again = from_headers(style, pairs, event.topic(), event.data().unwrap()).unwrap();
            assert_eq!(again.attributes(), event.attributes(), "{style:?}");
        }
    }

    #[test]
    fn http_values_follow_the_examples_of_the_binding() {
        // From the CloudEvents HTTP protocol binding 1.0.2, section 3.1.3.2.
        assert_eq!(http_encode("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(http_decode("Euro%20%e2%82%ac%20%F0%9F%98%80").unwrap(), "Euro € 😀");
        assert_eq!(http_decode("\"a \\\"b\\\"\"").unwrap(), "a \"b\"");
        assert_eq!(http_decode("%FF"), None);
        assert_eq!(http_decode("100%").unwrap(), "100%");
    }

    #[test]
    fn a_null_header_and_a_foreign_one_are_passed_over() {
        let more = [("ce_subject", None), ("x-foreign", Some(b"\xff".as_slice().into()))];
        let event = read(Headers::Underscore, "ce_", more).unwrap();
        assert_eq!(event.attributes().subject(), None);
        assert_eq!(event.data().unwrap().bytes, None);
    }

    #[test]
    fn of_a_repeated_header_the_last_counts() {
        let subject = |text: &'static str| ("ce_subject", Some(text.as_bytes().into()));
        let event = read(Headers::Underscore, "ce_", [subject("old"), subject("new")]).unwrap();
        assert_eq!(event.attributes().subject(), Some("new"));
    }

    #[test]
    fn a_typed_header_keeps_its_type() {
        let retries = HeaderValue::Typed(AttributeValue::Integer(3));
        let version = HeaderValue::Typed(AttributeValue::Integer(2));
        let more = [("ce-retries", Some(retries)), ("ce-dataversion", Some(version))];
        let event = read(Headers::Hyphen, "ce-", more).unwrap();
        assert_eq!(event.attributes().get("retries"), Some(AttributeValue::Integer(3)));
        assert_eq!(event.attributes().version(), Some(2));
    }

    #[test]
    fn both_amqp_spellings_of_the_specification_are_read() {
        for prefix in ["cloudEvents_", "cloudEvents:"] {
            assert!(read(Headers::Hyphen, prefix, []).is_ok(), "{prefix}");
        }
    }
}
