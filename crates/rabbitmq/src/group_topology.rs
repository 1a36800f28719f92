//! The queues of groups: a headers exchange that spreads slots over them, and what leads there.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use trunkline_core::{ErrorKind, Group, Pattern, Priority, Result};

use crate::arguments;
use crate::config::{QueueType, SLOTS};
use crate::delay::exit_key;
use crate::error::driver;
use crate::mutant::Mutant;
use crate::names::{SLOT, digest};
use crate::topology::{GroupRecord, PASSIVE, QueueOf, Topology, table, text};

/// What the queues of a group are made from.
struct Split<'a> {
    group: &'a Group,
    record: &'a GroupRecord,
    arguments: FieldTable,
}

impl Topology {
    /// The queues of a group that its members take from.
    pub(crate) fn queues(&self, group: &Group, record: &GroupRecord) -> Vec<QueueOf> {
        if let Some(existing) = self.existing_queues(group) {
            return existing;
        }
        let partitions = 0..record.partitions;
        let lanes: Vec<(Option<&str>, u8)> = if record.lanes {
            Priority::ALL.iter().map(|lane| (Some(lane.as_str()), *lane as u8)).collect()
        } else {
            vec![(None, 0)]
        };
        let of = |partition| {
            let names = &self.names;
            lanes.iter().map(move |(lane, urgency)| QueueOf {
                name: names.queue(group, partition, *lane),
                urgency: *urgency,
            })
        };
        partitions.flat_map(of).collect()
    }

    fn existing_queues(&self, group: &Group) -> Option<Vec<QueueOf>> {
        let named = self.config.group_queues.get(group).cloned();
        let existing = match named {
            Some(names) => names,
            None if !self.is_free() => vec![self.names.group(group).to_string()],
            None => return None,
        };
        let queue = |name: String| QueueOf { name: ShortString::from(name), urgency: 0 };
        Some(existing.into_iter().map(queue).collect())
    }

    /// Whether the queues of a group are ours to declare.
    pub(crate) fn owns(&self, group: &Group) -> bool {
        self.existing_queues(group).is_none()
    }

    /// Declares a group, with `no_limit` among the arguments of its queues; it takes events when this
    /// returns.
    pub(crate) async fn declare_group(
        &self,
        channel: &Channel,
        group: &Group,
        record: &GroupRecord,
        no_limit: FieldTable,
    ) -> Result<()> {
        if let Some(queues) = self.existing_queues(group) {
            return self.join_existing(channel, &queues, record).await;
        }
        let split = Split { group, record, arguments: self.queue_arguments(record, no_limit) };
        let members = self.names.members(group);
        self.queue(channel, members, FieldTable::default()).await?;
        let entry = self.names.group(group);
        if record.lanes {
            self.declare_lanes(channel, &split).await?;
        } else {
            let rest = self.names.rest(group, None);
            self.declare_slots(channel, &entry, rest, &split, None).await?;
        }
        self.bind_patterns(channel, &entry, &record.topics).await?;
        let key = exit_key('g', group.as_str())?;
        self.bind_exchange(channel, &self.names.delay_exit(), &entry, key, None).await?;
        self.settle_down(channel).await
    }

    /// Makes sure that queues of others are there, and lets what was delayed come back to them.
    async fn join_existing(
        &self,
        channel: &Channel,
        queues: &[QueueOf],
        record: &GroupRecord,
    ) -> Result<()> {
        for QueueOf { name, .. } in queues {
            let asked = channel.queue_declare(name.clone(), PASSIVE, FieldTable::default()).await;
            asked.map_err(|cause| driver("declare", cause).with("queue", name))?;
        }
        if !self.has_own() {
            return Ok(());
        }
        let (exit, none) = (self.names.delay_exit(), FieldTable::default);
        for QueueOf { name, .. } in queues {
            let key = exit_key('e', &digest(name.as_str()))?;
            self.bind_queue(channel, name, &exit, key.as_str(), none()).await?;
        }
        // Which of several queues an event belongs to, only those know who bound them.
        let Some(QueueOf { name, .. }) = queues.first() else { return Ok(()) };
        for topic in &record.topics {
            let key = exit_key('t', topic.as_str())?;
            self.bind_queue(channel, name, &exit, key.as_str(), none()).await?;
        }
        self.settle_down(channel).await
    }

