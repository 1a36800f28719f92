//! Publishing: a batch is enqueued in its order, and its confirmations are awaited together.

use std::sync::Arc;

use tokio::time::Instant;
use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{
    Audience, BatchResult, Error, ErrorKind, Event, PublishOptions, Publishing, Result, RetryClass,
};

use crate::broker::Shared;
use crate::codec::{self, Draft};
use crate::mutant::Mutations;
use crate::producer::Batch;
use crate::settle::due_in;
use crate::{delay, error};

pub(crate) fn publish<'a>(
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    let checked = shared.check_open("publish");
    if let Err(error) = checked.and_then(|()| shared.capabilities.check_publish(options)) {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    if events.is_empty() {
        return Publishing::Ready(BatchResult::accepted());
    }
    let publish = Publish { shared, events, options, result: BatchResult::accepted() };
    Publishing::waiting(publish.run())
}

struct Publish<'a> {
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
    result: BatchResult,
}

impl Publish<'_> {
    async fn run(mut self) -> BatchResult {
        let limit = self.shared.clients.config.publish_timeout;
        let deadline = Instant::now() + self.options.timeout.unwrap_or(limit);
        let shared = self.shared;
        let Some(pass) = shared.gate.enter() else {
            return BatchResult::failed(self.events.len(), &error::closed("publish"));
        };
        let batch = Batch::of(self.events.len());
        for (index, event) in self.events.iter().enumerate() {
            let enqueued = match self.draft(event) {
                Ok(draft) => self.enqueue(&batch, index, event, draft, deadline).await,
                Err(error) => Err(error),
            };
            if let Err(error) = enqueued {
                self.result.fail(index, error);
            }
        }
        drop(pass);
        if Mutations::of(&self.shared.clients.config).no_flush {
            // Else a publisher that awaits nothing floods the server.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            return self.result;
        }
        for (index, error) in batch.outcome(deadline).await {
            // What has vanished is looked for again by the next publish.
            if error.kind() == ErrorKind::Unroutable {
                self.shared.topics.forget(self.events[index].topic());
            }
            self.result.fail(index, self.after_purge(error));
        }
        self.result
    }

    /// Closing throws away what the flush did not get through, and so does a producer that is made
    /// anew: its publisher is told which.
    fn after_purge(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Closed {
            return error;
        }
        match self.shared.check_open("publish") {
            Err(closed) => closed.with_retry(error.retry()),
            Ok(()) => error::purged(error.retry() == RetryClass::Ambiguous),
        }
    }

    /// The event as a record, if it may be published at all.
    fn draft(&self, event: &Event) -> Result<Draft> {
        if self.shared.gate.is_sealed() {
            return Err(error::closed("publish"));
        }
        let config = &self.shared.clients.config;
        let data = event.data()?;
        let (bytes, limit) = (data.as_slice().len(), config.max_event_bytes);
        if bytes > limit {
            return Err(Error::too_large(bytes, limit));
        }
        if self.result.aborts(event, self.events) {
            return Err(Error::aborted());
        }
        let mut draft = match config.mode {
            ContentMode::Binary => Draft::of(event, None)?,
            ContentMode::Structured => Draft::structured(event)?,
        };
        draft = draft.for_audience(self.options.audience == Audience::BroadcastOnly);
        if let Some(wire) = &self.options.wire {
            draft = draft.with_overrides(wire);
        }
        if draft.len() > config.max_record_bytes() {
            return Err(Error::too_large(draft.len(), config.max_record_bytes()));
        }
        Ok(draft)
    }

    async fn enqueue(
        &self,
        batch: &Arc<Batch>,
        index: usize,
        event: &Event,
        mut draft: Draft,
        deadline: Instant,
    ) -> Result<()> {
        let place = self.place(event).await?;
        let wanted = draft.partition.and_then(|partition| u32::try_from(partition).ok());
        if let Some(partition) = wanted.filter(|partition| *partition >= place.partitions) {
            return Err(error::no_such_partition(event.topic(), partition, place.partitions));
        }
        let producer = &self.shared.producer;
        let Some(delay) = self.options.delay.filter(|delay| !delay.is_zero()) else {
            self.shared.clients.config.partition_strategy.settle(&mut draft, &place);
            return producer.enqueue(batch, index, &place.name, draft, deadline).await;
        };
        delay::ensure(self.shared).await?;
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        if let Some(partition) = draft.partition.take() {
            draft = draft.with_text(codec::PARTITION, &partition);
        }
        let draft =
            draft.with_text(codec::TOPIC, event.topic()).with_text(codec::DUE, &due_in(delay));
        let name = self.shared.topics.names.delay(millis);
        producer.enqueue(batch, index, &name, draft, deadline).await
    }

    async fn place(&self, event: &Event) -> Result<Arc<crate::topics::Place>> {
        if let Some(place) = self.shared.topics.known(event.topic()) {
            return Ok(place);
        }
        self.shared.place(event.topic()).await
    }
}
