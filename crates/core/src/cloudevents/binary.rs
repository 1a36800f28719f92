//! Binary mode: attributes as headers, data as the body.

use std::borrow::Cow;

use smol_str::SmolStr;

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

/// The headers of an event in binary mode; the data's media type and bytes go where the transport
/// has a place for them.
#[must_use]
pub fn to_headers(event: &Event, style: Headers) -> Vec<(String, String)> {
    let header = |name: &str| format!("{}{name}", style.prefix());
    let mut headers = vec![(header("specversion"), "1.0".to_owned())];
    event.attributes().visit(|name, value| {
        let text = value.to_text();
        let text = match style {
            Headers::Http => http_encode(&text).into_owned(),
            _ => text.into_owned(),
        };
        headers.push((header(name), text));
    });
    headers
}

/// Reads an event in binary mode that came on `topic`; headers that name no attribute are passed
/// over, and so is one without a value.
///
/// # Errors
/// `Invalid` when a required attribute is missing or a value does not fit; the message names it.
pub fn from_headers<'a>(
    style: Headers,
    headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    topic: &Topic,
    data: Data,
) -> Result<Event> {
    let mut reader = AttributeReader::new();
    for (header, value) in headers {
        let (Some(name), Some(value)) = (style.attribute(header), value) else { continue };
        let text = header_text(style, &name, value)?;
        if name == "datacontenttype" || name == "topic" {
            continue;
        }
        reader.read(&name, AttributeValue::Text(text))?;
    }
    Ok(Event::from_parts(reader.finish(Some(topic))?, data))
}

fn header_text(style: Headers, name: &str, value: &[u8]) -> Result<SmolStr> {
    let invalid = || {
        let message = format!("the header of `{name}` is not UTF-8 text");
        Error::new(ErrorKind::Invalid, "event", message)
    };
    let text = std::str::from_utf8(value).map_err(|cause| invalid().because(cause))?;
    match style {
        Headers::Http => http_decode(text).map(SmolStr::from).ok_or_else(invalid),
        _ => Ok(SmolStr::new(text)),
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

    #[test]
    fn every_style_reads_what_it_writes() {
        for style in [Headers::Underscore, Headers::Hyphen, Headers::Http] {
            let event = event();
            let headers = to_headers(&event, style);
            let pairs = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
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
        let headers: [(&str, Option<&[u8]>); 6] = [
            ("ce_specversion", Some(b"1.0")),
            ("ce_id", Some(b"1")),
            ("ce_source", Some(b"/s")),
            ("ce_type", Some(b"t")),
            ("ce_subject", None),
            ("x-foreign", Some(b"\xff")),
        ];
        let topic = Topic::from_static("orders");
        let event = from_headers(Headers::Underscore, headers, &topic, Data::none()).unwrap();
        assert_eq!(event.attributes().subject(), None);
        assert_eq!(event.data().unwrap().bytes, None);
    }

    #[test]
    fn both_amqp_spellings_of_the_specification_are_read() {
        let topic = Topic::from_static("orders");
        for prefix in ["cloudEvents_", "cloudEvents:"] {
            let names = ["specversion", "id", "source", "type"].map(|n| format!("{prefix}{n}"));
            let values: [&[u8]; 4] = [b"1.0", b"1", b"/s", b"t"];
            let pairs = names.iter().map(String::as_str).zip(values.map(Some));
            assert!(from_headers(Headers::Hyphen, pairs, &topic, Data::none()).is_ok(), "{prefix}");
        }
    }
}
