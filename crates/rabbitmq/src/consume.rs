//! A live subscription: a member of a group, or a broadcast subscriber.

use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use trunkline_core::{
    Delivery, EventId, Group, Pattern, Result, Settle, SubscribeOptions, Subscription,
};

use crate::balance::{Slot, balance};
use crate::broker::Shared;
use crate::error::close_timed_out;
use crate::groups::warn_of_start;
use crate::inbox::Inbox;
use crate::lock;
use crate::log::Log;
use crate::queue::Runner;
use crate::registry::Attempts;
use crate::topology::{GroupRecord, QueueOf};

/// Who consumes.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    Member(Group, GroupRecord),
    /// A broadcast subscriber, by the last part of its queue's name.
    Listener(String),
}

/// What a subscription's deliveries share with its queues.
pub(crate) struct Seat {
    pub(crate) shared: Arc<Shared>,
    pub(crate) role: Role,
    pub(crate) topics: Vec<Pattern>,
    pub(crate) inbox: Mutex<Inbox>,
    /// Attempts of a broadcast subscriber, which nobody takes over from, and of a member where no log is
    /// to be declared.
    pub(crate) attempts: Mutex<Attempts>,
    pub(crate) me: Weak<Seat>,
}

impl Seat {
    pub(crate) fn group(&self) -> Option<&Group> {
        match &self.role {
            Role::Member(group, _) => Some(group),
            Role::Listener(_) => None,
        }
    }

    /// Where the next owner of its queues finds attempts, if there is such a place.
    pub(crate) fn attempts_log(&self) -> Option<Arc<Log<Attempts>>> {
        let group = self.group().filter(|_| self.shared.topology.has_own())?;
        Some(self.shared.attempts_of(group))
    }

    /// Changes the inbox, and wakes who waits for it when the lock is gone.
    pub(crate) fn with_inbox(&self, change: impl FnOnce(&mut Inbox) -> Option<Waker>) {
        let waker = change(&mut lock(&self.inbox));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Declares what the subscription takes from, again.
    pub(crate) async fn declare(&self) -> Result<()> {
        match &self.role {
            Role::Member(group, record) => {
                let known = self.shared.registry.read(|known| known.groups.get(group).cloned());
                self.shared.restore_group(group, &known.unwrap_or_else(|| record.clone())).await
            }
            Role::Listener(id) => {
                self.shared.declare_base().await?;
                declare_listener(&self.shared, id, &self.topics).await
            }
        }
    }
}

async fn declare_listener(shared: &Shared, id: &str, topics: &[Pattern]) -> Result<()> {
    let channel = shared.control_channel("declare").await?;
    let declared = shared.topology.declare_broadcast(&channel, id, topics).await;
    shared.leave(channel).await;
    declared
}

/// How a subscription is to end: at the latest then, or when the last delivery is settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    pub(crate) deadline: Option<Instant>,
}

/// How often a process that stood still looks whether the server still knows it.
pub(crate) const STALE_LOOK: Duration = Duration::from_millis(20);

/// A live subscription at RabbitMQ.
pub(crate) struct RabbitMqSubscription {
    seat: Arc<Seat>,
    leave: watch::Sender<Option<Leave>>,
    /// Whether everything landed.
    left: Option<oneshot::Receiver<bool>>,
}

impl RabbitMqSubscription {
    pub(crate) async fn open(shared: &Arc<Shared>, options: SubscribeOptions) -> Result<Self> {
        let (role, queues) = match &options.group {
            Some(group) => join(shared, group, &options).await?,
            None => {
                let id = EventId::generate().to_string();
                declare_listener(shared, &id, &options.topics).await?;
                let name = shared.topology.names.broadcast_queue(&id);
                (Role::Listener(id), vec![QueueOf { name, urgency: 0 }])
            }
        };
        let seat = Arc::new_cyclic(|me| Seat {
            shared: Arc::clone(shared),
            role,
            topics: options.topics,
            inbox: Mutex::new(Inbox::new(options.prefetch)),
            attempts: Mutex::default(),
            me: Weak::clone(me),
        });
        shared.seat(&seat);
        let (leave, leaving) = watch::channel(None);
        let (done, left) = oneshot::channel();
        let member =
            Member { seat: Arc::clone(&seat), queues, prefetch: options.prefetch, leaving };
        let (counted, is_counted) = oneshot::channel();
        tokio::spawn(member.run(done, counted));
        let subscription = Self { seat, leave, left: Some(left) };
        // Ended by being dropped: then the member is counted, or has left again.
        drop(timeout(shared.config.connect_timeout, is_counted).await);
        // A broker that was closed meanwhile has not seen this one.
        shared.check_open("subscribe")?;
        Ok(subscription)
    }
}

async fn join(
    shared: &Arc<Shared>,
    group: &Group,
    options: &SubscribeOptions,
) -> Result<(Role, Vec<QueueOf>)> {
    let is_new = !shared.registry.read(|known| known.groups.contains_key(group));
    let wanted = shared.group_record(options.topics.clone(), options.order, options.lanes);
    let record = shared.ensure_group(group, wanted).await?;
    if is_new {
        warn_of_start(group, &options.start);
    }
    let queues = shared.topology.queues(group, &record);
    Ok((Role::Member(group.clone(), record), queues))
}

