//! Publishing: room is taken in every queue that wants the event, and then it goes into all of them.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use trunkline_core::{
    Audience, BatchResult, Error, Event, OnFull, PublishOptions, Publishing, Result,
};

use crate::broker::Shared;
use crate::error::MemoryError;
use crate::queue::Queue;
use crate::topology::Targets;
use crate::{in_future, lock};

/// How often a publisher looks for room in a full queue before it sleeps: some 20 µs on a machine with
/// nothing else to do, and one turn of every other task on a busy one.
const LOOKS: usize = 32;

/// What became of one event.
enum Attempt {
    Accepted,
    /// This queue has no room, and its policy is to wait for some.
    NoRoom(Arc<Queue>),
    Failed(Error),
}

pub(crate) fn publish<'a>(
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    if options.wire.is_some()
        && let Err(error) = shared.capabilities().check_publish(options)
    {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    let mut batch = Batch { shared, events, options, result: BatchResult::accepted() };
    for (index, event) in events.iter().enumerate() {
        match batch.attempt(event) {
            Attempt::Accepted => {}
            Attempt::Failed(error) => batch.result.fail(index, error),
            Attempt::NoRoom(queue) => return Publishing::waiting(batch.wait_from(index, queue)),
        }
    }
    Publishing::Ready(batch.result)
}

struct Batch<'a> {
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
    result: BatchResult,
}

impl Batch<'_> {
    fn attempt(&self, event: &Event) -> Attempt {
        match self.check(event) {
            Ok(()) => self.enqueue(event, None),
            Err(error) => Attempt::Failed(error),
        }
    }

    fn check(&self, event: &Event) -> Result<()> {
        self.shared.check_open("publish")?;
        let limit = self.shared.config.max_event_bytes;
        if let Some(bytes) = event.encoded_len().filter(|bytes| *bytes > limit) {
            return Err(Error::too_large(bytes, limit));
        }
        if self.result.aborts(event, self.events) {
            return Err(Error::aborted());
        }
        Ok(())
    }

    /// Puts the event into every queue that takes it, if all have room; `held` is room in one of them.
    fn enqueue(&self, event: &Event, held: Option<(&Arc<Queue>, SemaphorePermit<'_>)>) -> Attempt {
        let topology = self.shared.topology();
        if let Some(targets) = topology.known_targets(event.topic()) {
            return self.enqueue_into(event, targets, held);
        }
        drop(topology);
        let mut topology = self.shared.change_topology();
        let targets = topology.targets(event.topic());
        self.enqueue_into(event, &targets, held)
    }

    /// The caller holds the topology, so that no queue comes or goes meanwhile.
    fn enqueue_into(
        &self,
        event: &Event,
        targets: &Targets,
        held: Option<(&Arc<Queue>, SemaphorePermit<'_>)>,
    ) -> Attempt {
        let queues = match self.options.audience {
            Audience::Everyone => targets.everyone(),
            Audience::BroadcastOnly => targets.subscribers(),
        };
        let is_kept = self.shared.history.is_some() && self.options.audience == Audience::Everyone;
        if queues.is_empty() && !is_kept && self.options.audience == Audience::Everyone {
            return Attempt::Failed(MemoryError::Unroutable(event.topic()).into());
        }
        if let Some(refusal) = self.take_room(queues, held) {
            return refusal;
        }
        let due = self.options.delay.map(in_future);
        let place = self.shared.history.as_ref().map(|history| {
            let mut history = lock(history);
            if is_kept { history.keep(event, due) } else { history.number() }
        });
        for queue in queues {
            queue.push(event.clone(), place, due);
        }
        Attempt::Accepted
    }

    /// Takes room for one event in every queue, or in none.
    fn take_room(
        &self,
        queues: &[Arc<Queue>],
        held: Option<(&Arc<Queue>, SemaphorePermit<'_>)>,
    ) -> Option<Attempt> {
        for (taken, queue) in queues.iter().enumerate() {
            if held.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, queue)) {
                continue;
            }
            match queue.room.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(_) if queue.on_full == OnFull::DropOldest && queue.drop_oldest() => {}
                Err(_) => {
                    let is_held = |queue: &&Arc<Queue>| {
                        held.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, queue))
                    };
                    let back = queues[..taken].iter().filter(|queue| !is_held(queue));
                    back.for_each(|queue| queue.room.add_permits(1));
                    return Some(self.refuse(queue));
                }
            }
        }
        if let Some((_, permit)) = held {
            permit.forget();
        }
        None
    }

    fn refuse(&self, queue: &Arc<Queue>) -> Attempt {
        if queue.room.is_closed() {
            return Attempt::Failed(MemoryError::Closed("publish").into());
        }
        let group = queue.group.as_ref();
        // A handler that waits for the queue that only it drains would wait for itself.
        if let Some(own) = group.filter(|group| self.options.from_group.as_ref() == Some(group)) {
            return Attempt::Failed(MemoryError::FullOfOwn { group: own }.into());
        }
        match queue.on_full {
            OnFull::Block => Attempt::NoRoom(Arc::clone(queue)),
            _ => Attempt::Failed(MemoryError::Full { group, capacity: queue.capacity }.into()),
        }
    }

    /// Goes on with the batch at an event that has to wait for room in `queue`.
    async fn wait_from(mut self, start: usize, queue: Arc<Queue>) -> BatchResult {
        // One limit for the whole batch: with a stuck consumer its publisher is told so once.
        let timeout = self.options.timeout.unwrap_or(self.shared.config.publish_timeout);
        let deadline = in_future(timeout);
        let mut full = Some(queue);
        for (index, event) in self.events.iter().enumerate().skip(start) {
            let outcome = match full.take() {
                Some(queue) => self.wait_for_room(event, queue, deadline).await,
                None => match self.attempt(event) {
                    Attempt::Accepted => Ok(()),
                    Attempt::Failed(error) => Err(error),
                    Attempt::NoRoom(queue) => self.wait_for_room(event, queue, deadline).await,
                },
            };
            if let Err(error) = outcome {
                self.result.fail(index, error);
            }
        }
        self.result
    }

    /// Waits for room in one queue at a time, holding no other queue's meanwhile: two publishers that
    /// want the same two queues cannot wait for each other.
    async fn wait_for_room(
        &self,
        event: &Event,
        mut queue: Arc<Queue>,
        deadline: Instant,
    ) -> Result<()> {
        // A consumer that is running makes room within microseconds: sleeping and being woken would
        // cost both sides more than looking again a few times.
        for _ in 0..LOOKS {
            if Instant::now() >= deadline {
                break;
            }
            if queue.room.available_permits() == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            match self.enqueue(event, None) {
                Attempt::Accepted => return Ok(()),
                Attempt::Failed(error) => return Err(error),
                Attempt::NoRoom(next) => queue = next,
            }
        }
        loop {
            let full = Arc::clone(&queue);
            let Ok(room) = tokio::time::timeout_at(deadline, full.room.acquire()).await else {
                let group = full.group.as_ref();
                return Err(MemoryError::Full { group, capacity: full.capacity }.into());
            };
            self.shared.check_open("publish")?;
            // Without a permit the queue has gone, with its group or subscriber; others may want the
            // event still.
            let held = room.ok().map(|permit| (&full, permit));
            match self.enqueue(event, held) {
                Attempt::Accepted => return Ok(()),
                Attempt::Failed(error) => return Err(error),
                Attempt::NoRoom(next) => queue = next,
            }
        }
    }
}
