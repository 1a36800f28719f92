//! Where an event stands in a broker's log.

use std::fmt;
use std::str::FromStr;

use smol_str::{SmolStr, format_smolstr};

use crate::error::{Error, ErrorKind, Result};

/// Where an event stands in a broker's log: what [`Delivery::position`](super::Delivery::position)
/// tells and [`StartAt::Position`](super::StartAt::Position) takes.
///
/// Opaque: only a broker of the kind that gave it can read it, and it means something only on the same
/// servers. It can be kept as text: what `Display` writes, `FromStr` reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerPosition(SmolStr);

impl BrokerPosition {
    /// The position `place` of a broker: `broker` is the name in its capabilities, which begins with a
    /// letter and holds no colon.
    #[must_use]
    pub fn new(broker: &'static str, place: impl fmt::Display) -> Self {
        Self(format_smolstr!("{broker}:{place}"))
    }

    /// What `read` makes of the place, for the broker of this name.
    ///
    /// # Errors
    /// `Invalid` when the position is another broker's, or when `read` cannot make anything of it.
    pub fn read<T>(&self, broker: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let (owner, place) = self.0.split_once(':').unwrap_or_default();
        if owner != broker {
            let message = "the position is another broker's: begin at a time there";
            return Err(self.invalid(message).with("broker", broker));
        }
        let message = "the broker cannot read the position: give one that a delivery told";
        read(place).ok_or_else(|| self.invalid(message).with("broker", broker))
    }

    fn invalid(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::Invalid, "read position", message).with("position", self)
    }
}

impl fmt::Display for BrokerPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BrokerPosition {
    type Err = Error;

    /// # Errors
    /// `Invalid` for a text that is not a broker's name, a colon and a place. Whether the place is one
    /// is for the broker to say.
    fn from_str(text: &str) -> Result<Self> {
        let position = Self(SmolStr::new(text));
        let (broker, place) = text.split_once(':').unwrap_or_default();
        let is_named = broker.starts_with(|first: char| first.is_ascii_alphabetic());
        if is_named && !place.is_empty() && !text.contains(char::is_control) {
            return Ok(position);
        }
        let message = "a position is a broker's name, a colon and a place, such as `memory:17`";
        Err(position.invalid(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let position = BrokerPosition::new("paper", "orders/3/17");
        let text = position.to_string();
        assert_eq!(text, "paper:orders/3/17");
        assert_eq!(text.parse::<BrokerPosition>().unwrap(), position);
        assert_eq!(position.read("paper", |place| Some(place.len())).unwrap(), 11);
    }

    #[test]
    fn what_is_no_position_of_the_broker_is_invalid() {
        let position = BrokerPosition::new("paper", "17");
        let errors = [
            position.read("stone", |_| Some(())).unwrap_err(),
            position.read("paper", |_| None::<()>).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.context("position"), Some("paper:17"));
        }
    }

    #[test]
    fn a_text_that_is_no_position_is_invalid() {
        for text in ["", "17", "paper", "paper:", ":17", "2026-01-31T08:00:00Z", "paper:1\n7"] {
            let error = text.parse::<BrokerPosition>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