#[async_trait]
impl Subscription for RabbitMqSubscription {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        if !self.seat.shared.consume_link.is_fresh() {
            // What is here may be another member's by now: first the server is asked.
            let waker = cx.waker().clone();
            tokio::spawn(async move {
                tokio::time::sleep(STALE_LOOK).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        let mut inbox = lock(&self.seat.inbox);
        let before = out.len();
        while out.len() - before < max && !inbox.is_ended() {
            let Some((token, entry)) = inbox.take() else { break };
            let handle: Arc<dyn Settle> = Arc::<Seat>::clone(&self.seat);
            let delivery = Delivery::new(entry.event, handle, token)
                .with_counts(entry.attempts, entry.redeliveries);
            out.push(match entry.defect {
                Some(defect) => delivery.with_defect(defect),
                None => delivery,
            });
        }
        if out.len() > before { Poll::Ready(Ok(true)) } else { inbox.wait(cx).map(Ok) }
    }

    async fn close(mut self: Box<Self>, deadline: Duration) -> Result<()> {
        // What is out past the deadline stays this member's until it is settled or dropped.
        self.leave.send_replace(Some(Leave { deadline: None }));
        let Some(left) = self.left.take() else { return Ok(()) };
        match timeout(deadline, left).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(close_timed_out()),
        }
    }
}

impl Drop for RabbitMqSubscription {
    fn drop(&mut self) {
        // What is out may still be settled; then the channels close.
        self.leave.send_if_modified(|leave| {
            let is_first = leave.is_none();
            leave.get_or_insert(Leave { deadline: None });
            is_first
        });
    }
}

/// The task of a subscription: it keeps its queues, and leaves with them.
struct Member {
    seat: Arc<Seat>,
    queues: Vec<QueueOf>,
    prefetch: usize,
    leaving: watch::Receiver<Option<Leave>>,
}

impl Member {
    async fn run(self, done: oneshot::Sender<bool>, counted: oneshot::Sender<()>) {
        let Self { seat, queues, prefetch, mut leaving } = self;
        // Told to the broker's close, which waits for every subscription.
        let attending = seat.shared.attend();
        if let Err(error) = gather(&seat, &queues, prefetch).await {
            tracing::debug!(%error, "what waits in lanes is not known");
        }
        // Each queue gets the whole: events may all be in one, and what is out is counted here.
        let share = u16::try_from(prefetch).unwrap_or(u16::MAX);
        let (end, ending) = watch::channel(None);
        let mut runners = JoinSet::new();
        let mut slots = Vec::new();
        for queue in queues {
            let slot = Arc::new(Slot::new(queue));
            slots.push(Arc::clone(&slot));
            let runner = Runner::new(Arc::clone(&seat), slot, share, ending.clone());
            runners.spawn(runner.run());
        }
        runners.spawn(stop_gathering(Arc::clone(&seat), ending.clone()));
        runners.spawn(balance(Arc::clone(&seat), slots, ending, counted));
        let leave = until_leaving(&seat, &mut leaving).await;
        seat.with_inbox(Inbox::end);
        end.send_replace(Some(leave));
        let mut all_landed = true;
        while let Some(landed) = runners.join_next().await {
            all_landed &= landed.unwrap_or(false);
        }
        drop(attending);
        if done.send(all_landed).is_err() {
            tracing::trace!("the subscription was dropped and not closed");
        }
    }
}

/// Waits until the subscription or its broker is to close.
async fn until_leaving(seat: &Seat, leaving: &mut watch::Receiver<Option<Leave>>) -> Leave {
    let mut closing = seat.shared.closing();
    let closed = async {
        match closing.wait_for(Option::is_some).await {
            Ok(deadline) => Leave { deadline: *deadline },
            Err(_) => Leave { deadline: None },
        }
    };
    let left = async {
        match leaving.wait_for(Option::is_some).await {
            Ok(leave) => leave.unwrap_or(Leave { deadline: None }),
            Err(_) => Leave { deadline: None },
        }
    };
    tokio::select! {
        leave = left => leave,
        leave = closed => leave,
    }
}

/// How long less urgent events wait at the beginning for more urgent ones, which another member may
/// have: some round trips.
const GATHERING: Duration = Duration::from_millis(300);

/// Holds deliveries back until what waits in the lanes has come, so that the most urgent goes first.
async fn gather(seat: &Arc<Seat>, queues: &[QueueOf], prefetch: usize) -> Result<()> {
    let has_lanes = matches!(&seat.role, Role::Member(_, record) if record.lanes);
    if !has_lanes {
        return Ok(());
    }
    let mut waiting = 0;
    let names = queues.iter().map(|queue| queue.name.clone()).collect();
    for (ready, _) in seat.shared.ask_all(names).await? {
        waiting += usize::try_from(ready).unwrap_or(usize::MAX).min(prefetch);
    }
    lock(&seat.inbox).gather(waiting);
    Ok(())
}

async fn stop_gathering(seat: Arc<Seat>, mut ending: watch::Receiver<Option<Leave>>) -> bool {
    let ended = ending.wait_for(Option::is_some);
    if timeout(GATHERING, ended).await.is_err() {
        seat.with_inbox(Inbox::stop_gathering);
    }
    true
}
