//! Subscribing, and the subscription that its owner polls.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use trunkline_core::{
    Delivery, Error, ErrorKind, EventId, Group, GroupSpec, Pattern, Result, Settle, StartAt,
    SubscribeOptions, Subscription,
};

use crate::broker::Shared;
use crate::desk::Turn;
use crate::poller::{self, Start, Way};
use crate::position::{self, Spot};
use crate::queue::Entry;
use crate::seat::{Role, Seat};
use crate::settle::Handle;
use crate::topics::Purpose;
use crate::{delay, error};

/// How long a subscribe waits for its first partition.
const SETTLE_IN: Duration = Duration::from_secs(2);

pub(crate) async fn subscribe(
    shared: &Arc<Shared>,
    options: SubscribeOptions,
) -> Result<Box<dyn Subscription>> {
    let subscription = match options.group.clone() {
        Some(group) => join(shared, &group, options).await?,
        None => listen(shared, &options).await?,
    };
    delay::resume(shared).await?;
    // A close that began meanwhile has not seen it.
    shared.check_open("subscribe")?;
    Ok(Box::new(subscription))
}

/// Makes a group, or adds patterns to it, and what its members need.
pub(crate) async fn declare(shared: &Arc<Shared>, spec: &GroupSpec) -> Result<()> {
    Spot::check(&spec.start)?;
    let retry = shared.topics.names.retry(&spec.name);
    if shared.registry.group(&spec.name).is_none()
        && shared.topics.partitions(&retry).await?.is_none()
    {
        shared.topics.make(&[(retry, Purpose::Waiting)]).await?;
    }
    for topic in spec.topics.iter().filter_map(Pattern::exact) {
        shared.place(&topic).await?;
    }
    let is_changed = shared.registry.declare(&shared.topics, &shared.producer, spec).await?;
    if is_changed {
        shared.changed.notify_one();
    }
    Ok(())
}

async fn join(
    shared: &Arc<Shared>,
    group: &Group,
    mut options: SubscribeOptions,
) -> Result<KafkaSubscription> {
    let mut spec = GroupSpec::new(group.clone(), options.topics.iter().cloned());
    spec.start = options.start.clone();
    spec.lanes = options.lanes;
    declare(shared, &spec).await?;
    // What belongs to the group is the group's, whatever this member asks for.
    let gone = || error::closed("subscribe");
    let state = shared.registry.group(group).ok_or_else(gone)?;
    options.topics = state.patterns();
    options.lanes = state.record.lanes;
    let there = shared.topics.matching(&options.topics).await?;
    let mut names: Vec<String> = there.into_keys().collect();
    names.push(shared.topics.names.retry(group));
    let seat = Seat::new(shared, Role::Member(group.clone()), &options);
    // From here on a call that is dropped leaves the group again.
    let subscription = KafkaSubscription::new(Arc::clone(&seat));
    begin(shared, &seat, names, Way::Group(shared.topics.names.group(group))).await?;
    // Members that subscribe before work comes have their shares when it does.
    seat.settle_in(SETTLE_IN.min(shared.clients.config.session_timeout / 2)).await;
    Ok(subscription)
}

async fn listen(shared: &Arc<Shared>, options: &SubscribeOptions) -> Result<KafkaSubscription> {
    Spot::check(&options.start)?;
    for topic in options.topics.iter().filter_map(Pattern::exact) {
        shared.place(&topic).await?;
    }
    let start = match &options.start {
        StartAt::Beginning => &StartAt::Latest,
        start => start,
    };
    let seat = Seat::new(shared, Role::Broadcast(EventId::generate().to_string()), options);
    let subscription = KafkaSubscription::new(Arc::clone(&seat));
    // From here on topics made by this process are noticed.
    shared.add_seat(&seat);
    let limit = shared.clients.config.connect_timeout;
    let begins = position::beginnings(&shared.topics, &options.topics, start, limit).await?;
    let places = begins.iter().flat_map(|(name, offsets)| {
        (0..).zip(offsets).map(|(partition, offset)| (name.clone(), partition, *offset))
    });
    let start: Start = places.collect();
    seat.add_topics(begins.into_keys());
    poller::start(
        Arc::clone(&seat),
        shared.clients.clone(),
        Way::Assigned(shared.topics.names.broadcast(), start),
    )
    .await?;
    Ok(subscription)
}

/// Starts the consumer of a seat of a group.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    seat: &Arc<Seat>,
    names: Vec<String>,
    way: Way,
) -> Result<()> {
    shared.add_seat(seat);
    seat.add_topics(names);
    poller::start(Arc::clone(seat), shared.clients.clone(), way).await
}

/// Waits until a seat's thread has left.
pub(crate) async fn finished(seat: &Seat, limit: Duration) -> Result<()> {
    tokio::time::timeout(limit, seat.finished()).await.map_err(|_late| {
        let message = "the subscription has not left Kafka in time; it goes on leaving";
        Error::new(ErrorKind::TimedOut, "close", message)
    })
}

pub(crate) struct KafkaSubscription {
    handle: Arc<Handle>,
    taken: Vec<Entry>,
}

impl KafkaSubscription {
    pub(crate) fn new(seat: Arc<Seat>) -> Self {
        Self { handle: Arc::new(Handle(seat)), taken: Vec::new() }
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        match self.handle.0.take(max, cx.waker(), &mut self.taken) {
            Turn::Ended => return Poll::Ready(Ok(false)),
            Turn::Empty => return Poll::Pending,
            Turn::Taken => {}
        }
        out.extend(self.taken.drain(..).map(|entry| {
            let handle: Arc<dyn Settle> = Arc::<Handle>::clone(&self.handle);
            let Entry { event, seq, attempts, redeliveries, defect, .. } = entry;
            let delivery = Delivery::new(event, handle, seq).with_counts(attempts, redeliveries);
            match defect {
                Some(defect) => delivery.with_defect(defect),
                None => delivery,
            }
        }));
        Poll::Ready(Ok(true))
    }

    async fn close(self: Box<Self>, deadline: Duration) -> Result<()> {
        let seat = Arc::clone(&self.handle.0);
        seat.end();
        // What is left of the deadline is for leaving itself. Deliveries that are out beyond it are with
        // functions that cannot be cancelled: nobody else gets their keys before they return.
        seat.stop(Instant::now() + deadline.mul_f64(0.8).max(drain_of(&seat)));
        finished(&seat, deadline).await
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        let seat = &self.handle.0;
        seat.end();
        seat.stop(Instant::now() + drain_of(seat));
    }
}

/// How long a seat that leaves waits for deliveries that are out.
fn drain_of(seat: &Seat) -> Duration {
    seat.shared.upgrade().map_or(Duration::ZERO, |shared| shared.clients.config.drain_timeout)
}
