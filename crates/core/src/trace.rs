//! W3C trace context, as an event carries it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::id::EventId;

/// A W3C `traceparent`, version 00, kept as 25 bytes.
///
/// Source of the format: <https://www.w3.org/TR/trace-context/>.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// Starts a trace at the event `id`: a UUID is the trace id, and its last 8 bytes the span id.
    ///
    /// Other ids start no trace.
    #[must_use]
    pub fn start(id: &EventId) -> Option<Self> {
        let trace_id = *id.as_uuid()?.as_bytes();
        Some(Self { trace_id, span_id: span_of(&trace_id), flags: 1 })
    }

    /// The same trace, one step on: the span id is taken from the caused event's `id`.
    #[must_use]
    pub fn child(&self, id: &EventId) -> Self {
        let span_id = id.as_uuid().map_or(self.span_id, |uuid| span_of(uuid.as_bytes()));
        Self { span_id, ..*self }
    }

    /// The trace id, which W3C writes as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        u128::from_be_bytes(self.trace_id)
    }

    /// The id of the span that published the event.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        u64::from_be_bytes(self.span_id)
    }
}

fn span_of(uuid: &[u8; 16]) -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = *uuid;
    [a, b, c, d, e, f, g, h]
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: every event that leaves the process prints one, and numbers of 128 bits print slowly.
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        print_hex(&self.trace_id, &mut text[3..35]);
        print_hex(&self.span_id, &mut text[36..52]);
        print_hex(&[self.flags], &mut text[53..]);
        f.write_str(std::str::from_utf8(&text).map_err(|_not_ascii| fmt::Error)?)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceParent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            let rule = "a traceparent is `00-<32 hex>-<16 hex>-<2 hex>` with ids that are not zero";
            Error::new(ErrorKind::Invalid, "traceparent", rule)
        })
    }
}

fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = (version.len(), trace.len(), span.len(), flags.len());
    let known_end = version != "00" || parts.next().is_none();
    if lengths != (2, 32, 16, 2) || version == "ff" || !known_end {
        return None;
    }
    let [_version]: [u8; 1] = read_hex(version)?;
    let trace_id = read_hex(trace).filter(|id| *id != [0; 16])?;
    let span_id = read_hex(span).filter(|id| *id != [0; 8])?;
    let [flags] = read_hex(flags)?;
    Some(TraceParent { trace_id, span_id, flags })
}

fn print_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

/// Bytes of lower-case hexadecimal digits, two for each.
fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_prints_as_it_was_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), text);
    }

    #[test]
    fn a_broken_traceparent_is_refused() {
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_caused_event_stays_in_the_trace_of_its_cause() {
        let origin = TraceParent::start(&EventId::generate()).unwrap();
        let child = origin.child(&EventId::generate());
        assert_eq!(origin.trace_id(), child.trace_id());
        assert_ne!(origin.span_id(), child.span_id());
    }
}
