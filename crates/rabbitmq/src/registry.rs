//! What the logs of a broker hold: groups, dead letters, and attempts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::watch;
use trunkline_core::{Event, Group, Topic};

use crate::log::Fold;
use crate::topology::{GroupRecord, Topology};

/// A line of the log of groups.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum GroupLine {
    /// A group was made, or topics were added to it; of a group that exists only topics count.
    Group {
        name: Group,
        #[serde(flatten)]
        settings: GroupRecord,
        /// When its queues were made.
        at: Timestamp,
    },
    /// Its queues had vanished and were made again.
    Restored {
        name: Group,
    },
    Deleted {
        name: Group,
    },
    /// There is a log of dead letters of this topic and group.
    Letters {
        topic: Topic,
        group: Option<Group>,
    },
}

/// The groups of a broker, and where its dead letters are.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Told of groups whose queues are being made, here or elsewhere.
    topology: Arc<Topology>,
    pub(crate) groups: BTreeMap<Group, GroupRecord>,
    pub(crate) letters: BTreeSet<(Topic, Option<Group>)>,
    /// How often the queues of each group were made again.
    pub(crate) restored: watch::Sender<BTreeMap<Group, u64>>,
}

impl Fold for Registry {
    fn fold(&mut self, record: &[u8]) {
        match serde_json::from_slice(record) {
            Ok(GroupLine::Group { name, settings, at }) => self.declare(name, settings, at),
            Ok(GroupLine::Restored { name }) => {
                self.restored.send_modify(|restored| *restored.entry(name).or_default() += 1);
            }
            Ok(GroupLine::Deleted { name }) => drop(self.groups.remove(&name)),
            Ok(GroupLine::Letters { topic, group }) => drop(self.letters.insert((topic, group))),
            Err(error) => tracing::warn!(%error, "a record of the log of groups cannot be read"),
        }
    }
}

impl GroupLine {
    /// A group whose queues are about to be made.
    pub(crate) fn group(name: &Group, settings: GroupRecord) -> Self {
        Self::Group { name: name.clone(), settings, at: Timestamp::now() }
    }
}

impl Registry {
    pub(crate) fn new(topology: &Arc<Topology>) -> Self {
        Self {
            topology: Arc::clone(topology),
            groups: BTreeMap::new(),
            letters: BTreeSet::new(),
            restored: watch::Sender::default(),
        }
    }

    fn declare(&mut self, name: Group, settings: GroupRecord, at: Timestamp) {
        let exchange = self.topology.names.group(&name);
        let ago = Timestamp::now().duration_since(at).unsigned_abs();
        self.topology.young.note(exchange, settings.topics.clone(), ago);
        let Some(known) = self.groups.get_mut(&name) else {
            self.groups.insert(name, settings);
            return;
        };
        for topic in settings.topics {
            if !known.topics.contains(&topic) {
                known.topics.push(topic);
            }
        }
    }
}

/// A line of the log of a group's dead letters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum LetterLine {
    Kept { id: SmolStr, topic: Topic },
    Settled { id: SmolStr },
}

/// The dead letters of a group that are not settled, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) kept: Vec<(SmolStr, Topic)>,
}

impl Fold for Letters {
    fn fold(&mut self, record: &[u8]) {
        match serde_json::from_slice(record) {
            Ok(LetterLine::Kept { id, topic }) => self.kept.push((id, topic)),
            Ok(LetterLine::Settled { id }) => self.kept.retain(|(known, _)| *known != id),
            Err(error) => {
                tracing::warn!(%error, "a record of a log of dead letters cannot be read");
            }
        }
    }
}

/// A line of the log of a group's attempts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AttemptLine {
    pub(crate) event: String,
    pub(crate) attempts: u32,
}

/// Attempts of events that were retried at once, and so are still where they were.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    known: HashMap<String, u32>,
    oldest: VecDeque<String>,
}

impl Attempts {
    /// More than can be unsettled in a group at a time.
    const KEPT: usize = 100_000;

    pub(crate) fn of(&self, event: &str) -> u32 {
        self.known.get(event).copied().unwrap_or(0)
    }

    pub(crate) fn note(&mut self, event: String, attempts: u32) {
        if self.known.insert(event.clone(), attempts).is_none() {
            self.oldest.push_back(event);
        }
        if self.oldest.len() > Self::KEPT
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Fold for Attempts {
    fn fold(&mut self, record: &[u8]) {
        match serde_json::from_slice::<AttemptLine>(record) {
            Ok(line) => self.note(line.event, line.attempts),
            Err(error) => tracing::warn!(%error, "a record of a log of attempts cannot be read"),
        }
    }
}

/// What tells an event from others in a log of attempts: its identity, and which copy it is.
pub(crate) fn event_key(event: &Event, copy: &str) -> String {
    let identity = event.attributes().identity();
    serde_json::json!([identity.tenant, identity.source, identity.id.to_string(), copy]).to_string()
}

/// One line of a log.
pub(crate) fn line(record: &impl Serialize) -> trunkline_core::Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|cause| {
        let message = "a record of a log does not encode";
        trunkline_core::Error::new(trunkline_core::ErrorKind::Encode, "write a record", message)
            .because(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(topic: &str, partitions: u32) -> GroupRecord {
        let topics = vec![topic.parse().unwrap()];
        GroupRecord { topics, shared: false, lanes: false, partitions }
    }

    #[test]
    fn the_first_declaration_of_a_group_counts_and_topics_are_added() {
        let config = Arc::new(crate::RabbitMqConfig::new("amqp://localhost").unwrap());
        let mut registry = Registry::new(&Arc::new(Topology::new(&config).unwrap()));
        let name: Group = "g".parse().unwrap();
        for (topic, partitions) in [("a", 2), ("b", 4), ("a", 1)] {
            let settings = settings(topic, partitions);
            let record = GroupLine::Group { name: name.clone(), settings, at: Timestamp::now() };
            registry.fold(&line(&record).unwrap());
        }
        let known = &registry.groups[&name];
        assert_eq!((known.partitions, known.topics.len()), (2, 2));
        registry.fold(&line(&GroupLine::Deleted { name }).unwrap());
        assert!(registry.groups.is_empty());
    }
}
