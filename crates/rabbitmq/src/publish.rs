//! Publishing: a batch becomes jobs of the confirm channels, one at a time for each key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use lapin::types::ShortString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{
    Audience, BatchResult, Error, ErrorKind, Event, PublishOptions, Publishing, Result, RetryClass,
};

use crate::broker::Shared;
use crate::codec::{Message, add_headers, encode};
use crate::config::{ExchangeType, RabbitMqConfig, SLOTS};
use crate::delay::walk;
use crate::error::{closed, disconnected, no_confirm, refused, unroutable};
use crate::job::{Failed, Job, Outcome};
use crate::lane::Lane;
use crate::link::Link;
use crate::lock;
use crate::mutant::Mutant;
use crate::names::{DUE, TOPIC, short};
use crate::repair::behind;
use crate::topology::Topology;

/// The confirm channels of a broker.
pub(crate) struct Publisher {
    lanes: Vec<mpsc::Sender<Job>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    closing: watch::Sender<bool>,
    /// Spreads what has no key over slots and channels.
    round: AtomicU32,
}

impl Publisher {
    pub(crate) fn start(
        config: &Arc<RabbitMqConfig>,
        link: &Arc<Link>,
        topology: &Arc<Topology>,
        stuck: &mpsc::UnboundedSender<ShortString>,
        channels: usize,
    ) -> Self {
        let (closing, close) = watch::channel(false);
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..channels {
            let (sender, inbox) = mpsc::channel(config.confirm_window);
            let lane = Lane::new(
                Arc::clone(config),
                Arc::clone(link),
                Arc::clone(topology),
                inbox,
                close.clone(),
                stuck.clone(),
            );
            lanes.push(sender);
            tasks.push(tokio::spawn(lane.run()));
        }
        Self { lanes, tasks: std::sync::Mutex::new(tasks), closing, round: AtomicU32::new(0) }
    }

    pub(crate) fn next_round(&self) -> u32 {
        self.round.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a job to the channel of its key, and waits for its outcome.
    async fn submit(
        &self,
        channel: u64,
        deadline: Instant,
        job: Job,
        outcome: oneshot::Receiver<Outcome>,
    ) -> Outcome {
        let count = self.lanes.len() as u64;
        let lane = &self.lanes[usize::try_from(channel % count).unwrap_or_default()];
        match timeout_at(deadline, lane.send(job)).await {
            Ok(Ok(())) => outcome.await.unwrap_or(Err(Failed::Closed)),
            Ok(Err(_)) => Err(Failed::Closed),
            Err(_) => Err(Failed::Disconnected),
        }
    }

    /// Publishes one message of our own.
    pub(crate) async fn send(
        &self,
        exchange: ShortString,
        routing_key: ShortString,
        message: Message,
        timeout: Duration,
    ) -> Outcome {
        let deadline = Instant::now() + timeout;
        let (job, outcome) = Job::new(exchange, routing_key, message, deadline);
        self.submit(0, deadline, job, outcome).await
    }

    /// Refuses what comes from now on and waits for what was taken; false when the deadline passed.
    pub(crate) async fn close(&self, deadline: Instant, flush: bool) -> bool {
        self.closing.send_replace(true);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        let mut is_flushed = true;
        for mut task in tasks {
            if !flush || timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                is_flushed = false;
            }
        }
        is_flushed || !flush
    }
}

pub(crate) fn publish<'a>(
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    let checked = shared.check_open("publish").and_then(|()| shared.check_publish(options));
    if let Err(error) = checked {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    if events.is_empty() {
        return Publishing::Ready(BatchResult::accepted());
    }
    // Before it is known whether the broker is being closed, which then waits for this publish.
    let begun = shared.begin_publish();
    if let Err(error) = shared.check_open("publish") {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    Publishing::waiting(async move {
        let result = run(shared, events, options).await;
        drop(begun);
        result
    })
}

async fn run(shared: &Arc<Shared>, events: &[Event], options: &PublishOptions) -> BatchResult {
    if let Err(error) = prepare(shared, options).await {
        return BatchResult::failed(events.len(), &error);
    }
    let timeout = options.timeout.unwrap_or(shared.config.publish_timeout);
    let batch = Batch { shared, events, options, deadline: Instant::now() + timeout };
    batch.run().await
}

/// What has to exist before the first event goes out.
async fn prepare(shared: &Arc<Shared>, options: &PublishOptions) -> Result<()> {
    if let Some(delay) = options.delay.filter(|delay| !delay.is_zero()) {
        let rung = walk(delay, 't', "any")?.rung;
        shared.ensure_ladder(rung).await?;
    }
    let exchange = options.wire.as_ref().and_then(|wire| wire.exchange.as_ref());
    match exchange {
        Some(name) => shared.ensure_exchange(name).await,
        None => Ok(()),
    }
}

struct Batch<'a> {
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
    deadline: Instant,
}

