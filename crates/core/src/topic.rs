//! Topics, topic patterns and group names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest topic, pattern or group name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

const TOPIC_RULE: &str = "a topic is words of letters, digits, `_` and `-` joined by dots, at most \
                          200 bytes, such as `orders.placed`";
const GROUP_RULE: &str = "a group name is words of letters, digits, `_` and `-` joined by dots, at \
                          most 200 bytes, such as `billing`";
const PATTERN_RULE: &str = "a pattern is a topic in which a word may be `*` (one word) and the last \
                            may be `#` (zero or more), such as `orders.#`";

/// Whether `name` is words of `[A-Za-z0-9_-]+` joined by dots, at most [`MAX_NAME_BYTES`] long.
const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_NAME_BYTES {
        return false;
    }
    let mut word = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => word += 1,
            b'.' if word > 0 => word = 0,
            _ => return false,
        }
        at += 1;
    }
    word > 0
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "SmolStr", into = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            #[doc = concat!("Checks a ", $what, " that is known when the program is built.")]
            ///
            /// # Panics
            /// Panics, at compile time in a constant, when the text breaks the rule.
            #[must_use]
            pub const fn from_static(name: &'static str) -> Self {
                assert!(is_name(name), "words of [A-Za-z0-9_-]+ joined by dots, at most 200 bytes");
                Self(SmolStr::new_static(name))
            }

            #[doc = concat!("Checks a ", $what, ".")]
            ///
            /// # Errors
            /// `Invalid` when the text breaks the rule; the message states the rule.
            pub fn new(name: impl Into<SmolStr>) -> Result<Self> {
                let name = name.into();
                if is_name(&name) {
                    Ok(Self(name))
                } else {
                    Err(Error::new(ErrorKind::Invalid, $what, $rule).with("found", quoted(&name)))
                }
            }

            #[doc = concat!("The ", $what, " as text.")]
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = Error;

            fn try_from(name: SmolStr) -> Result<Self> {
                Self::new(name)
            }
        }

        impl From<$name> for SmolStr {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

name_type! {
    /// Where an event is published: words of `[A-Za-z0-9_-]+` joined by dots, at most 200 bytes.
    ///
    /// ```
    /// use trunkline_core::Topic;
    ///
    /// const PLACED: Topic = Topic::from_static("orders.placed");
    /// assert_eq!(PLACED, Topic::new("orders.placed").unwrap());
    /// assert!(Topic::new("orders..placed").is_err());
    /// ```
    Topic, "topic", TOPIC_RULE
}

name_type! {
    /// The name of competing consumers: each event goes to one member of the group.
    Group, "group", GROUP_RULE
}

/// Quotes foreign text for an error message, cut to a readable length.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(SHOWN).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("{head:?}{more}")
}

/// A set of topics: `*` is one word, and `#`, only as the last word, is zero or more words.
///
/// A pattern never matches a physical name of trunkline's own extras (dead letters, delays), because
/// those hold an empty word.
///
/// ```
/// use trunkline_core::{Pattern, Topic};
///
/// let orders = Pattern::new("orders.#").unwrap();
/// assert!(orders.matches(&Topic::from_static("orders")));
/// assert!(orders.matches(&Topic::from_static("orders.placed.eu")));
/// assert!(!Pattern::new("orders.*").unwrap().matches(&Topic::from_static("orders")));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Pattern(SmolStr);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// `Invalid` when the text breaks the rule; the message states the rule.
    pub fn new(pattern: impl Into<SmolStr>) -> Result<Self> {
        let pattern = pattern.into();
        let last = pattern.split('.').count() - 1;
        let valid = pattern.len() <= MAX_NAME_BYTES
            && pattern.split('.').enumerate().all(|(at, word)| match word {
                "*" => true,
                "#" => at == last,
                word => !word.contains('.') && is_name(word),
            });
        if valid {
            Ok(Self(pattern))
        } else {
            let error = Error::new(ErrorKind::Invalid, "pattern", PATTERN_RULE);
            Err(error.with("found", quoted(&pattern)))
        }
    }

    /// The pattern that matches every topic.
    #[must_use]
    pub const fn all() -> Self {
        Self(SmolStr::new_static("#"))
    }

    /// Whether `topic` belongs to the set.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        covers_words(&self.0, topic.as_str())
    }

    /// Whether every topic of `other` belongs to this set too.
    #[must_use]
    pub fn covers(&self, other: &Pattern) -> bool {
        covers_words(&self.0, &other.0)
    }

    /// The topic, when the pattern names exactly one.
    #[must_use]
    pub fn exact(&self) -> Option<Topic> {
        is_name(&self.0).then(|| Topic(self.0.clone()))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Matches word by word; a `#` among `words` is only covered by a `#`.
fn covers_words(pattern: &str, words: &str) -> bool {
    let mut words = words.split('.');
    for part in pattern.split('.') {
        match (part, words.next()) {
            ("#", _) => return true,
            ("*", Some(word)) if word != "#" => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

impl TryFrom<SmolStr> for Pattern {
    type Error = Error;

    fn try_from(pattern: SmolStr) -> Result<Self> {
        Self::new(pattern)
    }
}

impl From<Pattern> for SmolStr {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(pattern: &str) -> Result<Self> {
        Self::new(pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_words_joined_by_dots() {
        for good in ["a", "orders.placed", "A-1._.z", &"x".repeat(200)] {
            assert!(Topic::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a/b", "é", "a.*", "#", &"x".repeat(201)] {
            assert!(Topic::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_takes_one_word_or_the_rest() {
        let cases = [
            ("orders.placed", "orders.placed", true),
            ("orders.placed", "orders.placed.eu", false),
            ("orders.*", "orders.placed", true),
            ("orders.*", "orders", false),
            ("*.placed", "orders.placed", true),
            ("orders.#", "orders", true),
            ("orders.#", "ordersx", false),
            ("#", "anything.at.all", true),
        ];
        for (pattern, topic, expected) in cases {
            let matched = Pattern::new(pattern).unwrap().matches(&Topic::new(topic).unwrap());
            assert_eq!(matched, expected, "{pattern} on {topic}");
        }
        for bad in ["", "a.#.b", "a.b*", "a..b", "#.a"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one_and_not_the_reverse() {
        let wide = Pattern::new("orders.#").unwrap();
        let narrow = Pattern::new("orders.*").unwrap();
        assert!(wide.covers(&narrow) && wide.covers(&wide));
        assert!(!narrow.covers(&wide));
    }

    #[test]
    fn no_pattern_matches_a_physical_extra() {
        assert!(!covers_words("orders.*.dlq", "orders.placed..dlq"));
        assert!(Topic::new("orders..dlq.billing").is_err());
    }
}
