//! Physical names: of exchanges, queues and headers.

use lapin::types::ShortString;
use trunkline_core::{Group, Result, Topic, murmur2};

use crate::config::SLOTS;
use crate::error::name_too_long;

/// The slot of a key, as text; what has none goes through the alternate exchange.
pub(crate) const SLOT: &str = "tl-slot";
/// The topic, where the routing key is another.
pub(crate) const TOPIC: &str = "tl-topic";
/// How many attempts were written to a copy.
pub(crate) const ATTEMPTS: &str = "tl-attempts";
/// Tells a copy that was redriven from the original.
pub(crate) const COPY: &str = "tl-copy";
/// When a copy on a further walk down the ladder is due, in milliseconds since 1970.
pub(crate) const DUE: &str = "tl-due";
/// Says that an empty body is no data.
pub(crate) const NO_DATA: &str = "tl-nodata";
/// Why and when an event was given up, as JSON.
pub(crate) const LETTER: &str = "tl-letter";
/// The name of a dead letter.
pub(crate) const LETTER_ID: &str = "tl-letter-id";
/// The queue of the broadcast subscriber that gave an event up.
pub(crate) const SUBSCRIBER: &str = "tl-subscriber";
/// What asks a queue whether it still confirms.
pub(crate) const PROBE: &str = "tl-probe";

/// Makes the physical names of one broker.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
    pub(crate) exchange: ShortString,
}

impl Names {
    pub(crate) fn new(prefix: &str, exchange: &str) -> Result<Self> {
        let exchange = short(format!("{prefix}{exchange}"))?;
        Ok(Self { prefix: prefix.to_owned(), exchange })
    }

    /// One of our own extras, which no topic or group can be called.
    fn own(&self, what: &str) -> ShortString {
        fit(format!("{}trunkline..{what}", self.prefix))
    }

    /// What reaches broadcast subscribers only.
    pub(crate) fn broadcast_only(&self) -> ShortString {
        self.own("broadcast")
    }

    pub(crate) fn broadcast_queue(&self, id: &str) -> ShortString {
        self.own(&format!("broadcast.{id}"))
    }

    /// Where what was delayed comes out.
    pub(crate) fn delay_exit(&self) -> ShortString {
        self.own("delay")
    }

    /// A rung of the ladder of delays, as exchange and as queue.
    pub(crate) fn delay(&self, rung: u32) -> ShortString {
        self.own(&format!("delay.{rung}"))
    }

    /// Takes what came due for nobody.
    pub(crate) fn unrouted(&self) -> ShortString {
        self.own("unrouted")
    }

    /// What the server is asked with whether it limits deliveries.
    pub(crate) fn limit(&self, id: &str) -> ShortString {
        self.own(&format!("limit.{id}"))
    }

    pub(crate) fn registry(&self) -> ShortString {
        self.own("groups")
    }

    pub(crate) fn group(&self, group: &Group) -> ShortString {
        fit(format!("{}{group}", self.prefix))
    }

    /// What belongs to a group, or to broadcast subscribers.
    fn of(&self, group: Option<&Group>, what: &str) -> ShortString {
        match group {
            Some(group) => fit(format!("{}{group}..{what}", self.prefix)),
            None => self.own(what),
        }
    }

    pub(crate) fn queue(&self, group: &Group, partition: u32, lane: Option<&str>) -> ShortString {
        let lane = lane.map(|lane| format!(".{lane}")).unwrap_or_default();
        self.of(Some(group), &format!("{partition}{lane}"))
    }

    pub(crate) fn lane(&self, group: &Group, lane: &str) -> ShortString {
        self.of(Some(group), lane)
    }

    pub(crate) fn rest(&self, group: &Group, lane: Option<&str>) -> ShortString {
        let lane = lane.map(|lane| format!(".{lane}")).unwrap_or_default();
        self.of(Some(group), &format!("rest{lane}"))
    }

    pub(crate) fn members(&self, group: &Group) -> ShortString {
        self.of(Some(group), "members")
    }

    /// Which dead letters a group has, and which are settled.
    pub(crate) fn state(&self, group: Option<&Group>) -> ShortString {
        self.of(group, "state")
    }

    /// Attempts of events that are still at the head of their key.
    pub(crate) fn attempts(&self, group: &Group) -> ShortString {
        self.of(Some(group), "attempts")
    }

    pub(crate) fn letters(&self, topic: &Topic, group: Option<&Group>) -> ShortString {
        match group {
            Some(group) => fit(format!("{}{topic}..dlq.{group}", self.prefix)),
            None => fit(format!("{}{topic}..dlq", self.prefix)),
        }
    }
}

/// Cuts a name that is longer than AMQP allows, and ends it with a hash of the whole.
fn fit(name: String) -> ShortString {
    const LIMIT: usize = 255;
    if name.len() <= LIMIT {
        return ShortString::from(name);
    }
    // Prefix, topics and groups are ASCII but for the prefix, which comes first.
    let head = &name[..name.floor_char_boundary(LIMIT - 17)];
    ShortString::from(format!("{head}~{}", digest(&name)))
}

/// Sixteen letters that stand for a name.
pub(crate) fn digest(name: &str) -> String {
    let reversed: Vec<u8> = name.bytes().rev().collect();
    format!("{:08x}{:08x}", murmur2(name.as_bytes()), murmur2(&reversed))
}

/// A short string of AMQP.
pub(crate) fn short(text: impl Into<String>) -> Result<ShortString> {
    let text = text.into();
    let too_long = name_too_long(&text);
    ShortString::try_new(text).map_err(|cause| too_long.because(cause))
}

/// The slot of an ordering key.
pub(crate) fn slot_of(key: &str) -> u32 {
    trunkline_core::partition_of(key, SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_its_own() {
        let names = Names::new("p.", "trunkline").unwrap();
        let topic = |end: char| Topic::new(format!("{}{end}", "t".repeat(199))).unwrap();
        let group = Group::new("g".repeat(200)).unwrap();
        let (a, b) =
            (names.letters(&topic('a'), Some(&group)), names.letters(&topic('b'), Some(&group)));
        assert!(a.as_str().len() <= 255 && a != b);
    }

    #[test]
    fn slots_follow_the_fixed_vectors() {
        // Kafka's murmur2 of these keys, made positive, modulo 16.
        for (key, slot) in [("foobar", 14), ("21", 12), ("abc", 11), ("", 9)] {
            assert_eq!(slot_of(key), slot, "{key:?}");
        }
    }
}
