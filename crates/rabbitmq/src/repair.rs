//! Queues that confirm nothing any more.
//!
//! A quorum queue that is younger than half a second when its server is killed can come back dead: it
//! can be declared, and never confirms. Only deleting it helps. What never confirms on a connection
//! that works is therefore a reason to ask each queue behind it.

use std::sync::Weak;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::QueueDeleteOptions;
use lapin::types::ShortString;
use tokio::sync::mpsc;
use trunkline_core::{Group, Result, Topic};

use crate::broker::Shared;
use crate::codec::Message;
use crate::error::driver;
use crate::job::{Failed, Outcome};
use crate::names::PROBE;
use crate::publish::failure;
use crate::topology::GroupRecord;

/// How long a queue may take to confirm: some thousand times what it needs.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a queue is asked before it is deleted: a question may be on its way just when the server stops
/// taking any, and the next is then held back, which says nothing about the queue.
const QUESTIONS: usize = 2;

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
    let queues = shared.topology.queues(group, record);
    // All at once: a publisher waits for its event meanwhile.
    let asking = queues.into_iter().map(|queue| async {
        let answer = shared.ask_often(&queue.name).await;
        (queue.name, answer)
    });
    for (queue, answer) in join_all(asking).await {
        match answer {
            Ok(()) | Err(Failed::Closed | Failed::Disconnected | Failed::Refused) => continue,
            Err(Failed::Unroutable) => {}
            Err(Failed::NoConfirm) if delete(shared, queue).await => {}
            Err(Failed::NoConfirm) => continue,
        }
        if let Err(error) = shared.restore_group(group, record).await {
            tracing::warn!(%error, %group, "a group cannot be declared again");
        }
    }
}

impl Shared {
    /// Asks until there is an answer, and only so often.
    async fn ask_often(&self, queue: &ShortString) -> Outcome {
        let mut answer = Err(Failed::NoConfirm);
        for _ in 0..QUESTIONS {
            answer = self.ask_to_confirm(queue.clone(), ANSWER).await;
            if answer != Err(Failed::NoConfirm) {
                break;
            }
        }
        answer
    }

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

/// Deletes a queue that confirms nothing; false when that fails or it lives, and it is tried again later.
async fn delete(shared: &Shared, queue: ShortString) -> bool {
    let deleted = try_delete(shared, queue.clone()).await;
    match &deleted {
        Ok(true) => tracing::warn!(%queue, "a queue that confirmed nothing is made again"),
        Ok(false) => tracing::warn!(%queue, "a queue confirms nothing for now"),
        Err(error) => {
            tracing::warn!(%error, %queue, "a queue that confirms nothing cannot be deleted");
        }
    }
    matches!(deleted, Ok(true))
}

/// Deletes a queue unless it shows that it lives: a dead one counts neither events nor consumers. One that
/// has lost its majority the server itself refuses to delete.
async fn try_delete(shared: &Shared, queue: ShortString) -> Result<bool> {
    if shared.ask(queue.clone()).await? != Some((0, 0)) {
        return Ok(false);
    }
    let channel = shared.control_channel("repair").await?;
    let deleted = channel.queue_delete(queue, QueueDeleteOptions::default()).await;
    shared.leave(channel).await;
    deleted.map(|_| true).map_err(|cause| driver("repair", cause))
}
