//! Whether a strategy keeps a key together.

use std::fmt;

/// Whether a strategy can send events of one topic and key to different sides.
///
/// Order is promised within one side only. `Display` is the sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySplit {
    /// Every event of a topic and key takes the same route.
    Never,
    /// The route can change from event to event of a key, with what is listed.
    Possible {
        /// What the route depends on, such as `priority`.
        by: Vec<&'static str>,
    },
    /// The strategy is code of the user's, and only its author knows.
    Unknown,
}

impl fmt::Display for KeySplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str(
                "every event of a topic and key takes the same route, so the order of a key is kept",
            ),
            Self::Possible { by } => {
                let by = by.join(", ");
                write!(
                    f,
                    "routes depend on {by}: events of one key that differ in it may go to different \
                     sides, and are in order within each side but not between the two"
                )
            }
            Self::Unknown => f.write_str(
                "whether the routing strategy keeps a key on one side is not known: events of a key \
                 are in order within each side but not between the two",
            ),
        }
    }
}
