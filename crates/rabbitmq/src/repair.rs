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
use trunkline_core::{Group, Topic};

use crate::broker::Shared;
use crate::codec::Message;
use crate::lane::Failed;
use crate::names::PROBE;
use crate::topology::GroupRecord;

/// How long a queue may take to confirm: a thousand times what it needs.
const ANSWER: Duration = Duration::from_secs(2);

/// Checks the queues behind what was not confirmed, until the broker is gone.
pub(crate) async fn repair(shared: Weak<Shared>, mut reports: mpsc::UnboundedReceiver<ShortString>) {
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
fn behind(shared: &Shared, routing_key: &str) -> Vec<(Group, GroupRecord)> {
    let topic = Topic::new(routing_key).ok();
    shared.registry.read(|known| {
        let takes = |record: &GroupRecord| match &topic {
            Some(topic) => record.topics.iter().any(|pattern| pattern.matches(topic)),
            None => false,
        };
        let groups = known.groups.iter().filter(|(group, record)| {
            shared.topology.owns(group) && takes(record)
        });
        groups.map(|(group, record)| (group.clone(), record.clone())).collect()
    })
}

async fn check(shared: &Shared, group: &Group, record: &GroupRecord) {
    for queue in shared.topology.queues(group, record) {
        let probe = Message::record(Vec::new()).header(PROBE, "1");
        let sent = shared.publisher.send(ShortString::default(), queue.name.clone(), probe, ANSWER);
        match sent.await {
            Ok(()) | Err(Failed::Closed | Failed::Disconnected | Failed::Refused) => continue,
            Err(Failed::Unroutable) => {}
            Err(Failed::NoConfirm) => {
                tracing::warn!(queue = %queue.name, "a queue confirms nothing and is made again");
                if let Err(error) = delete(shared, queue.name).await {
                    tracing::warn!(%error, "a queue that confirms nothing cannot be deleted");
                    continue;
                }
            }
        }
        if let Err(error) = shared.declare_group(group, record).await {
            tracing::warn!(%error, %group, "a group cannot be declared again");
        }
    }
}

async fn delete(shared: &Shared, queue: ShortString) -> trunkline_core::Result<()> {
    let channel = shared.consume_channel("repair").await?;
    let deleted = channel.queue_delete(queue, QueueDeleteOptions::default()).await;
    shared.leave(channel).await;
    deleted.map(drop).map_err(|cause| crate::error::driver("repair", cause))
}
