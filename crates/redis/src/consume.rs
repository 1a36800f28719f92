//! The two sides of a subscription: what polls for deliveries, and what settles them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use trunkline_core::{
    BrokerPosition, Delivery, Error, ErrorKind, Event, Result, Revocation, Settle, Settling,
    Subscription, Verdict,
};

use crate::book::Book;
use crate::entry::{Held, Out, PartitionId};
use crate::error::fenced;
use crate::lock;
use crate::names::Companions;
use crate::position::position_of;
use crate::settle::Settler;

/// What the subscription, its deliveries and its task share.
pub(crate) struct Desk {
    book: Mutex<Book>,
    /// The task has something to do.
    pub(crate) changed: Notify,
    closing: AtomicBool,
    /// What was settled before the close is on the server, and what was not handed out is given back.
    pub(crate) flushed: watch::Sender<bool>,
    /// How each partition is called on the server.
    partitions: Mutex<HashMap<PartitionId, Arc<Partition>>>,
    settler: Settler,
}

/// One partition as this member has it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) topic: trunkline_core::Topic,
    pub(crate) number: u32,
    pub(crate) stream: smol_str::SmolStr,
    pub(crate) companions: Companions,
    /// Proves the lease; empty where members share freely.
    pub(crate) token: String,
    /// What the server compares the lease with before it does anything for this member.
    pub(crate) fence: String,
}

impl Partition {
    /// The fencing number under which the partition was leased.
    pub(crate) fn first_fence(&self) -> Option<i64> {
        self.token.rsplit_once('|')?.1.parse().ok()
    }
}

impl Desk {
    pub(crate) fn new(book: Book, settler: Settler) -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::new(book),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
            flushed: watch::Sender::new(false),
            partitions: Mutex::default(),
            settler,
        })
    }

    /// Changes the book, and wakes whoever waits for what has become of it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut Book) -> R) -> R {
        let mut book = lock(&self.book);
        let result = change(&mut book);
        let is_wanted = book.is_ended() || book.load().ready > 0;
        let waker = if is_wanted { book.waker() } else { None };
        drop(book);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// As [`Desk::update`], by others than the task: it looks at the book afterwards.
    pub(crate) fn update_and_tell<R>(&self, change: impl FnOnce(&mut Book) -> R) -> R {
        let result = self.update(change);
        self.changed.notify_one();
        result
    }

    pub(crate) fn add_partition(&self, partition: Arc<Partition>) {
        lock(&self.partitions).insert(partition.id, partition);
    }

    pub(crate) fn remove_partition(&self, id: PartitionId) {
        lock(&self.partitions).remove(&id);
    }

    fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        lock(&self.partitions).get(&id).cloned()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Hands nothing out any more; the task gives back what is left.
    pub(crate) fn begin_close(&self) {
        self.closing.store(true, Ordering::Release);
        self.update_and_tell(|book| book.end(None));
    }

    /// Waits until what was settled before has landed.
    pub(crate) async fn wait_flushed(&self, deadline: Duration) -> Result<()> {
        let mut flushed = self.flushed.subscribe();
        let waiting = tokio::time::timeout(deadline, flushed.wait_for(|flushed| *flushed));
        match waiting.await {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = "the settlements did not reach the Redis server before the deadline: \
                               their events may be delivered again";
                Err(Error::new(ErrorKind::TimedOut, "close", message))
            }
        }
    }

    /// Ends a delivery that the server knows to be settled.
    pub(crate) fn finish(&self, token: u64, back: Option<Held>) {
        self.update_and_tell(|book| book.finish(token, back));
    }
}

/// The entry of a delivery that comes back.
pub(crate) fn held(out: &Out, event: Event, attempts: u32) -> Held {
    Held {
        event,
        place: out.place,
        seq: out.seq,
        attempts,
        redeliveries: out.redeliveries,
        defect: out.defect.as_ref().map(Error::duplicate),
        is_noted: out.is_noted,
        is_suspect: out.is_suspect,
    }
}

