//! Members share a group's queues fairly, without a leader.
//!
//! Every member consumes every queue, of which the server gives each to one; and all consume a queue
//! that never holds anything, whose consumers are the members. Who has more than its share hands some
//! over; the next in the server's line gets them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};
use trunkline_core::Result;

use crate::consume::{Leave, Role, Seat};
use crate::error::{disconnected, driver};
use crate::lock;
use crate::tap::Tap;
use crate::topology::{PASSIVE, QueueOf};

/// How often a member looks whether it has more than its share.
const LOOK: Duration = Duration::from_millis(250);
/// How long a queue is kept that came back soon after it was handed over; doubled with each return, so
/// that a member that is counted and takes nothing makes no queue bounce for ever.
const KEPT: Duration = Duration::from_secs(5);
const LONGEST_KEPT: Duration = Duration::from_secs(320);
const ANSWER: Duration = Duration::from_secs(5);

/// A queue of a subscription, and whether it is this member's at the moment.
pub(crate) struct Slot {
    pub(crate) queue: QueueOf,
    /// Asked for by the balance, done by the queue's task.
    pub(crate) hand_over: Notify,
    state: Mutex<SlotState>,
}

struct SlotState {
    tap: Option<Arc<Tap>>,
    /// Since when deliveries come from it; absent while they do not.
    owned: Option<Instant>,
    handed_over: Option<Instant>,
    kept_until: Option<Instant>,
    penalty: Duration,
}

impl Slot {
    pub(crate) fn new(queue: QueueOf) -> Self {
        let state = SlotState {
            tap: None,
            owned: None,
            handed_over: None,
            kept_until: None,
            penalty: KEPT,
        };
        Self { queue, hand_over: Notify::new(), state: Mutex::new(state) }
    }

    /// Notes the channel that takes from it.
    pub(crate) fn attach(&self, tap: &Arc<Tap>) {
        lock(&self.state).tap = Some(Arc::clone(tap));
    }

    /// Whether something of it is out: it can be handed over only when that has ended.
    fn is_busy(&self) -> bool {
        lock(&self.state).tap.as_ref().is_some_and(|tap| tap.is_busy())
    }

    /// Notes a delivery.
    pub(crate) fn own(&self) {
        let mut state = lock(&self.state);
        if state.owned.is_some() {
            return;
        }
        let now = Instant::now();
        state.owned = Some(now);
        let back_soon = state.handed_over.is_some_and(|then| now - then < KEPT);
        if back_soon {
            state.kept_until = Some(now + state.penalty);
            state.penalty = (state.penalty * 2).min(LONGEST_KEPT);
        } else {
            state.kept_until = None;
            state.penalty = KEPT;
        }
    }

    /// Notes that the channel is gone; `handed_over` when on purpose.
    pub(crate) fn disown(&self, handed_over: bool) {
        let mut state = lock(&self.state);
        state.owned = None;
        state.tap = None;
        if handed_over {
            state.handed_over = Some(Instant::now());
        }
    }

    fn owned(&self) -> Option<Instant> {
        lock(&self.state).owned
    }

    fn may_go(&self, now: Instant) -> bool {
        lock(&self.state).kept_until.is_none_or(|until| until <= now)
    }
}

/// A member's place in the queue that counts members.
struct Presence {
    seat: Arc<Seat>,
    open: Option<(Channel, Consumer)>,
}

impl Presence {
    fn queue(&self) -> Option<ShortString> {
        match &self.seat.role {
            Role::Member(group, _) if self.seat.shared.topology.owns(group) => {
                Some(self.seat.shared.topology.names.members(group))
            }
            _ => None,
        }
    }

    /// Takes the place, or the place again.
    async fn attend(&mut self, queue: &ShortString) -> Result<()> {
        if self.open.as_ref().is_some_and(|(channel, _)| channel.status().connected()) {
            return Ok(());
        }
        self.open = None;
        let shared = &self.seat.shared;
        let within = Instant::now() + shared.config.connect_timeout;
        let channel = shared.consume_link.live(within, "join").await?.channel("join").await?;
        let consuming = channel.basic_consume(
            queue.clone(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        match consuming.await {
            Ok(consumer) => {
                self.open = Some((channel, consumer));
                Ok(())
            }
            Err(cause) => {
                self.seat.shared.leave(channel).await;
                Err(driver("join", cause))
            }
        }
    }

    /// How many members there are.
    async fn count(&mut self, queue: &ShortString) -> Result<usize> {
        const OPERATION: &str = "count members";
        self.attend(queue).await?;
        let Some((channel, _)) = &self.open else { return Ok(1) };
        let options: QueueDeclareOptions = PASSIVE;
        let asking = channel.queue_declare(queue.clone(), options, FieldTable::default());
        match timeout(ANSWER, asking).await {
            Ok(told) => {
                let told = told.map_err(|cause| driver(OPERATION, cause))?;
                Ok(usize::try_from(told.consumer_count()).unwrap_or(usize::MAX))
            }
            Err(_) => Err(disconnected(OPERATION, "the members' queue does not answer")),
        }
    }
}

/// Keeps the member counted and its share fair, until the subscription ends.
pub(crate) async fn balance(
    seat: Arc<Seat>,
    slots: Vec<Arc<Slot>>,
    mut ending: watch::Receiver<Option<Leave>>,
    counted: oneshot::Sender<()>,
) -> bool {
    let mut presence = Presence { seat: Arc::clone(&seat), open: None };
    let Some(queue) = presence.queue() else { return true };
    let mut counted = Some(counted);
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let is_shared = matches!(&seat.role, Role::Member(_, record) if record.shared);
    loop {
        tokio::select! {
            biased;
            _ = ending.wait_for(Option::is_some) => break,
            _ = tick.tick() => {}
        }
        if let Err(error) = presence.attend(&queue).await {
            tracing::debug!(%error, "the member is not counted");
            continue;
        }
        // Whoever subscribes waits for this.
        drop(counted.take());
        // What is shared freely has no owner.
        if !is_shared {
            keep_share_fair(&mut presence, &queue, &slots).await;
        }
    }
    if let Some((channel, _consumer)) = presence.open.take() {
        seat.shared.leave(channel).await;
    }
    true
}

/// Hands over what is more than this member's share.
async fn keep_share_fair(presence: &mut Presence, queue: &ShortString, slots: &[Arc<Slot>]) {
    // One queue is nobody's surplus.
    if slots.iter().filter(|slot| slot.owned().is_some()).count() < 2 {
        return;
    }
    match presence.count(queue).await {
        Ok(members) => hand_over_surplus(slots, slots.len().div_ceil(members.max(1))),
        Err(error) => tracing::debug!(%error, "the members are not counted"),
    }
}

/// Hands over what is more than `share`: what is idle first, then what was owned longest.
fn hand_over_surplus(slots: &[Arc<Slot>], share: usize) {
    let now = Instant::now();
    let place = |slot: &Arc<Slot>| Some((slot.is_busy(), slot.owned()?));
    let mut owned: Vec<((bool, Instant), &Arc<Slot>)> =
        slots.iter().filter_map(|slot| Some((place(slot)?, slot))).collect();
    let surplus = owned.len().saturating_sub(share);
    owned.sort_by_key(|(place, _)| *place);
    let may_go = owned.into_iter().filter(|(_, slot)| slot.may_go(now));
    for (_, slot) in may_go.take(surplus) {
        slot.hand_over.notify_one();
    }
}
