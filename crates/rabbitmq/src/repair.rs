//! Queues that confirm nothing any more.
//!
//! A quorum queue that is younger than half a second when its server is killed can come back dead: it
//! can be declared, and never confirms. Only deleting it helps. What never confirms on a connection
//! that works is therefore a reason to ask each queue behind it.

use std::sync::Weak;
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use lapin::types::ShortString;
use tokio::sync::mpsc;
use trunkline_core::{Group, Result, Topic};

use crate::broker::Shared;
use crate::codec::Message;
use crate::job::{Failed, Outcome};
use crate::names::PROBE;
use crate::publish::failure;
use crate::topology::GroupRecord;

/// How long a queue may take to confirm: a thousand times what it needs.
const ANSWER: Duration = Duration::from_secs(2);

/// Checks the queues behind what was not confirmed, until the broker is gone.
pub(crate) async fn repair(
    shared: Weak<Shared>,
    mut reports: mpsc::UnboundedReceiver<ShortString>,
) {
    while let Some(routing_key) = reports.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        let groups = behind(&shared, routing_key.as_str());
        for (group, record) in groups {
            check(&shared, &group, &record).await;
        }
        // The ladder's queues are asked for again by the next delay.
        shared.forget_ladder();
    }
}

/// The groups that take what was published with this routing key.
pub(crate) fn behind(shared: &Shared, routing_key: &str) -> Vec<(Group, GroupRecord)> {
    let topic = Topic::new(routing_key).ok();
    shared.registry.read(|known| {
        let takes = |record: &GroupRecord| match &topic {
            Some(topic) => record.topics.iter().any(|pattern| pattern.matches(topic)),
            None => false,
        };
        let groups = known
            .groups
            .iter()
            .filter(|(group, record)| shared.topology.owns(group) && takes(record));
        groups.map(|(group, record)| (group.clone(), record.clone())).collect()
    })
}

async fn check(shared: &Shared, group: &Group, record: &GroupRecord) {
    for queue in shared.topology.queues(group, record) {
        match shared.ask_to_confirm(queue.name.clone(), ANSWER).await {
            Ok(()) | Err(Failed::Closed | Failed::Disconnected | Failed::Refused) => continue,
            Err(Failed::Unroutable) => {}
            Err(Failed::NoConfirm) if delete(shared, queue.name).await => {}
            Err(Failed::NoConfirm) => continue,
        }
        if let Err(error) = shared.restore_group(group, record).await {
            tracing::warn!(%error, %group, "a group cannot be declared again");
        }
    }
}

impl Shared {
    /// Sends a message to a queue that means nothing and lives for no time.
    async fn ask_to_confirm(&self, queue: ShortString, limit: Duration) -> Outcome {
        let mut probe = Message::record(Vec::new()).header(PROBE, "1");
        probe.properties = probe.properties.with_expiration(ShortString::from("0"));
        self.publisher.send(ShortString::default(), queue, probe, limit).await
    }

    /// Waits until a queue has done everything that has reached it.
    pub(crate) async fn probe(&self, queue: ShortString, limit: Duration) -> Result<()> {
        let confirmed = self.ask_to_confirm(queue, limit).await;
        confirmed.map_err(|failed| failure("close", failed, &self.config.address()))
    }
}

/// Deletes a queue that confirms nothing; false when that fails, and it is tried again later.
async fn delete(shared: &Shared, queue: ShortString) -> bool {
    tracing::warn!(%queue, "a queue confirms nothing and is made again");
    let deleted = try_delete(shared, queue).await;
    if let Err(error) = &deleted {
        tracing::warn!(%error, "a queue that confirms nothing cannot be deleted");
    }
    deleted.is_ok()
}

async fn try_delete(shared: &Shared, queue: ShortString) -> Result<()> {
    let channel = shared.control_channel("repair").await?;
    let deleted = channel.queue_delete(queue, QueueDeleteOptions::default()).await;
    shared.leave(channel).await;
    deleted.map(drop).map_err(|cause| crate::error::driver("repair", cause))
}
