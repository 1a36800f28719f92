//! The task of one queue of a subscription: a channel of its own, and how it is left.
//!
//! A queue is handed over by closing its channel: what is not acknowledged goes back to the front, in
//! order, before the next member gets anything. `basic.cancel` would let the next member begin while
//! this one still handles, and give back newer events first.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use lapin::message::Delivery as Message;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trunkline_core::{ErrorKind, Result};

use crate::balance::Slot;
use crate::codec::{Received, decode, text_of};
use crate::consume::{Leave, Role, Seat};
use crate::error::{disconnected, driver};
use crate::inbox::Entry;
use crate::link::{Live, jittered};
use crate::lock;
use crate::mutant::Mutant;
use crate::names::PROBE;
use crate::registry::{Registry, event_key};
use crate::tap::{LINGER, Tap};
use crate::topology::PASSIVE;

/// How long the server may take to answer before the channel is left to itself.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Between looks whether somebody has made a queue that is theirs.
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// How often a queue that is quiet is asked whether it has a consumer.
const CHECK: Duration = Duration::from_secs(3);
/// How much is received before acknowledgements have their turn.
const BURST: usize = 256;

/// How the work on a channel ended.
enum End {
    /// Everything landed, or not.
    Left(bool),
    HandedOver,
    /// The channel or the connection is gone.
    Lost,
    /// The queue is gone, or was never there.
    Vanished,
}

pub(crate) struct Open {
    pub(crate) channel: Channel,
    pub(crate) consumer: Consumer,
    pub(crate) tap: Arc<Tap>,
    /// Whether attempts that others have written are known.
    synced: bool,
    /// How often the group had been made again by then.
    restored: u64,
}

pub(crate) struct Runner {
    pub(crate) seat: Arc<Seat>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) prefetch: u16,
    pub(crate) ending: watch::Receiver<Option<Leave>>,
}

impl Runner {
    pub(crate) fn new(
        seat: Arc<Seat>,
        slot: Arc<Slot>,
        prefetch: u16,
        ending: watch::Receiver<Option<Leave>>,
    ) -> Self {
        Self { seat, slot, prefetch, ending }
    }

    /// Takes from the queue until the subscription ends; true when everything landed.
    pub(crate) async fn run(mut self) -> bool {
        loop {
            let mut ending = self.ending.clone();
            let waiting = self.seat.shared.consume_link.live_again();
            let live = tokio::select! {
                _ = until_ending(&mut ending) => None,
                live = waiting => live,
            };
            let Some(live) = live else { return self.forget_queue().await };
            // Not dropped half way: a consumer that nobody knows of would take events for ever.
            let opened = self.open(&live).await;
            let end = match opened {
                Ok(open) => self.serve(open).await,
                Err(error) if error.kind() == ErrorKind::NotFound => End::Vanished,
                Err(error) => {
                    tracing::debug!(%error, queue = %self.slot.queue.name, "a queue is not open");
                    tokio::time::sleep(jittered(PAUSE)).await;
                    continue;
                }
            };
            self.slot.disown(matches!(end, End::HandedOver));
            match end {
                End::Left(landed) => return self.forget_queue().await && landed,
                End::HandedOver => {}
                End::Lost => tokio::time::sleep(jittered(PAUSE)).await,
                End::Vanished if self.is_ours() => self.declare().await,
                End::Vanished => self.wait_for_queue().await,
            }
        }
    }

    fn is_ours(&self) -> bool {
        self.seat.group().is_none_or(|group| self.seat.shared.topology.owns(group))
    }

    async fn wait_for_queue(&self) {
        let queue = &self.slot.queue.name;
        tracing::warn!(%queue, "a queue is gone that is not ours to declare: waiting for it");
        tokio::time::sleep(jittered(LONG_PAUSE)).await;
    }

    async fn declare(&self) {
        tracing::warn!(
            queue = %self.slot.queue.name,
            "a queue has vanished, with what was in it, and is declared again"
        );
        if let Err(error) = self.seat.declare().await {
            tracing::debug!(%error, "a queue cannot be declared");
            tokio::time::sleep(jittered(PAUSE)).await;
        }
    }

