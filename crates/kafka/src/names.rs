//! Physical names: a topic has its own name behind the prefix, and what is ours holds an empty word.

use trunkline_core::{Group, Topic};

/// Kafka takes no longer names.
const MAX_BYTES: usize = 249;

/// Ends the name of a topic whose own name Kafka refuses, because it differs from another's only in
/// `.` and `_`.
const ALIAS: &str = "..alias";

/// Topics of Kafka's own, which no pattern means: a group that took them would make records in them by
/// settling, without end.
const INTERNAL: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// How long the delays of a delay topic are, at most, and the end of its name.
const TIERS: [(u64, &str); 4] =
    [(1_000, "1s"), (60_000, "1m"), (3_600_000, "1h"), (u64::MAX, "max")];

/// Makes and reads physical names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn topic(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    pub(crate) fn alias(&self, topic: &Topic) -> String {
        fitting(format!("{}{topic}{ALIAS}", self.prefix))
    }

    /// The topic that a physical name is of, if it is of one.
    pub(crate) fn parse(&self, name: &str) -> Option<Topic> {
        if INTERNAL.contains(&name) {
            return None;
        }
        let name = name.strip_prefix(&self.prefix)?;
        Topic::new(name.strip_suffix(ALIAS).unwrap_or(name)).ok()
    }

    pub(crate) fn group(&self, group: &Group) -> String {
        format!("{}{group}", self.prefix)
    }

    /// The compacted topic that holds groups and settled dead letters.
    pub(crate) fn registry(&self) -> String {
        format!("{}trunkline..groups", self.prefix)
    }

    /// Where a group's delayed retries and redriven events wait.
    pub(crate) fn retry(&self, group: &Group) -> String {
        own(format!("{}trunkline..retry.{group}", self.prefix))
    }

    /// The group whose members put delayed events into their topics when they are due.
    pub(crate) fn delay_group(&self) -> String {
        format!("{}trunkline..delay", self.prefix)
    }

    pub(crate) fn delays(&self) -> Vec<String> {
        TIERS.iter().map(|(_, tier)| format!("{}trunkline..delay.{tier}", self.prefix)).collect()
    }

    /// The delay topic for a delay of so many milliseconds.
    pub(crate) fn delay(&self, millis: u64) -> String {
        let tier = TIERS.iter().find(|(longest, _)| millis <= *longest);
        let tier = tier.map_or("max", |(_, name)| name);
        format!("{}trunkline..delay.{tier}", self.prefix)
    }

    /// The group id of broadcast subscribers, which never join it.
    pub(crate) fn broadcast(&self) -> String {
        format!("{}trunkline..broadcast", self.prefix)
    }

    pub(crate) fn letters(&self, topic: &Topic, group: Option<&Group>) -> String {
        own(match group {
            Some(group) => format!("{}{topic}..dlq.{group}", self.prefix),
            None => format!("{}{topic}..dlq", self.prefix),
        })
    }

    /// Whether a physical name is one of dead letters.
    pub(crate) fn is_letters(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|name| name.contains("..dlq"))
    }
}

/// The name of a topic of ours. Kafka takes no two names that differ in `.` and `_` only: one with a
/// `_` ends in its hash.
fn own(name: String) -> String {
    if name.contains('_') {
        fitting(format!("{name}..{:016x}", hash(&name)))
    } else {
        fitting(name)
    }
}

/// A name that Kafka takes: too long a one ends in its hash.
fn fitting(name: String) -> String {
    if name.len() <= MAX_BYTES {
        return name;
    }
    let kind = if name.contains("..dlq") { "..dlq" } else { ".." };
    let head = MAX_BYTES - kind.len() - 18;
    format!("{}{kind}..{:016x}", &name[..head], hash(&name))
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_and_nothing_of_ours_is_one() {
        let names = Names::new("x.");
        let (topic, group) = (Topic::from_static("a.b"), Group::from_static("g"));
        assert_eq!(names.topic(&topic), "x.a.b");
        assert_eq!(names.parse("x.a.b"), Some(topic.clone()));
        assert_eq!(names.parse(&names.alias(&topic)), Some(topic.clone()));
        let ours = [
            names.registry(),
            names.retry(&group),
            names.delay(1),
            names.letters(&topic, Some(&group)),
            names.letters(&topic, None),
        ];
        for name in ours {
            assert_eq!(names.parse(&name), None, "{name}");
        }
        assert_eq!(names.parse("y.a.b"), None);
    }

    #[test]
    fn topics_of_kafkas_own_are_none_of_ours() {
        let names = Names::new("");
        for name in INTERNAL {
            assert_eq!(names.parse(name), None, "{name}");
        }
        assert!(names.parse("__consumer").is_some());
    }

    #[test]
    fn names_that_are_too_long_are_shortened_and_stay_apart() {
        let names = Names::new("");
        let topic = Topic::new("t".repeat(200)).unwrap();
        let group = |letter: &str| Group::new(letter.repeat(200)).unwrap();
        let (one, two) =
            (names.letters(&topic, Some(&group("g"))), names.letters(&topic, Some(&group("h"))));
        assert!(one.len() <= MAX_BYTES && one != two);
        assert!(names.is_letters(&one) && names.parse(&one).is_none());
    }

    #[test]
    fn names_of_ours_differ_in_more_than_dots_and_underscores() {
        let names = Names::new("");
        let like = |name: String| name.replace('.', "_");
        let retry = |group| like(names.retry(&Group::from_static(group)));
        assert_ne!(retry("g.a"), retry("g_a"));
        assert_ne!(retry("g._a"), retry("g_.a"));
    }

    #[test]
    fn a_delay_goes_to_the_topic_of_its_length() {
        let names = Names::new("");
        assert_eq!(names.delay(1_000), "trunkline..delay.1s");
        assert_eq!(names.delay(1_001), "trunkline..delay.1m");
        assert_eq!(names.delay(u64::MAX), "trunkline..delay.max");
    }
}