impl Batch<'_> {
    async fn run(&self) -> BatchResult {
        let mut result = BatchResult::accepted();
        let mut jobs: Vec<Option<Message>> = Vec::with_capacity(self.events.len());
        for (at, event) in self.events.iter().enumerate() {
            let encoded = match self.is_aborted(&result, event) {
                true => Err(Error::aborted()),
                false => self.encode(event),
            };
            match encoded {
                Ok(message) => jobs.push(Some(message)),
                Err(error) => {
                    jobs.push(None);
                    result.fail(at, error);
                }
            }
        }
        if let ([event], [Some(_)]) = (self.events, jobs.as_slice()) {
            let message = jobs.pop().flatten();
            if let Some(message) = message
                && let Err(failed) = self.send(event, message).await
            {
                result.fail(0, self.error(event, failed));
            }
            return result;
        }
        self.send_all(jobs, &mut result).await;
        result
    }

    fn is_aborted(&self, result: &BatchResult, event: &Event) -> bool {
        !result.is_ok() && result.aborts(event, self.events)
    }

    /// Keyless events go at once, and of each key one at a time: of a key nothing is on its way while
    /// the outcome of an earlier one is open, so that nothing can overtake it.
    async fn send_all(&self, mut jobs: Vec<Option<Message>>, result: &mut BatchResult) {
        let next = self.followers(&jobs);
        let mut running = FuturesUnordered::new();
        let start = |at: usize, message: Message| {
            let event = &self.events[at];
            async move { (at, self.send(event, message).await) }
        };
        for (at, is_first) in next.is_first.iter().enumerate() {
            if *is_first && let Some(message) = jobs[at].take() {
                running.push(start(at, message));
            }
        }
        while let Some((at, outcome)) = running.next().await {
            let mut follower = next.after[at];
            if let Err(failed) = outcome {
                result.fail(at, self.error(&self.events[at], failed));
                while let Some(at) = follower.take() {
                    result.fail(at, Error::aborted());
                    follower = next.after[at];
                }
                continue;
            }
            if let Some(at) = follower
                && let Some(message) = jobs[at].take()
            {
                running.push(start(at, message));
            }
        }
    }

    fn followers(&self, jobs: &[Option<Message>]) -> Followers {
        let mut last: HashMap<u64, usize> = HashMap::new();
        let mut next =
            Followers { is_first: vec![true; jobs.len()], after: vec![None; jobs.len()] };
        for (at, event) in self.events.iter().enumerate() {
            let (Some(lane), Some(_)) = (event.attributes().lane(), &jobs[at]) else { continue };
            if let Some(before) = last.insert(lane, at) {
                next.after[before] = Some(at);
                next.is_first[at] = false;
            }
        }
        next
    }

    fn encode(&self, event: &Event) -> Result<Message> {
        let limit = self.shared.config.max_event_bytes;
        let bytes = event.data()?.as_slice().len();
        if bytes > limit {
            return Err(Error::too_large(bytes, limit));
        }
        let slot = self.shared.publisher.next_round() % SLOTS;
        let mut message = encode(event, slot)?;
        if self.shared.config.mode == ContentMode::Structured {
            message = message.structured(event)?;
        }
        let is_moved = self.options.delay.is_some()
            || self.options.wire.as_ref().is_some_and(|wire| wire.routing_key.is_some())
            || self.shared.config.exchange_type == ExchangeType::Headers;
        if is_moved {
            message = message.header(TOPIC, event.topic().as_str());
        }
        if let Some(wire) = &self.options.wire {
            add_headers(&mut message, wire)?;
        }
        Ok(message)
    }

    /// Publishes one event. That nobody takes a topic of a known group means that its queues have
    /// vanished: they are made again.
    async fn send(&self, event: &Event, message: Message) -> Outcome {
        let outcome = self.send_once(event, message.clone()).await;
        let wire = self.options.wire.as_ref();
        let is_ours = wire.is_none_or(|w| w.exchange.is_none() && w.routing_key.is_none());
        if outcome != Err(Failed::Unroutable) || !is_ours {
            return outcome;
        }
        let groups = behind(self.shared, event.topic().as_str());
        if groups.is_empty() {
            return outcome;
        }
        for (group, record) in groups {
            if let Err(error) = self.shared.restore_group(&group, &record).await {
                tracing::warn!(%error, %group, "a group that has vanished cannot be made again");
            }
        }
        self.send_once(event, message).await
    }

    async fn send_once(&self, event: &Event, message: Message) -> Outcome {
        let Ok((exchange, routing_key, message)) = self.place(event, message) else {
            return Err(Failed::Unroutable);
        };
        let publisher = &self.shared.publisher;
        let channel = match event.attributes().lane() {
            Some(lane) => lane,
            None => u64::from(publisher.next_round()),
        };
        let (mut job, outcome) = Job::new(exchange, routing_key, message, self.deadline);
        if self.options.audience == Audience::BroadcastOnly {
            job = job.optional();
        }
        publisher.submit(channel, self.deadline, job, outcome).await
    }

    /// Exchange and routing key of an event.
    fn place(
        &self,
        event: &Event,
        message: Message,
    ) -> Result<(ShortString, ShortString, Message)> {
        let names = &self.shared.topology.names;
        let only = self.options.audience == Audience::BroadcastOnly;
        if let Some(delay) = self.options.delay.filter(|delay| !delay.is_zero()) {
            let kind = if only { 'b' } else { 't' };
            return delayed(self.shared, delay, kind, event.topic().as_str(), message);
        }
        let wire = self.options.wire.as_deref();
        let exchange = match wire.and_then(|wire| wire.exchange.as_ref()) {
            Some(exchange) => short(exchange.as_str())?,
            None if only => names.broadcast_only(),
            None => names.exchange.clone(),
        };
        let routing_key = match wire.and_then(|wire| wire.routing_key.as_ref()) {
            Some(key) => short(key.as_str())?,
            None => short(event.topic().as_str())?,
        };
        Ok((exchange, routing_key, message))
    }

    fn error(&self, event: &Event, failed: Failed) -> Error {
        let address = self.shared.config.address();
        match failed {
            Failed::Unroutable => unroutable(event.topic()),
            failed => failure("publish", failed, &address),
        }
    }
}

