//! The physical names: every extra holds an empty word (`..`), which no topic has.

use smol_str::{SmolStr, format_smolstr};
use trunkline_core::{Group, Topic};

/// Names of one deployment: everything begins with its prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: SmolStr,
    /// How many partitions each topic has: a hash.
    pub(crate) topics: String,
    /// What each group takes and since when: a hash.
    pub(crate) groups: String,
    /// Counts the changes of both.
    pub(crate) version: String,
    /// Tells of each change: a short stream that every reader listens to.
    pub(crate) changes: String,
    /// Live broadcast subscribers, scored by when they were last heard of.
    pub(crate) subscribers: String,
    /// The delay sets that hold something, scored by when the first of it is due.
    pub(crate) due: String,
    /// The delayed publishes by event id, so that they can be cancelled.
    pub(crate) scheduled: String,
    /// The streams of dead letters that exist: a set.
    pub(crate) letters: String,
    /// Held by the process that looks for foreign streams.
    pub(crate) scan: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        let of = |what: &str| format!("{prefix}..{what}");
        Self {
            prefix: SmolStr::new(prefix),
            topics: of("topics"),
            groups: of("groups"),
            version: of("version"),
            changes: of("changes"),
            subscribers: of("subscribers"),
            due: of("due"),
            scheduled: of("scheduled"),
            letters: of("letters"),
            scan: of("scan"),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The stream of a partition: the topic's own name is the first.
    pub(crate) fn stream(&self, topic: &Topic, partition: u32) -> SmolStr {
        match partition {
            0 => format_smolstr!("{}{topic}", self.prefix),
            n => format_smolstr!("{}{topic}..{n}", self.prefix),
        }
    }

    /// The topic whose first stream this is, if it is one.
    pub(crate) fn topic_of(&self, stream: &str) -> Option<Topic> {
        Topic::new(stream.strip_prefix(self.prefix.as_str())?).ok()
    }

    /// The live members of a group, scored by when they lapse.
    pub(crate) fn members(&self, group: &Group) -> String {
        format!("{}..members.{group}", self.prefix)
    }

    /// Wakes the members of a group: a short stream.
    pub(crate) fn wake(&self, group: &Group) -> String {
        format!("{}..wake.{group}", self.prefix)
    }

    /// What was redriven to one broadcast subscriber: a stream.
    pub(crate) fn inbox(&self, subscriber: &str) -> String {
        format!("{}..inbox.{subscriber}", self.prefix)
    }

    /// The dead letters of a group on a topic, or of the topic's broadcast subscribers.
    pub(crate) fn letters_of(&self, topic: &Topic, group: Option<&Group>) -> String {
        let letters = beside(&self.stream(topic, 0), "dlq");
        group.map_or_else(|| letters.clone(), |group| format!("{letters}.{group}"))
    }

    /// The stream beside which `key` stands as `what`, and the group that it is for.
    pub(crate) fn owner_of<'a>(
        &self,
        key: &'a str,
        what: &str,
    ) -> Option<(&'a str, Option<Group>)> {
        let (stream, rest) = if is_tagged(&self.prefix) {
            let own = key.strip_prefix(self.prefix.as_str())?;
            let (name, rest) = own.split_once(&format!("..{what}"))?;
            (&key[..self.prefix.len() + name.len()], rest)
        } else {
            key.strip_prefix('{')?.split_once(&format!("}}..{what}"))?
        };
        let group = rest.strip_prefix('.').map(Group::new).transpose().ok()?;
        Some((stream, group))
    }
}

/// The name of what stands beside a stream, in the same slot of a cluster as the stream.
fn beside(stream: &str, what: &str) -> String {
    if is_tagged(stream) { format!("{stream}..{what}") } else { format!("{{{stream}}}..{what}") }
}

/// Whether a name holds a hash tag, which alone decides its slot; only a prefix can bring one.
fn is_tagged(name: &str) -> bool {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.is_some_and(|(tag, _)| !tag.is_empty())
}

