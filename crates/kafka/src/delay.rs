//! Delayed publishes wait in topics of ours, and are put into their own topic when they are due.
//!
//! Every process that subscribes, or has published with a delay, is a member of the group that moves
//! them. What a mover holds is not committed: when its process dies, another one reads it again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Result, SubscribeOptions};

use crate::broker::Shared;
use crate::codec::Draft;
use crate::consume::{self, KafkaSubscription};
use crate::desk::Turn;
use crate::part::Back;
use crate::poller::Way;
use crate::producer::Batch;
use crate::queue::Entry;
use crate::seat::{Role, Seat};
use crate::topics::Purpose;

/// How many moves are under way at a time.
const MOVES: usize = 256;
/// How long a move that failed waits.
const AGAIN: Duration = Duration::from_millis(500);

/// Makes the delay topics where they are missing, and has this process move what is due.
pub(crate) async fn ensure(shared: &Arc<Shared>) -> Result<()> {
    start(shared, true).await
}

/// Has this process move what is due, if anything has ever been delayed.
pub(crate) async fn resume(shared: &Arc<Shared>) -> Result<()> {
    start(shared, false).await
}

async fn start(shared: &Arc<Shared>, makes: bool) -> Result<()> {
    let mut is_started = shared.mover.lock().await;
    if *is_started {
        return Ok(());
    }
    let names = shared.topics.names.delays();
    // The first is made with the others.
    if shared.topics.partitions(&names[0]).await?.is_none() {
        if !makes {
            return Ok(());
        }
        let wanted: Vec<_> = names.iter().map(|name| (name.clone(), Purpose::Waiting)).collect();
        shared.topics.make(&wanted).await?;
    }
    // A publish that goes on while the broker closes leaves the moving to others: closing would not wait
    // for a consumer that begins now.
    if shared.is_closed() {
        return Ok(());
    }
    let options = SubscribeOptions::broadcast([]).with_prefetch(MOVES);
    let seat = Seat::new(shared, Role::Mover, &options);
    let group = shared.topics.names.delay_group();
    consume::begin(shared, &seat, names, Way::Group(group)).await?;
    tokio::spawn(run(seat));
    *is_started = true;
    Ok(())
}

async fn run(seat: Arc<Seat>) {
    let _leaves = KafkaSubscription::new(Arc::clone(&seat));
    loop {
        let mut due = Vec::new();
        let turn = poll_fn(|cx| match seat.take(MOVES, cx.waker(), &mut due) {
            Turn::Empty => Poll::Pending,
            turn => Poll::Ready(turn),
        });
        if matches!(turn.await, Turn::Ended) {
            return;
        }
        let Some(shared) = seat.shared.upgrade() else { return };
        forward(&shared, &seat, due).await;
    }
}

/// Puts events into their topics, in the order in which they are due; what fails is tried again.
async fn forward(shared: &Arc<Shared>, seat: &Seat, due: Vec<Entry>) {
    let deadline = Instant::now() + shared.clients.config.publish_timeout;
    let batch = Batch::of(due.len());
    let mut failed = Vec::new();
    for (index, entry) in due.iter().enumerate() {
        if let Err(cause) = enqueue(shared, seat, &batch, index, entry, deadline).await {
            failed.push((index, cause));
        }
    }
    failed.extend(batch.outcome(deadline).await);
    for (index, entry) in due.into_iter().enumerate() {
        let cause = failed.iter().find(|(at, _)| *at == index).map(|(_, cause)| cause);
        let settled = match cause {
            None => seat.complete(entry.seq),
            Some(cause) => {
                tracing::warn!(%cause, "a delayed event could not be moved yet");
                let until = Some(std::time::Instant::now() + AGAIN);
                let back = Back { attempts: 0, redeliveries: 0, is_written: false, until };
                seat.put_back(entry.seq, entry.event, back)
            }
        };
        if settled.is_err() {
            tracing::debug!("another process moves the delayed events of this partition now");
        }
    }
}

async fn enqueue(
    shared: &Arc<Shared>,
    seat: &Seat,
    batch: &Arc<Batch>,
    index: usize,
    entry: &Entry,
    deadline: Instant,
) -> Result<()> {
    let place = shared.place(entry.event.topic()).await?;
    let (extras, is_defective) = seat.raw(entry.seq)?;
    let mut draft = Draft::again(&entry.event, extras.as_ref(), is_defective)?;
    shared.clients.config.partition_strategy.settle(&mut draft, &place);
    shared.producer.enqueue(batch, index, &place.name, draft, deadline).await
}
