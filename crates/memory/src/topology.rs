//! Who takes which topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trunkline_core::{Group, Pattern, Topic};

use crate::queue::Queue;

/// Topics whose targets are remembered; one more, and all are forgotten.
const REMEMBERED_TOPICS: usize = 10_000;

#[derive(Default)]
pub(crate) struct Topology {
    pub(crate) groups: BTreeMap<Group, Route>,
    subscribers: BTreeMap<u64, Route>,
    next_subscriber: u64,
    targets: HashMap<Topic, Arc<Targets>, foldhash::fast::RandomState>,
}

pub(crate) struct Route {
    pub(crate) topics: Vec<Pattern>,
    pub(crate) queue: Arc<Queue>,
}

impl Route {
    pub(crate) fn takes(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }
}

/// The queues that take one topic: groups, then broadcast subscribers.
pub(crate) struct Targets {
    queues: Box<[Arc<Queue>]>,
    groups: usize,
}

impl Targets {
    pub(crate) fn everyone(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    pub(crate) fn subscribers(&self) -> &[Arc<Queue>] {
        &self.queues[self.groups..]
    }
}

impl Topology {
    pub(crate) fn known_targets(&self, topic: &Topic) -> Option<&Arc<Targets>> {
        self.targets.get(topic)
    }

    pub(crate) fn targets(&mut self, topic: &Topic) -> Arc<Targets> {
        let matching = |route: &Route| route.takes(topic).then(|| Arc::clone(&route.queue));
        let mut queues: Vec<_> = self.groups.values().filter_map(matching).collect();
        let groups = queues.len();
        queues.extend(self.subscribers.values().filter_map(matching));
        let targets = Arc::new(Targets { queues: queues.into(), groups });
        if self.targets.len() >= REMEMBERED_TOPICS {
            self.targets.clear();
        }
        self.targets.insert(topic.clone(), Arc::clone(&targets));
        targets
    }

    /// Adds topics to a group, and the group itself when it is new: then `make` is its queue.
    pub(crate) fn join_group(
        &mut self,
        group: &Group,
        topics: &[Pattern],
        make: impl FnOnce() -> Arc<Queue>,
    ) -> Arc<Queue> {
        self.targets.clear();
        let route = self
            .groups
            .entry(group.clone())
            .or_insert_with(|| Route { topics: Vec::new(), queue: make() });
        for topic in topics {
            if !route.topics.contains(topic) {
                route.topics.push(topic.clone());
            }
        }
        Arc::clone(&route.queue)
    }

    pub(crate) fn add_subscriber(&mut self, topics: Vec<Pattern>, queue: Arc<Queue>) -> u64 {
        self.targets.clear();
        let id = self.next_subscriber;
        self.next_subscriber += 1;
        self.subscribers.insert(id, Route { topics, queue });
        id
    }

    /// Removes a broadcast subscriber; its queue is to be ended once the topology is let go of.
    pub(crate) fn remove_subscriber(&mut self, id: u64) -> Option<Arc<Queue>> {
        self.targets.clear();
        self.subscribers.remove(&id).map(|route| route.queue)
    }

    /// Removes a group; its queue is to be ended once the topology is let go of.
    pub(crate) fn remove_group(&mut self, group: &Group) -> Option<Arc<Queue>> {
        self.targets.clear();
        self.groups.remove(group).map(|route| route.queue)
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.groups.values().chain(self.subscribers.values()).map(|route| &route.queue)
    }

    pub(crate) fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }
}
