//! Strategies: the default one, built from configuration, and steps to compose others of.

mod first_match;
mod key_split;
mod rules;
mod steps;

pub use first_match::{FirstMatch, Step};
pub use key_split::KeySplit;
pub use rules::{RoutingRules, Rule, RulesStrategy};
pub use steps::{at_or_above, by_attribute, by_topic, by_type, larger_than, while_remote_down};
