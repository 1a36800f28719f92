//! A subscription's seat: shared by the thread that polls Kafka, the subscriber, and its deliveries.

mod fence;
mod given_back;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use trunkline_core::{Event, Group, Pattern, Result, SubscribeOptions, Topic};

use crate::broker::Shared;
use crate::codec::Extras;
use crate::desk::{Desk, Turn};
use crate::lock;
use crate::mutant::Mutations;
use crate::part::{Back, Source};
use crate::queue::Entry;

pub(crate) use fence::Drained;

/// The topic of what is read from a topic of ours before its header says better.
const OF_OURS: Topic = Topic::from_static("trunkline");

/// What the polling thread is to do.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// The topics to consume have changed: physical names, all of them.
    pub(crate) topics: Option<Vec<String>>,
    /// Leave, and wait so long at most for deliveries that are out.
    pub(crate) stop: Option<Instant>,
}

/// Whose seat it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Member(Group),
    /// A broadcast subscriber, known by a number of its own.
    Broadcast(String),
    /// Puts delayed events into their topics.
    Mover,
}

pub(crate) struct Seat {
    pub(crate) shared: Weak<Shared>,
    pub(crate) role: Role,
    pub(crate) patterns: Mutex<Vec<Pattern>>,
    desk: Mutex<Desk>,
    /// Told when a delivery is settled or there is an order.
    changed: Condvar,
    /// The polling thread waits for settlements; set under the desk's lock. To tell nobody would be a
    /// call of the kernel for each event.
    is_waiting: AtomicBool,
    orders: Mutex<Orders>,
    sources: Mutex<HashMap<String, Arc<Source>>>,
    /// The topics that are consumed, by physical name.
    topics: Mutex<Vec<String>>,
    /// The polling thread has ended.
    pub(crate) is_over: AtomicBool,
    over: tokio::sync::Notify,
    /// Told when a commit was made that somebody waits for.
    pub(crate) committed: tokio::sync::Notify,
    assigned: tokio::sync::Notify,
    /// Told when partitions have gone.
    revoked: tokio::sync::Notify,
    pub(crate) lane_window: Option<usize>,
    window: usize,
    /// When the polling thread last went round.
    last_round: Mutex<Instant>,
    /// The process has stood still so long that the group may have gone on without it: nothing is
    /// settled until a commit has shown that it has not, or the partitions are gone.
    is_suspect: AtomicBool,
    is_draining: AtomicBool,
    is_thrown_out: AtomicBool,
    suspicion: Duration,
}

