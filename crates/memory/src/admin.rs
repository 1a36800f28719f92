//! The operations tools of the memory broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use trunkline_core::{
    BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, EventId, Group, GroupInfo,
    GroupSpec, Result, StoredDeadLetter, SubscribeOptions, Topic, TopicInfo,
};

use crate::broker::MemoryBroker;
use crate::error::MemoryError;
use crate::lock;

#[async_trait]
impl BrokerAdmin for MemoryBroker {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.shared.check_open("topics")?;
        let mut topics: BTreeMap<Topic, u64> = BTreeMap::new();
        for queue in self.shared.topology().queues() {
            let mut counts: BTreeMap<Topic, u64> = BTreeMap::new();
            queue.visit(|event| *counts.entry(event.topic().clone()).or_default() += 1);
            for (topic, count) in counts {
                let most = topics.entry(topic).or_default();
                *most = count.max(*most);
            }
        }
        if let Some(history) = &self.shared.history {
            let mut counts: BTreeMap<Topic, u64> = BTreeMap::new();
            let history = lock(history);
            history.events().for_each(|e| *counts.entry(e.topic().clone()).or_default() += 1);
            topics.extend(counts);
        }
        Ok(topics.into_iter().map(|(name, events)| TopicInfo { name, events }).collect())
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.shared.check_open("groups")?;
        let topology = self.shared.topology();
        let info = topology.groups.iter().map(|(name, route)| {
            let depth = route.queue.depth();
            GroupInfo {
                name: name.clone(),
                topics: route.topics.clone(),
                members: depth.members,
                lag: depth.undelivered as u64,
                in_flight: depth.in_flight as u64,
                dropped: depth.dropped,
            }
        });
        Ok(info.collect())
    }

    async fn declare_group(&self, spec: GroupSpec) -> Result<()> {
        self.shared.check_open("declare group")?;
        let mut options = SubscribeOptions::group(spec.name.clone(), spec.topics.iter().cloned());
        options.start = spec.start.clone();
        options.buffer = spec.buffer;
        options.on_full = spec.on_full;
        options.lanes = spec.lanes;
        trunkline_core::Broker::capabilities(self).check_subscribe(&options)?;
        self.shared.join_group(&spec, "declare group").map(drop)
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        self.shared.check_open("delete group")?;
        let mut topology = self.shared.change_topology();
        let Some(route) = topology.groups.get(group) else { return Ok(false) };
        if route.queue.depth().members > 0 {
            return Err(MemoryError::GroupInUse(group).into());
        }
        let removed = topology.remove_group(group);
        drop(topology);
        if let Some(queue) = removed {
            queue.end();
        }
        Ok(true)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        self.shared.check_open("dead letters")?;
        Ok(lock(&self.shared.letters).read(filter))
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        self.shared.check_open("settle dead letter")?;
        let topology = self.shared.topology();
        let mut letters = lock(&self.shared.letters);
        let letter = letters.get(id)?;
        if verdict == DeadLetterVerdict::Redrive {
            let queue = match &letter.group {
                Some(group) => topology.groups.get(group).map(|route| Arc::clone(&route.queue)),
                None => letter.queue.upgrade().filter(|queue| !queue.room.is_closed()),
            };
            let queue = queue.ok_or(MemoryError::SubscriberGone)?;
            let Ok(permit) = queue.room.try_acquire() else {
                let group = queue.group.as_ref();
                return Err(MemoryError::Full { group, capacity: queue.capacity }.into());
            };
            permit.forget();
            queue.push(letter.event.clone(), letter.place, None);
        }
        // It goes when the locks are gone: what its payload does then is not ours.
        let settled = letters.remove(id);
        drop((letters, topology));
        drop(settled);
        Ok(())
    }

    async fn cancel(&self, id: &EventId) -> Result<bool> {
        self.shared.check_open("cancel")?;
        // Nobody joins in between and is given by the history what was cancelled.
        let topology = self.shared.topology();
        let cancelled = topology.queues().filter(|queue| queue.cancel(id)).count();
        let forgotten =
            self.shared.history.as_ref().is_some_and(|history| lock(history).cancel(id));
        Ok(cancelled > 0 || forgotten)
    }
}