    async fn open(&self, live: &Live) -> Result<Open> {
        const OPERATION: &str = "consume";
        let wrong = |cause| driver(OPERATION, cause);
        let restored = self.restored();
        let channel = live.channel(OPERATION).await?;
        let qos = channel.basic_qos(self.prefetch, BasicQosOptions::default());
        let name = self.slot.queue.name.clone();
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let opening = async {
            qos.await.map_err(wrong)?;
            let consuming = channel.basic_consume(name, tag, options, FieldTable::default());
            consuming.await.map_err(wrong)
        };
        let opened = match timeout(ANSWER, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(disconnected(OPERATION, &self.seat.shared.config.address())),
        };
        match opened {
            Ok(consumer) => {
                // A wish from before belongs to the channel from before.
                let _stale = self.slot.hand_over.notified().now_or_never();
                let queue = self.slot.queue.name.clone();
                let tap = Tap::new(live.clone(), channel.clone(), queue, self.prefetch);
                let tap = Arc::new(tap);
                self.slot.attach(&tap);
                Ok(Open { channel, consumer, tap, synced: false, restored })
            }
            Err(error) => {
                self.seat.shared.leave(channel).await;
                Err(error)
            }
        }
    }

    async fn serve(&mut self, mut open: Open) -> End {
        let slot = Arc::clone(&self.slot);
        let mut ending = self.ending.clone();
        let mut flush_at: Option<Instant> = None;
        let mut check = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_quiet = true;
        let mut restored = self.seat.shared.registry.read(|known| known.restored.subscribe());
        restored.mark_changed();
        loop {
            let timer = async {
                match flush_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                leave = until_ending(&mut ending) => {
                    let deadline = leave.and_then(|leave| leave.deadline);
                    return End::Left(self.drain(open, deadline).await);
                }
                () = slot.hand_over.notified() => {
                    let landed = self.drain(open, None).await;
                    return if landed { End::HandedOver } else { End::Lost };
                }
                Ok(()) = restored.changed() => {
                    if self.restored() != open.restored {
                        return self.lose(open).await;
                    }
                }
                () = open.tap.wake.notified() => {}
                () = timer => {}
                _ = check.tick() => {
                    if is_quiet && !self.is_attached(&open).await {
                        return self.lose(open).await;
                    }
                    is_quiet = true;
                }
                next = open.consumer.next() => match next {
                    Some(Ok(message)) => {
                        is_quiet = false;
                        if !self.receive(&mut open, message).await {
                            return self.lose(open).await;
                        }
                    }
                    // We never cancel: the queue is gone, or its leader.
                    None if open.channel.status().connected() => {
                        self.lose(open).await;
                        return End::Vanished;
                    }
                    Some(Err(_)) | None => return self.lose(open).await,
                },
            }
            if !self.pass_acks(&open, &mut flush_at).await {
                return self.lose(open).await;
            }
        }
    }

    /// Sends acknowledgements when they are worth it or have waited long enough; false when the channel is
    /// gone.
    async fn pass_acks(&self, open: &Open, flush_at: &mut Option<Instant>) -> bool {
        let (is_some, is_worth) = open.tap.due();
        let landing = open.tap.take_landing();
        let now = Instant::now();
        let is_late = flush_at.is_some_and(|at| at <= now);
        if is_some && !is_worth && !is_late && landing.is_empty() {
            flush_at.get_or_insert(now + LINGER);
        } else if is_some || !landing.is_empty() {
            if self.send_acks(&open.tap, &open.channel, landing).await.is_err() {
                return false;
            }
            *flush_at = open.tap.due().0.then(|| Instant::now() + LINGER);
        }
        true
    }

    /// How often the group was made again.
    ///
    /// The server moves a consumer of a queue that is deleted and soon made again to the new one by
    /// itself, and its channel then drops what the new queue sends under numbers that the old one had
    /// used. So every member begins anew.
    fn restored(&self) -> u64 {
        let Some(group) = self.seat.group() else { return 0 };
        let count = |known: &Registry| known.restored.borrow().get(group).copied();
        self.seat.shared.registry.read(count).unwrap_or_default()
    }

    /// Whether the queue has a consumer, this one or another that is served before it.
    ///
    /// A queue that is deleted and at once made again can have none, with nobody told.
    async fn is_attached(&self, open: &Open) -> bool {
        let name = self.slot.queue.name.clone();
        let asking = open.channel.queue_declare(name, PASSIVE, FieldTable::default());
        match timeout(ANSWER, asking).await {
            Ok(Ok(told)) => told.consumer_count() > 0,
            _ => false,
        }
    }

