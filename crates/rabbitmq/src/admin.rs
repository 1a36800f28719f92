//! The operations tools of the RabbitMQ broker.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lapin::Queue;
use lapin::types::{FieldTable, ShortString};
use trunkline_core::{
    Broker as _, BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Error, ErrorKind,
    EventId, Group, GroupInfo, GroupSpec, Result, StoredDeadLetter, SubscribeOptions, Topic,
    TopicInfo,
};

use crate::broker::{RabbitMqBroker, Shared};
use crate::error::{driver, group_in_use};
use crate::groups::warn_of_start;
use crate::registry::{GroupLine, line};
use crate::topology::{GroupRecord, PASSIVE};

impl Shared {
    /// What a queue says of itself: messages that no consumer has, and consumers.
    pub(crate) async fn ask(&self, queue: ShortString) -> Result<Option<(u64, usize)>> {
        let channel = self.control_channel("ask a queue").await?;
        let asked = channel.queue_declare(queue, PASSIVE, FieldTable::default()).await;
        self.leave(channel).await;
        match asked.map_err(|cause| driver("ask a queue", cause)) {
            Ok(told) => Ok(Some(counts(&told))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Several queues, on one channel as long as all of them are there.
    pub(crate) async fn ask_all(&self, queues: Vec<ShortString>) -> Result<Vec<(u64, usize)>> {
        let channel = self.control_channel("ask queues").await?;
        let mut told = Vec::with_capacity(queues.len());
        for queue in &queues {
            let asking = channel.queue_declare(queue.clone(), PASSIVE, FieldTable::default());
            let Ok(queue) = asking.await else { break };
            told.push(counts(&queue));
        }
        self.leave(channel).await;
        // One is missing and has ended the channel: each of the rest is asked on its own.
        for queue in queues.into_iter().skip(told.len()) {
            told.push(self.ask(queue).await?.unwrap_or_default());
        }
        Ok(told)
    }
}

fn counts(queue: &Queue) -> (u64, usize) {
    let consumers = usize::try_from(queue.consumer_count()).unwrap_or(usize::MAX);
    (u64::from(queue.message_count()), consumers)
}

async fn info(shared: &Shared, name: Group, record: GroupRecord) -> Result<GroupInfo> {
    let mut queues: Vec<ShortString> =
        shared.topology.queues(&name, &record).into_iter().map(|queue| queue.name).collect();
    // Of queues that others made the consumers are the members, as far as anybody can tell.
    if shared.topology.owns(&name) {
        queues.push(shared.topology.names.members(&name));
    }
    let (here, out) = shared.counts_of(&name);
    let told = shared.ask_all(queues).await?;
    // The members' queue holds nothing.
    let waiting: u64 = told.iter().map(|(ready, _)| ready).sum();
    Ok(GroupInfo {
        topics: record.topics,
        members: told.last().map_or(0, |(_, consumers)| *consumers),
        lag: waiting + here as u64,
        in_flight: out as u64,
        dropped: 0,
        name,
    })
}

#[async_trait]
impl BrokerAdmin for RabbitMqBroker {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let mut topics: BTreeMap<Topic, u64> = BTreeMap::new();
        for info in self.groups().await? {
            let events = info.lag + info.in_flight;
            for topic in info.topics.iter().filter_map(trunkline_core::Pattern::exact) {
                let most = topics.entry(topic).or_default();
                *most = events.max(*most);
            }
        }
        Ok(topics.into_iter().map(|(name, events)| TopicInfo { name, events }).collect())
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.shared.check_open("groups")?;
        let mut groups = self.shared.groups_of_others();
        if self.shared.topology.has_own() {
            self.shared.registry.follow().await?;
            groups.extend(self.shared.registry.read(|known| known.groups.clone()));
        }
        let mut infos = Vec::with_capacity(groups.len());
        for (name, record) in groups {
            infos.push(info(&self.shared, name, record).await?);
        }
        Ok(infos)
    }

    async fn declare_group(&self, spec: GroupSpec) -> Result<()> {
        self.shared.check_open("declare group")?;
        let mut options = SubscribeOptions::group(spec.name.clone(), spec.topics.iter().cloned());
        options.start = spec.start.clone();
        options.buffer = spec.buffer;
        options.on_full = spec.on_full;
        options.lanes = spec.lanes;
        self.capabilities().check_subscribe(&options)?;
        let is_new = !self.shared.registry.read(|known| known.groups.contains_key(&spec.name));
        let wanted = self.shared.group_record(spec.topics, spec.order, spec.lanes);
        self.shared.ensure_group(&spec.name, wanted).await?;
        if is_new {
            warn_of_start(&spec.name, &spec.start);
        }
        Ok(())
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        const OPERATION: &str = "delete group";
        self.shared.check_open(OPERATION)?;
        let shared = &self.shared;
        if !shared.topology.owns(group) {
            let message = "the group takes from queues that others made: delete those";
            let error = Error::new(ErrorKind::Unsupported, OPERATION, message);
            return Err(error.with("group", group));
        }
        shared.registry.sync().await?;
        let Some(record) = shared.registry.read(|known| known.groups.get(group).cloned()) else {
            return Ok(false);
        };
        let channel = shared.control_channel(OPERATION).await?;
        let deleted = shared.topology.delete_group(&channel, group, &record).await;
        shared.leave(channel).await;
        if !deleted? {
            return Err(group_in_use(group));
        }
        shared.forget_group(group);
        let record = GroupLine::Deleted { name: group.clone() };
        shared.registry.append(line(&record)?).await?;
        Ok(true)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        self.shared.check_open("dead letters")?;
        let capabilities = self.capabilities();
        capabilities.require(capabilities.dead_letters, "dead_letters", "the reading of them")?;
        self.shared.read_letters(filter).await
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        self.shared.check_open("settle dead letter")?;
        let capabilities = self.capabilities();
        capabilities.require(capabilities.dead_letters, "dead_letters", "the settling of one")?;
        self.shared.settle_letter(id, verdict).await
    }

    async fn cancel(&self, _id: &EventId) -> Result<bool> {
        self.shared.check_open("cancel")?;
        let capabilities = self.capabilities();
        capabilities.require(capabilities.cancel, "cancel", "the cancelling of a publish")?;
        Ok(false)
    }
}