impl Seat {
    pub(crate) fn new(shared: &Arc<Shared>, role: Role, options: &SubscribeOptions) -> Arc<Self> {
        let config = &shared.clients.config;
        let lane_window = options.lanes.then_some(config.lane_window);
        let group = match &role {
            Role::Member(group) => Some(group.clone()),
            Role::Broadcast(_) | Role::Mover => None,
        };
        let desk = Desk::new(options.prefetch, lane_window, group, Mutations::of(config));
        // Enough to hide a hand-over behind a fetch, and small beside the client's own buffers.
        let window = lane_window.unwrap_or((2 * options.prefetch).max(512));
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            role,
            patterns: Mutex::new(options.topics.clone()),
            desk: Mutex::new(desk),
            changed: Condvar::new(),
            is_waiting: AtomicBool::new(false),
            orders: Mutex::default(),
            sources: Mutex::default(),
            topics: Mutex::default(),
            is_over: AtomicBool::new(false),
            over: tokio::sync::Notify::new(),
            committed: tokio::sync::Notify::new(),
            assigned: tokio::sync::Notify::new(),
            revoked: tokio::sync::Notify::new(),
            lane_window,
            window,
            last_round: Mutex::new(Instant::now()),
            is_suspect: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_thrown_out: AtomicBool::new(false),
            suspicion: config.session_timeout / 2,
        })
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// The topic of a physical name, numbered.
    pub(crate) fn source(&self, name: &str) -> Option<Arc<Source>> {
        let mut sources = lock(&self.sources);
        if let Some(source) = sources.get(name) {
            return Some(Arc::clone(source));
        }
        let shared = self.shared.upgrade()?;
        let topic = shared.topics.names.parse(name).unwrap_or(OF_OURS);
        let id = u32::try_from(sources.len()).unwrap_or(u32::MAX);
        let source = Arc::new(Source { id, name: name.to_owned(), topic });
        sources.insert(name.to_owned(), Arc::clone(&source));
        Some(source)
    }

    /// Where a partition begins of which the group has committed nothing.
    pub(crate) fn start_of(&self, name: &str, partition: i32) -> i64 {
        let (Role::Member(group), Some(shared)) = (&self.role, self.shared.upgrade()) else {
            return 0;
        };
        shared.registry.start_of(group, name, partition)
    }

    /// Whether as much has been read ahead as is good.
    pub(crate) fn is_full(&self) -> bool {
        self.desk().queue.len() >= self.window
    }

    pub(crate) fn has_room(&self) -> bool {
        self.desk().queue.len() <= self.window / 2
    }

    /// Waits until there is room or something is ordered, at most so long. Settlements do not end it:
    /// the thread would be woken for each, and find no more room than before.
    pub(crate) fn wait(&self, limit: Duration) {
        drop(self.changed.wait_timeout(self.desk(), limit));
    }

    /// Waits until something is settled.
    fn wait_on<'a>(&self, desk: MutexGuard<'a, Desk>, limit: Duration) -> MutexGuard<'a, Desk> {
        self.is_waiting.store(true, Ordering::Release);
        let waited = self.changed.wait_timeout(desk, limit);
        self.is_waiting.store(false, Ordering::Release);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes the subscriber, and the polling thread if it waits for settlements. What they are told of
    /// was changed under the desk's lock.
    pub(crate) fn tell(&self, waker: Option<Waker>) {
        if self.is_waiting.load(Ordering::Acquire) {
            self.changed.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn orders(&self) -> Orders {
        std::mem::take(&mut *lock(&self.orders))
    }

    pub(crate) fn has_orders(&self) -> bool {
        let orders = lock(&self.orders);
        orders.stop.is_some() || orders.topics.is_some()
    }

    /// Whether it is to leave.
    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.orders).stop.is_some()
    }

    /// Forgets a topic that could not be taken: it is found again by the next look for topics.
    pub(crate) fn forget_topic(&self, name: &str) {
        lock(&self.topics).retain(|known| known != name);
    }

    /// Adds topics to what is consumed; says whether any was new.
    pub(crate) fn add_topics(&self, names: impl IntoIterator<Item = String>) -> bool {
        let mut topics = lock(&self.topics);
        let before = topics.len();
        for name in names {
            if !topics.contains(&name) {
                topics.push(name);
            }
        }
        let has_new = topics.len() > before;
        if has_new {
            lock(&self.orders).topics = Some(topics.clone());
        }
        drop(topics);
        if has_new {
            self.changed.notify_all();
        }
        has_new
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        lock(&self.topics).clone()
    }

    pub(crate) fn takes(&self, topic: &Topic) -> bool {
        lock(&self.patterns).iter().any(|pattern| pattern.matches(topic))
    }

    pub(crate) fn has_wildcard(&self) -> bool {
        lock(&self.patterns).iter().any(|pattern| pattern.exact().is_none())
    }

    /// Has the polling thread leave; deliveries that are out are waited for until `deadline`.
    pub(crate) fn stop(&self, deadline: Instant) {
        let mut orders = lock(&self.orders);
        let earlier = orders.stop.map_or(deadline, |known| known.min(deadline));
        orders.stop = Some(earlier);
        drop(orders);
        self.changed.notify_all();
    }

    /// Ends the subscription: its subscriber gets nothing any more.
    pub(crate) fn end(&self) {
        let mut desk = self.desk();
        desk.end();
        let waker = desk.wake();
        drop(desk);
        self.tell(waker);
        self.assigned.notify_waiters();
    }

    /// The polling thread has let everything go.
    pub(crate) fn finish(&self) {
        self.end();
        self.is_over.store(true, Ordering::Release);
        self.over.notify_waiters();
        self.committed.notify_waiters();
        self.revoked.notify_waiters();
    }

    /// Waits until partitions are here, but not for long: there may be none for this member, or others
    /// give them up only when their handlers have finished.
    pub(crate) async fn settle_in(&self, limit: Duration) {
        let here = async {
            loop {
                let mut told = std::pin::pin!(self.assigned.notified());
                told.as_mut().enable();
                let has_parts = self.desk().parts().next().is_some();
                if has_parts || !self.is_live() {
                    return;
                }
                told.await;
            }
        };
        if tokio::time::timeout(limit, here).await.is_err() {
            tracing::debug!("the member has no partition yet");
        }
    }

    /// Partitions have come.
    pub(crate) fn tell_assigned(&self) {
        self.is_thrown_out.store(false, Ordering::Release);
        self.assigned.notify_waiters();
    }

    /// Whether it is neither closed nor closing.
    pub(crate) fn is_live(&self) -> bool {
        !self.desk().has_ended
    }

    /// Delivers an event that is in no log; `false` when there is nobody to take it.
    pub(crate) fn offer(&self, event: Event) -> bool {
        let mut desk = self.desk();
        let is_taken = !desk.has_ended && desk.offer(event);
        let waker = desk.wake();
        drop(desk);
        self.tell(waker);
        is_taken
    }

    /// Waits until the polling thread has ended.
    pub(crate) async fn finished(&self) {
        loop {
            let told = self.over.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn take(&self, max: usize, waker: &Waker, taken: &mut Vec<Entry>) -> Turn {
        let mut desk = self.desk();
        let before = desk.queue.len();
        let turn = desk.take(max, waker, taken);
        let after = desk.queue.len();
        drop(desk);
        // Woken for each event, the polling thread would read one at a time.
        if before > self.window / 2 && after <= self.window / 2 {
            self.changed.notify_all();
        }
        turn
    }

    pub(crate) fn complete(&self, token: u64) -> Result<()> {
        let mut desk = self.desk();
        let outcome = desk.complete(token);
        // With nothing to hand out there is nothing to wake for.
        let waker = if desk.queue.len() > 0 { desk.wake() } else { None };
        drop(desk);
        self.tell(waker);
        outcome
    }

    /// Completes a delivery that lives on as a copy, and waits until the next owner knows: it would
    /// deliver the original again, without the attempts that were written to the copy.
    pub(crate) async fn replace(&self, token: u64) -> Result<()> {
        self.complete(token)?;
        let wanted = self.want_commit();
        self.made(wanted).await;
        Ok(())
    }

    /// Waits for a commit that was wanted.
    async fn made(&self, wanted: u64) {
        loop {
            let mut told = std::pin::pin!(self.committed.notified());
            told.as_mut().enable();
            if self.desk().commits_made >= wanted || self.is_over.load(Ordering::Acquire) {
                return;
            }
            told.await;
        }
    }

    fn want_commit(&self) -> u64 {
        let mut desk = self.desk();
        desk.commits_wanted += 1;
        let wanted = desk.commits_wanted;
        drop(desk);
        self.changed.notify_all();
        wanted
    }
}