    /// Gives everything back that the channel brought.
    async fn lose(&self, open: Open) -> End {
        open.tap.die();
        self.seat.with_inbox(|inbox| inbox.forget(&open.tap));
        // Before the consumer is dropped, which would cancel it.
        self.seat.shared.leave(open.channel).await;
        drop(open.consumer);
        End::Lost
    }

    /// Takes a delivery, and what has come with it. False when the channel is of no use any more.
    async fn receive(&self, open: &mut Open, first: Message) -> bool {
        self.slot.own();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(message) = next.take() {
            let Some(entry) = self.read(open, message).await else { return false };
            if let Some(entry) = entry {
                let urgency = self.slot.queue.urgency;
                self.seat.with_inbox(|inbox| inbox.push(urgency, entry));
            }
            count += 1;
            if count < BURST
                && let Some(Some(Ok(message))) = open.consumer.next().now_or_never()
            {
                next = Some(message);
            }
        }
        true
    }

    /// None when the channel is of no use any more; nothing within for what is not for the subscriber.
    async fn read(&self, open: &mut Open, mut message: Message) -> Option<Option<Entry>> {
        let tag = message.delivery_tag;
        open.tap.receive(tag);
        let headers = message.properties.headers().as_ref();
        let is_probe = headers.is_some_and(|headers| text_of(headers, PROBE).is_some());
        let is_redelivered = message.redelivered;
        let received = decode(&mut message);
        if is_probe || !self.is_wanted(&received) {
            open.tap.ack(tag);
            return Some(None);
        }
        if let Some(due) = received.due.filter(|due| *due > Timestamp::now()) {
            return self.wait_on(open, tag, &received, due).await.then_some(None);
        }
        if Mutant::AckEarly.is_on(&self.seat.shared.config) {
            open.tap.ack(tag);
        }
        let Received { event, defect, mut attempts, redeliveries, copy, .. } = received;
        if is_redelivered {
            attempts = attempts.max(self.written_attempts(open, &event_key(&event, &copy)).await?);
        }
        let tap = Arc::clone(&open.tap);
        Some(Some(Entry { event, defect, attempts, redeliveries, copy, tap, tag }))
    }

    /// An exchange that does not look at topics hands over what nobody here asked for. What is in a
    /// queue of others was bound there on purpose.
    fn is_wanted(&self, received: &Received) -> bool {
        let topology = &self.seat.shared.topology;
        !(self.is_ours() && topology.filters())
            || self.seat.topics.iter().any(|topic| topic.matches(received.event.topic()))
    }

    /// Sends an event on that has a longer way to go than the ladder is high.
    async fn wait_on(&self, open: &Open, tag: u64, received: &Received, due: Timestamp) -> bool {
        let left = due.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        let seat = &self.seat;
        let copied = crate::codec::encode(&received.event, seat.shared.publisher.next_slot());
        let sent = match copied {
            Ok(message) => {
                let message = message
                    .header(crate::names::TOPIC, received.event.topic().as_str())
                    .header(crate::names::ATTEMPTS, received.attempts.to_string());
                seat.delay(&open.tap, left, message).await
            }
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => open.tap.ack(tag),
            Err(error) => {
                tracing::debug!(%error, "a delayed event cannot go on");
                false
            }
        }
    }

    /// What an earlier owner of the queue has written of an event; none when it cannot be read.
    async fn written_attempts(&self, open: &mut Open, event: &str) -> Option<u32> {
        let (Role::Member(_, record), Some(log)) = (&self.seat.role, self.seat.attempts_log())
        else {
            return Some(lock(&self.seat.attempts).of(event));
        };
        if !open.synced {
            if let Err(error) = log.sync_if_there().await {
                tracing::debug!(%error, "attempts cannot be read");
                return None;
            }
            // Members that share freely take over from each other at any time.
            open.synced = !record.shared;
        }
        Some(log.read(|attempts| attempts.of(event)))
    }
}

/// How to end, once the subscription is to; none when it is gone.
async fn until_ending(ending: &mut watch::Receiver<Option<Leave>>) -> Option<Leave> {
    ending.wait_for(Option::is_some).await.ok().and_then(|leave| *leave)
}