/// Which events of a batch wait for which.
struct Followers {
    is_first: Vec<bool>,
    after: Vec<Option<usize>>,
}

/// Exchange and routing key of a message that is to wait, and when it is due where it waits longer
/// than one walk of the ladder takes.
pub(crate) fn delayed(
    shared: &Shared,
    delay: Duration,
    kind: char,
    address: &str,
    mut message: Message,
) -> Result<(ShortString, ShortString, Message)> {
    let walk = walk(delay, kind, address)?;
    if !walk.left.is_zero() {
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let due = Timestamp::now().as_millisecond().saturating_add(millis);
        message = message.header(DUE, due.to_string());
    }
    Ok((shared.topology.names.delay(walk.rung), walk.routing_key, message))
}

/// The error of an internal publish.
pub(crate) fn failure(operation: &'static str, failed: Failed, address: &str) -> Error {
    match failed {
        Failed::Refused => refused(),
        Failed::NoConfirm => no_confirm(address),
        Failed::Disconnected => disconnected(operation, address),
        Failed::Closed => closed(operation),
        Failed::Unroutable => {
            let message = "an exchange or queue of the broker's own is gone: try again";
            Error::new(ErrorKind::Backend, operation, message).with_retry(RetryClass::Transient)
        }
    }
}

impl Shared {
    pub(crate) fn is_flushing(&self) -> bool {
        !Mutant::NoFlushOnClose.is_on(&self.config)
    }
}