    /// An exchange that spreads slots over queues, and gives what has no slot to the first of them.
    async fn declare_slots(
        &self,
        channel: &Channel,
        name: &ShortString,
        rest: ShortString,
        split: &Split<'_>,
        lane: Option<&str>,
    ) -> Result<()> {
        let partitions = split.record.partitions;
        let queue = |partition| self.names.queue(split.group, partition, lane);
        for partition in 0..partitions {
            self.queue(channel, queue(partition), split.arguments.clone()).await?;
        }
        let fanout = ExchangeKind::Fanout;
        self.exchange(channel, rest.clone(), fanout, FieldTable::default()).await?;
        self.bind_queue(channel, &queue(0), &rest, "", FieldTable::default()).await?;
        let arguments = if Mutant::NoAlternateExchange.is_on(&self.config) {
            FieldTable::default()
        } else {
            table([("alternate-exchange", text(rest.as_str()))])
        };
        self.exchange(channel, name.clone(), ExchangeKind::Headers, arguments).await?;
        for slot in 0..SLOTS {
            let arguments = table([("x-match", text("all")), (SLOT, text(slot.to_string()))]);
            self.bind_queue(channel, &queue(slot % partitions), name, "", arguments).await?;
        }
        Ok(())
    }

    /// A headers exchange in front of one for each priority; what has none is normal.
    async fn declare_lanes(&self, channel: &Channel, split: &Split<'_>) -> Result<()> {
        let group = split.group;
        let entry = self.names.group(group);
        let normal = self.names.lane(group, Priority::Normal.as_str());
        for lane in Priority::ALL {
            let lane = lane.as_str();
            let (name, rest) = (self.names.lane(group, lane), self.names.rest(group, Some(lane)));
            self.declare_slots(channel, &name, rest, split, Some(lane)).await?;
        }
        let arguments = table([("alternate-exchange", text(normal.as_str()))]);
        self.exchange(channel, entry.clone(), ExchangeKind::Headers, arguments).await?;
        for lane in Priority::ALL {
            let matching = table([("x-match", text("all")), ("ce-priority", text(lane.as_str()))]);
            let to = self.names.lane(group, lane.as_str());
            self.bind_exchange(channel, &entry, &to, ShortString::default(), Some(matching))
                .await?;
        }
        Ok(())
    }

    /// `no_limit`, because every hand-over counts a delivery on what was prefetched.
    fn queue_arguments(&self, record: &GroupRecord, no_limit: FieldTable) -> FieldTable {
        let mut table = no_limit;
        let kind = match self.config.queue_type {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        table.insert("x-queue-type".into(), text(kind));
        if !record.shared {
            table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        arguments::extend(&mut table, &self.config.queue_arguments);
        table
    }

    async fn bind_patterns(
        &self,
        channel: &Channel,
        entry: &ShortString,
        topics: &[Pattern],
    ) -> Result<()> {
        for topic in topics {
            let (key, arguments) = self.binding(topic)?;
            let main = &self.names.exchange;
            self.bind_exchange(channel, main, entry, key, Some(arguments)).await?;
            let key = exit_key('t', topic.as_str())?;
            self.bind_exchange(channel, &self.names.delay_exit(), entry, key, None).await?;
        }
        Ok(())
    }

    /// Deletes a group; its dead letters stay. False when it has members.
    pub(crate) async fn delete_group(
        &self,
        channel: &Channel,
        group: &Group,
        record: &GroupRecord,
    ) -> Result<bool> {
        let unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
        let members = self.names.members(group);
        match channel
            .queue_delete(members, unused)
            .await
            .map_err(|cause| driver("delete group", cause))
        {
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(false),
            other => other?,
        };
        // The entry first, so that nothing comes in between.
        let mut exchanges = vec![self.names.group(group), self.names.rest(group, None)];
        if record.lanes {
            for lane in Priority::ALL {
                exchanges.push(self.names.lane(group, lane.as_str()));
                exchanges.push(self.names.rest(group, Some(lane.as_str())));
            }
        }
        for name in exchanges {
            let deleted = channel.exchange_delete(name, ExchangeDeleteOptions::default()).await;
            deleted.map_err(|cause| driver("delete group", cause))?;
        }
        let mut queues: Vec<ShortString> =
            self.queues(group, record).into_iter().map(|queue| queue.name).collect();
        queues.push(self.names.attempts(group));
        for name in queues {
            let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
            deleted.map_err(|cause| driver("delete group", cause))?;
        }
        Ok(true)
    }
}
