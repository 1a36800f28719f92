//! A live member of a queue, and the settling of what it was handed.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, Sleep};
use trunkline_core::{
    BrokerPosition, Delivery, Event, Result, Settle, Settling, Subscription, Verdict,
};

use crate::broker::{NAME, Shared};
use crate::queue::{Acked, Entry, MemberId, Queue, Turn};
use crate::{in_future, lock};

pub(crate) struct MemorySubscription {
    seat: Arc<Seat>,
    /// The number of a broadcast subscriber, whose queue goes with it.
    subscriber: Option<u64>,
    /// Runs until the first delayed event is due; made when the first one is seen.
    alarm: Option<Pin<Box<Sleep>>>,
    taken: Vec<Entry>,
}

/// A member's seat at its queue, shared by its deliveries.
struct Seat {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    member: MemberId,
    acked: Arc<Acked>,
}

impl MemorySubscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        subscriber: Option<u64>,
        prefetch: usize,
    ) -> Self {
        let (member, acked) = queue.join(prefetch);
        let seat = Arc::new(Seat { shared, queue, member, acked });
        Self { seat, subscriber, alarm: None, taken: Vec::new() }
    }

    fn deliver(&mut self, out: &mut Vec<Delivery>) {
        let seat = &self.seat;
        out.extend(self.taken.drain(..).map(|entry| {
            let handle: Arc<dyn Settle> = Arc::<Seat>::clone(seat);
            let Entry { event, seq, attempts, redeliveries } = entry;
            Delivery::new(event, handle, seq).with_counts(attempts, redeliveries)
        }));
    }

    /// Polls the alarm; ready when something is due by now.
    fn poll_alarm(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }
}

#[async_trait]
impl Subscription for MemorySubscription {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        loop {
            let seat = &self.seat;
            match seat.queue.take(seat.member, max, cx.waker(), &mut self.taken) {
                Turn::Taken => {
                    self.deliver(out);
                    return Poll::Ready(Ok(true));
                }
                Turn::Ended => return Poll::Ready(Ok(false)),
                Turn::Empty(None) => return Poll::Pending,
                Turn::Empty(Some(due)) => ready!(self.poll_alarm(cx, due)),
            }
        }
    }

    async fn close(self: Box<Self>, _deadline: Duration) -> Result<()> {
        // Settlements land as they are made; leaving is what dropping does.
        Ok(())
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.seat.queue.leave(self.seat.member);
        if let Some(id) = self.subscriber {
            let left = self.seat.shared.change_topology().remove_subscriber(id);
            if let Some(queue) = left {
                queue.end();
            }
        }
    }
}

impl Settle for Seat {
    fn settle(&self, token: u64, event: &Event, verdict: Verdict) -> Settling {
        let again = |attempts| {
            let redeliveries = 1;
            Entry { event: event.clone(), seq: token, attempts, redeliveries }
        };
        match verdict {
            Verdict::Ack => self.queue.ack(self.member, &self.acked, event),
            Verdict::Retry { after, attempts } if after.is_zero() => {
                self.queue.settle(self.member, event, Some(again(attempts)));
            }
            Verdict::Retry { after, attempts } => {
                self.queue.delay(self.member, again(attempts), in_future(after));
            }
            Verdict::Reject(letter) => {
                let place = self.shared.history.as_ref().map(|_| token);
                let kept = lock(&self.shared.letters).keep(&self.queue, event, place, *letter);
                if let Err(full) = kept {
                    return Settling::Ready(Err(full));
                }
                self.queue.settle(self.member, event, None);
            }
        }
        Settling::Ready(Ok(()))
    }

    fn release(&self, token: u64, event: Event, attempts: u32, redeliveries: u32) {
        let redeliveries = redeliveries + 1;
        let entry = Entry { event: event.clone(), seq: token, attempts, redeliveries };
        self.queue.settle(self.member, &event, Some(entry));
    }

    fn position(&self, token: u64) -> Option<BrokerPosition> {
        self.shared.history.as_ref().map(|_| BrokerPosition::new(NAME, token))
    }
}