/// The prefix as a hash tag: all names of a deployment share a slot, as its scripts and its reads of
/// many streams need it.
pub(crate) fn tagged(prefix: &str) -> SmolStr {
    if is_tagged(prefix) {
        return SmolStr::new(prefix);
    }
    let bare = prefix.replace(['{', '}'], "");
    format_smolstr!("{{{}}}", if bare.is_empty() { "trunkline" } else { &bare })
}

/// What stands beside one stream for one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Companions {
    /// Who owns the partition, with its fencing number.
    pub(crate) lease: String,
    /// The last fencing number.
    pub(crate) fence: String,
    /// What comes to this group alone: due retries, redriven letters.
    pub(crate) retry: String,
    /// Attempts written to events that are pending.
    pub(crate) state: String,
    /// Retries that are not due yet.
    pub(crate) delay: String,
}

impl Companions {
    pub(crate) fn of(stream: &str, group: &Group) -> Self {
        let of = |what: &str| format!("{}.{group}", beside(stream, what));
        Self {
            lease: of("lease"),
            fence: of("fence"),
            retry: of("retry"),
            state: of("state"),
            delay: of("delay"),
        }
    }
}

/// Publishes to a stream that are not due yet.
pub(crate) fn delay_of(stream: &str) -> String {
    beside(stream, "delay")
}

/// How far each broadcast subscriber has read a stream: a hash.
pub(crate) fn readers_of(stream: &str) -> String {
    beside(stream, "readers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stream_has_the_topics_own_name_and_extras_are_no_topics() {
        let names = Names::new("dev-");
        let topic = Topic::from_static("orders.placed");
        assert_eq!(names.stream(&topic, 0), "dev-orders.placed");
        assert_eq!(names.stream(&topic, 3), "dev-orders.placed..3");
        assert_eq!(names.topic_of("dev-orders.placed"), Some(topic.clone()));
        let group = Group::from_static("billing");
        let extras = [
            names.stream(&topic, 1).to_string(),
            names.topics.clone(),
            names.wake(&group),
            names.letters_of(&topic, Some(&group)),
            Companions::of("dev-orders.placed", &group).lease,
            delay_of("dev-orders.placed"),
        ];
        for extra in extras {
            assert_eq!(names.topic_of(&extra), None, "{extra}");
        }
    }

    #[test]
    fn companions_share_the_hash_tag_of_their_stream() {
        let companions = Companions::of("orders..1", &Group::from_static("g"));
        assert_eq!(companions.lease, "{orders..1}..lease.g");
        assert_eq!(companions.retry, "{orders..1}..retry.g");
    }

    #[test]
    fn a_tag_in_the_prefix_is_the_only_one_of_every_name() {
        let (topic, group) = (Topic::from_static("orders"), Group::from_static("g"));
        let names = Names::new(&tagged("shop-"));
        let stream = names.stream(&topic, 1);
        assert_eq!(stream, "{shop-}orders..1");
        assert_eq!(Companions::of(&stream, &group).lease, "{shop-}orders..1..lease.g");
        assert_eq!(names.letters_of(&topic, Some(&group)), "{shop-}orders..dlq.g");
        assert_eq!(delay_of(&stream), "{shop-}orders..1..delay");
        assert_eq!(names.topic_of(&delay_of(&stream)), None);
        for (prefix, with_tag) in
            [("", "{trunkline}"), ("a{b}c", "a{b}c"), ("{}", "{trunkline}"), ("}x{", "{x}")]
        {
            assert_eq!(tagged(prefix), with_tag);
        }
    }

    #[test]
    fn a_name_tells_beside_what_it_stands() {
        let (topic, group) = (Topic::from_static("orders"), Group::from_static("g"));
        for prefix in ["", "dev-", "{shop}", "a{b}..delay"] {
            let names = Names::new(prefix);
            for partition in [0, 2] {
                let stream = names.stream(&topic, partition);
                let delay = Companions::of(&stream, &group).delay;
                let owner = names.owner_of(&delay, "delay");
                assert_eq!(owner, Some((stream.as_str(), Some(group.clone()))), "{delay}");
                let delay = delay_of(&stream);
                assert_eq!(names.owner_of(&delay, "delay"), Some((stream.as_str(), None)));
            }
        }
    }
}