/// Deliveries hold it: a handle of their own, so that the desk itself needs no pointer to itself.
pub(crate) struct Handle(pub(crate) Arc<Desk>);

impl Settle for Handle {
    fn settle(&self, token: u64, event: &Event, verdict: Verdict) -> Settling {
        let desk = &self.0;
        let mut book = lock(&desk.book);
        if !book.is_owned(token) {
            return Settling::Ready(Err(fenced("settle")));
        }
        if matches!(verdict, Verdict::Ack) {
            let room = book.load().out;
            book.ack(token);
            let is_full = room >= book.prefetch();
            let waker = if is_full || book.load().ready > 0 { book.waker() } else { None };
            drop(book);
            if let Some(waker) = waker {
                waker.wake();
            }
            desk.changed.notify_one();
            return Settling::Ready(Ok(()));
        }
        let Some(out) = book.peek(token) else {
            return Settling::Ready(Err(fenced("settle")));
        };
        let back = held(out, event.clone(), 0);
        drop(book);
        let partition = desk.partition(back.place.partition);
        let desk = Arc::clone(desk);
        Settling::Waiting(Box::pin(async move {
            desk.settler.settle(&desk, token, back, partition, verdict).await
        }))
    }

    fn release(&self, token: u64, event: Event, attempts: u32, _redeliveries: u32) {
        let desk = &self.0;
        desk.update_and_tell(|book| {
            let back = book.peek(token).map(|out| held(out, event, attempts));
            book.finish(token, back)
        });
    }

    fn is_revoked(&self, token: u64) -> bool {
        !lock(&self.0.book).is_owned(token)
    }

    fn revoked(&self, token: u64) -> Option<Revocation> {
        let desk = Arc::clone(&self.0);
        Some(Box::pin(async move {
            loop {
                let owned = lock(&desk.book).owned_until(token);
                match owned {
                    None => return,
                    Some(Some(until)) => tokio::time::sleep_until(until).await,
                    // Without a lease nobody takes it away.
                    Some(None) => std::future::pending().await,
                }
            }
        }))
    }

    fn position(&self, token: u64) -> Option<BrokerPosition> {
        // What stands in a stream of retries or redriven letters waits there for its group alone.
        let place = lock(&self.0.book).peek(token)?.place;
        let partition = self.0.partition(place.partition).filter(|_| !place.is_retry)?;
        Some(position_of(place.id, &partition.stream))
    }
}

/// A live consumer; a task of its own reads for it.
pub(crate) struct RedisSubscription {
    desk: Arc<Desk>,
    handle: Arc<dyn Settle>,
}

impl RedisSubscription {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        let handle = Arc::new(Handle(Arc::clone(&desk)));
        Self { desk, handle }
    }
}

#[async_trait]
impl Subscription for RedisSubscription {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        let mut book = lock(&self.desk.book);
        if book.is_ended() {
            return Poll::Ready(book.take_failure().map_or(Ok(false), Err));
        }
        let handle = &self.handle;
        let taken = book.take(max, &mut |token, held| {
            let delivery = Delivery::new(held.event, Arc::clone(handle), token)
                .with_counts(held.attempts, held.redeliveries);
            out.push(match held.defect {
                Some(defect) => delivery.with_defect(defect),
                None => delivery,
            });
        });
        if taken > 0 {
            drop(book);
            self.desk.changed.notify_one();
            return Poll::Ready(Ok(true));
        }
        book.sleep(cx.waker());
        Poll::Pending
    }

    async fn close(self: Box<Self>, deadline: Duration) -> Result<()> {
        self.desk.begin_close();
        self.desk.wait_flushed(deadline).await
    }
}

impl Drop for RedisSubscription {
    fn drop(&mut self) {
        self.desk.begin_close();
    }
}
