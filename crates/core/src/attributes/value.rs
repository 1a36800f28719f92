//! The values that attributes take.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};

/// The value of a free attribute, in the CloudEvents type system.
///
/// URIs and URI references are text. Equality is by type and value.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A Boolean.
    Boolean(bool),
    /// An Integer, which CloudEvents limits to 32 bits.
    Integer(i32),
    /// A String, URI or URI-reference.
    Text(SmolStr),
    /// A Binary, base64 as text.
    Binary(Bytes),
    /// A Timestamp, RFC 3339 as text.
    Timestamp(Timestamp),
}

impl AttributeValue {
    /// The canonical text, as CloudEvents defines it for each type.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::Text(value) => Cow::Borrowed(value),
            Self::Binary(value) => Cow::Owned(BASE64_STANDARD.encode(value)),
            Self::Timestamp(value) => Cow::Owned(value.to_string()),
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(SmolStr::new(text))
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(SmolStr::from(text))
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for AttributeValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it stands on the wire and in configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => {
                        let rule = concat!("a ", $what, " is one of", $(" `", $text, "`"),+);
                        Err(Error::new(ErrorKind::Invalid, $what, rule).with("found", text))
                    }
                }
            }
        }
    };
}

named_enum! {
    /// How urgent an event is; higher is more urgent.
    #[derive(Default)]
    Priority: "priority" {
        /// Can wait.
        Low = "low",
        /// The default.
        #[default]
        Normal = "normal",
        /// Ahead of normal work.
        High = "high",
        /// First of all.
        Critical = "critical",
    }
}

named_enum! {
    /// What an event is for.
    Kind: "kind" {
        /// A request that something be done.
        Command = "command",
        /// A fact of one service's own model.
        Domain = "domain",
        /// A fact for other services.
        Integration = "integration",
        /// A word to people.
        Notification = "notification",
    }
}

/// Checks the text of an attribute: not empty, no control character, no noncharacter.
pub(super) fn check_text(name: &str, text: &str) -> Result<()> {
    // Nearly all text is of these, and then looking at bytes is enough.
    if !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let reason = if text.is_empty() {
        "is empty"
    } else if text.chars().any(is_forbidden) {
        "holds a control character"
    } else {
        return Ok(());
    };
    let message = format!("the attribute `{name}` {reason}");
    Err(Error::new(ErrorKind::Invalid, "event", message))
}

fn is_forbidden(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

/// Checks the name of a free attribute: `[a-z0-9]+`, and not `data`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name != "data"
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if valid {
        return Ok(());
    }
    let message = format!("`{name}` is no attribute name: use lower-case letters and digits");
    Err(Error::new(ErrorKind::Invalid, "event", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_ordered_and_named() {
        assert!(Priority::Low < Priority::Normal && Priority::High < Priority::Critical);
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse::<Priority>().unwrap(), *priority);
        }
        assert!("urgent".parse::<Priority>().unwrap_err().to_string().contains("`critical`"));
    }

    #[test]
    fn control_characters_and_noncharacters_are_refused() {
        for bad in ["", "a\nb", "\u{7f}", "\u{fdd0}", "\u{ffff}"] {
            assert!(check_text("subject", bad).is_err(), "{bad:?}");
        }
        assert!(check_text("subject", "Euro € 😀").is_ok());
    }

    #[test]
    fn values_have_the_canonical_text_of_cloudevents() {
        assert_eq!(AttributeValue::from(true).to_text(), "true");
        assert_eq!(AttributeValue::from(-7).to_text(), "-7");
        assert_eq!(AttributeValue::Binary(Bytes::from_static(b"\xff\x00")).to_text(), "/wA=");
    }
}
