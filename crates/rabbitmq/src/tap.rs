//! One channel on one queue: which deliveries are out, and which acknowledgements are on their way.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use tokio::sync::{Notify, oneshot};

use crate::link::Live;
use crate::lock;

/// How long an acknowledgement may wait for others to go with it.
pub(crate) const LINGER: Duration = Duration::from_millis(2);

/// A channel that takes from a queue. When it is shut, what it brought goes back to the server.
#[derive(Default)]
pub(crate) struct Tap {
    book: Mutex<Book>,
    shut: AtomicBool,
    dead: AtomicBool,
    /// The queue it takes from.
    pub(crate) queue: ShortString,
    /// What it stands on; absent in tests.
    ground: Option<(Live, Channel)>,
    out: AtomicUsize,
    sent: AtomicUsize,
    /// Acknowledgements are worth sending, or the first of them has come.
    pub(crate) wake: Notify,
    /// Nothing is out any more.
    idle: Notify,
    /// The channel is gone.
    died: Notify,
    /// Who waits for an acknowledgement to land.
    landing: Mutex<Vec<oneshot::Sender<()>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ack {
    Fresh,
    /// It has waited once for those before it.
    Old,
    Sent,
}

#[derive(Default)]
struct Book {
    /// Settled tags above the floor.
    acks: BTreeMap<u64, Ack>,
    /// Every tag up to here is acknowledged.
    floor: u64,
    received: u64,
    unsent: usize,
    batch: usize,
}

impl Tap {
    pub(crate) fn new(live: Live, channel: Channel, queue: ShortString, prefetch: u16) -> Self {
        let tap = Self { ground: Some((live, channel)), queue, ..Self::default() };
        lock(&tap.book).batch = (usize::from(prefetch) / 4).clamp(1, 128);
        tap
    }

    pub(crate) fn receive(&self, tag: u64) {
        let mut book = lock(&self.book);
        book.received = book.received.max(tag);
    }

    /// Nothing more of it is handed out, and what is settled may still be acknowledged.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// The channel is gone, and no acknowledgement can land.
    pub(crate) fn die(&self) {
        self.shut();
        self.dead.store(true, Ordering::Release);
        self.idle.notify_waiters();
        self.died.notify_waiters();
        // They learn that it did not land.
        drop(self.take_landing());
    }

    pub(crate) fn is_dead(&self) -> bool {
        let is_gone =
            |(live, channel): &(Live, Channel)| !live.is_up() || !channel.status().connected();
        self.dead.load(Ordering::Acquire) || self.ground.as_ref().is_some_and(is_gone)
    }

    /// Waits until the channel is gone.
    pub(crate) async fn died(&self) {
        loop {
            let mut told = pin!(self.died.notified());
            told.as_mut().enable();
            if self.is_dead() {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn hand_out(&self) {
        self.out.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn take_back(&self) {
        if self.out.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Whether something of it is out.
    pub(crate) fn is_busy(&self) -> bool {
        self.out.load(Ordering::Acquire) > 0
    }

    /// Waits until nothing of it is out.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.out.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Notes an acknowledgement; false when it cannot land.
    pub(crate) fn ack(&self, tag: u64) -> bool {
        if self.is_dead() {
            return false;
        }
        let mut book = lock(&self.book);
        book.acks.insert(tag, Ack::Fresh);
        book.unsent += 1;
        let is_all = book.floor + book.acks.len() as u64 == book.received;
        let is_due = book.unsent == 1 || book.unsent >= book.batch || is_all;
        drop(book);
        if is_due {
            self.wake.notify_one();
        }
        true
    }

    /// Notes an acknowledgement and waits until the server has it; false when it cannot land.
    pub(crate) async fn ack_now(&self, tag: u64) -> bool {
        if !self.ack(tag) {
            return false;
        }
        // After the acknowledgement, so that who takes this sends that before or with it.
        let (landed, has_landed) = oneshot::channel();
        lock(&self.landing).push(landed);
        if self.dead.load(Ordering::Acquire) {
            return false;
        }
        self.wake.notify_one();
        has_landed.await.is_ok()
    }

    /// Who waits for what was settled by now to land.
    pub(crate) fn take_landing(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *lock(&self.landing))
    }

    /// Whether acknowledgements wait, and whether they are worth sending at once.
    pub(crate) fn due(&self) -> (bool, bool) {
        let book = lock(&self.book);
        let is_all = book.floor + book.acks.len() as u64 == book.received;
        (book.unsent > 0, book.unsent > 0 && (is_all || book.unsent >= book.batch))
    }

    /// How many acknowledgements wait.
    pub(crate) fn unsent(&self) -> usize {
        lock(&self.book).unsent
    }

    /// How many acknowledgements the channel has seen.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends what is settled: one for all without a gap below, and one each for those above that have
    /// waited before, or for all of them.
    pub(crate) async fn flush(&self, channel: &Channel, all: bool) -> lapin::Result<()> {
        let (many, single) = lock(&self.book).collect(all);
        self.sent.fetch_add(usize::from(many.is_some()) + single.len(), Ordering::Relaxed);
        if let Some(tag) = many {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        let one = |tag| channel.basic_ack(tag, BasicAckOptions::default());
        for sent in join_all(single.into_iter().map(one)).await {
            sent?;
        }
        Ok(())
    }
}

impl Book {
    fn collect(&mut self, all: bool) -> (Option<u64>, Vec<u64>) {
        let mut many = None;
        while let Some(ack) = self.acks.remove(&(self.floor + 1)) {
            self.floor += 1;
            // A tag that was acknowledged alone is unknown to the server, and would be an error.
            if ack != Ack::Sent {
                self.unsent -= 1;
                many = Some(self.floor);
            }
        }
        let mut single = Vec::new();
        for (tag, ack) in &mut self.acks {
            match ack {
                Ack::Fresh if !all => *ack = Ack::Old,
                Ack::Fresh | Ack::Old => {
                    *ack = Ack::Sent;
                    single.push(*tag);
                }
                Ack::Sent => {}
            }
        }
        self.unsent -= single.len();
        (many, single)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(tags: &[u64]) -> Book {
        let acks = tags.iter().map(|tag| (*tag, Ack::Fresh)).collect();
        Book { acks, unsent: tags.len(), received: 10, ..Book::default() }
    }

    #[test]
    fn what_has_no_gap_below_goes_as_one() {
        let mut book = book(&[1, 2, 3, 5]);
        assert_eq!(book.collect(false), (Some(3), vec![]));
        assert_eq!(book.collect(false), (None, vec![5]));
        assert_eq!((book.floor, book.unsent), (3, 0));
    }

    #[test]
    fn a_tag_that_was_acknowledged_alone_is_never_named_again() {
        let mut book = book(&[2, 3]);
        assert_eq!(book.collect(true), (None, vec![2, 3]));
        book.acks.insert(1, Ack::Fresh);
        book.unsent = 1;
        assert_eq!(book.collect(false), (Some(1), vec![]));
        assert_eq!(book.floor, 3);
    }
}
