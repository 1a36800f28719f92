//! The groups of a broker: what is known of them, and how they are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use lapin::types::{AMQPValue, FieldTable};
use trunkline_core::{Group, Order, Pattern, Result, StartAt};

use crate::broker::Shared;
use crate::lock;
use crate::log::Log;
use crate::registry::{Attempts, GroupLine, Letters, Registry, line};
use crate::topology::{GroupRecord, table, text};

/// What a process knows of groups beside their log.
#[derive(Default)]
pub(crate) struct Groups {
    /// Those that were declared on the connection of this number, with these settings.
    declared: Mutex<HashMap<Group, (u64, GroupRecord)>>,
    attempts: Mutex<HashMap<Group, Arc<Log<Attempts>>>>,
    letters: Mutex<HashMap<Option<Group>, Arc<Log<Letters>>>>,
}

impl Shared {
    /// Makes a group, or adds topics to it; it takes events when this returns.
    pub(crate) async fn ensure_group(
        &self,
        group: &Group,
        wanted: GroupRecord,
    ) -> Result<GroupRecord> {
        self.topology.check(self.capabilities(), Some(group), &wanted.topics, wanted.lanes)?;
        if !self.topology.owns(group) {
            self.declare_group(group, &wanted).await?;
            return Ok(wanted);
        }
        self.registry.follow().await?;
        let known = |registry: &Registry| registry.groups.get(group).cloned();
        let covers = |known: &GroupRecord| wanted.topics.iter().all(|t| known.topics.contains(t));
        if !self.registry.read(known).is_some_and(|known| covers(&known)) {
            let record = GroupLine::group(group, wanted.clone());
            self.registry.append(line(&record)?).await?;
        }
        let record = self.registry.read(known).unwrap_or(wanted);
        let epoch = self.control_link.now().map_or(0, |live| live.epoch);
        let is_declared = |(then, with): &(u64, GroupRecord)| *then == epoch && *with == record;
        if !lock(&self.groups.declared).get(group).is_some_and(is_declared) {
            self.declare_group(group, &record).await?;
            lock(&self.groups.declared).insert(group.clone(), (epoch, record.clone()));
        }
        Ok(record)
    }

    /// Declares the queues and bindings of a group, again or for the first time; where they are not
    /// ours, they have to be there.
    pub(crate) async fn declare_group(&self, group: &Group, record: &GroupRecord) -> Result<()> {
        let no_limit = match self.topology.owns(group) {
            true => self.no_limit().await?,
            false => FieldTable::default(),
        };
        let channel = self.control_channel("declare").await?;
        let declared = async {
            self.topology.declare_base(&channel).await?;
            self.topology.declare_group(&channel, group, record, no_limit).await
        };
        let declared = declared.await;
        self.leave(channel).await;
        declared
    }

    /// Declares a group again whose queues have vanished; publishers are told that they are young,
    /// and members that they are others.
    pub(crate) async fn restore_group(&self, group: &Group, record: &GroupRecord) -> Result<()> {
        if !self.topology.owns(group) {
            return self.declare_group(group, record).await;
        }
        let again = GroupLine::group(group, record.clone());
        self.registry.append(line(&again)?).await?;
        self.declare_group(group, record).await?;
        self.registry.append(line(&GroupLine::Restored { name: group.clone() })?).await
    }

    pub(crate) fn attempts_of(&self, group: &Group) -> Arc<Log<Attempts>> {
        let mut logs = lock(&self.groups.attempts);
        let log = logs.entry(group.clone()).or_insert_with(|| {
            // What was retried at once is settled soon; a day is longer than any outage that a group
            // comes back from with the same prefetched events.
            let kept = table([
                ("x-max-age", text("1D")),
                ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(4 << 20)),
            ]);
            Log::new(self.topology.names.attempts(group), self.me(), kept, Attempts::default())
        });
        Arc::clone(log)
    }

    /// Forgets a group that is gone.
    pub(crate) fn forget_group(&self, group: &Group) {
        lock(&self.groups.declared).remove(group);
        lock(&self.groups.attempts).remove(group);
    }

    pub(crate) fn letters_of(&self, group: Option<&Group>) -> Arc<Log<Letters>> {
        let mut logs = lock(&self.groups.letters);
        let log = logs.entry(group.cloned()).or_insert_with(|| {
            let none = FieldTable::default();
            Log::new(self.topology.names.state(group), self.me(), none, Letters::default())
        });
        Arc::clone(log)
    }

    pub(crate) fn group_record(
        &self,
        topics: Vec<Pattern>,
        order: Order,
        lanes: bool,
    ) -> GroupRecord {
        let shared = order == Order::None;
        // Members that share freely need no partitions.
        let partitions = if shared { 1 } else { self.config.partitions_of(&topics) };
        GroupRecord { topics, shared, lanes, partitions }
    }
}

/// Says once for each new group what a start at the beginning means here.
pub(crate) fn warn_of_start(group: &Group, start: &StartAt) {
    if *start == StartAt::Beginning {
        tracing::warn!(
            %group,
            "RabbitMQ keeps no history: the beginning of a new group is its creation"
        );
    }
}
