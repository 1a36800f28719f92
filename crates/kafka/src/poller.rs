//! The thread of one consumer: it polls, commits, pauses and resumes, and nobody else does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::oneshot;
use trunkline_core::Result;

use crate::client::{Clients, REQUEST};
use crate::codec::{self, Record};
use crate::error;
use crate::note::Note;
use crate::part::Source;
use crate::seat::Seat;
use crate::track::Track;
use crate::watch::{COMMIT, Native, Watch, commit};

/// How long a poll waits at most, and so how late an order or a commit is.
pub(crate) const POLL: Duration = Duration::from_millis(25);
/// How many records are taken in at a time.
const BATCH: usize = 256;
/// How long to wait before a consumer that cannot go on is made again.
const RECREATE: Duration = Duration::from_millis(500);

/// Where a broadcast subscriber begins: the partitions that were there when it subscribed.
pub(crate) type Start = Vec<(String, i32, i64)>;

/// How a consumer gets its partitions.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// From its group, of this id.
    Group(String),
    /// All of them, from these offsets; those of topics made later from their beginning.
    Assigned(String, Start),
}

/// Starts the thread; ready when the consumer is made and has said what it consumes.
pub(crate) async fn start(seat: Arc<Seat>, clients: Clients, way: Way) -> Result<()> {
    let (ready, is_ready) = oneshot::channel();
    let thread = std::thread::Builder::new().name("trunkline-kafka".to_owned());
    let spawned = thread.spawn(move || {
        let poller = Poller::new(Arc::clone(&seat), clients, way);
        poller.run(ready);
        seat.finish();
    });
    let failed = |cause: std::io::Error| {
        trunkline_core::Error::new(
            trunkline_core::ErrorKind::Backend,
            "subscribe",
            "no thread could be started for the consumer",
        )
        .because(cause)
    };
    spawned.map_err(failed)?;
    is_ready.await.map_err(|_stopped| error::closed("subscribe"))?
}

/// The polling thread of one consumer.
pub(crate) struct Poller {
    pub(crate) seat: Arc<Seat>,
    pub(crate) clients: Clients,
    pub(crate) way: Way,
    pub(crate) last_commit: Instant,
    pub(crate) next_hold_check: Instant,
    /// Since when there has been no room.
    pub(crate) full_since: Option<Instant>,
    pub(crate) is_paused: bool,
}

/// Why the loop of a consumer ended.
enum End {
    Stopped,
    /// The consumer cannot go on; another one can.
    Broken,
}

impl Poller {
    fn new(seat: Arc<Seat>, clients: Clients, way: Way) -> Self {
        let now = Instant::now();
        Self {
            seat,
            clients,
            way,
            last_commit: now,
            next_hold_check: now,
            full_since: None,
            is_paused: false,
        }
    }

    fn run(mut self, ready: oneshot::Sender<Result<()>>) {
        let consumer = match self.create() {
            Ok(consumer) => consumer,
            Err(cause) => {
                // Nobody waits for a subscription that was given up.
                let _given_up = ready.send(Err(cause));
                return;
            }
        };
        if ready.send(Ok(())).is_err() {
            return;
        }
        let mut current = Some(consumer);
        loop {
            let Some(consumer) = current.take().or_else(|| self.recreate()) else {
                if self.seat.is_stopping() {
                    return;
                }
                self.seat.wait(RECREATE);
                continue;
            };
            let end = self.poll(&consumer);
            // The last reference, on this thread: its drop drains, commits and leaves the group.
            drop(consumer);
            match end {
                End::Stopped => return,
                End::Broken => tracing::warn!("the Kafka consumer is made anew"),
            }
        }
    }

    fn recreate(&mut self) -> Option<Native> {
        match self.create() {
            Ok(consumer) => Some(consumer),
            Err(cause) => {
                tracing::warn!(%cause, "the Kafka consumer could not be made");
                None
            }
        }
    }

    fn create(&mut self) -> Result<Native> {
        let (Way::Group(group) | Way::Assigned(group, _)) = &self.way;
        let watch = Watch::new(&self.seat, &self.clients);
        let client = self.clients.consumer(group);
        let consumer: Native = client.create_with_context(watch).map_err(error::settings)?;
        match &self.way {
            Way::Group(_) => subscribe(&consumer, &self.seat.topics()),
            Way::Assigned(_, start) => self.assign(&consumer, start),
        }
        .map_err(|cause| error::request("subscribe", cause))?;
        Ok(consumer)
    }

    /// Takes partitions where the subscriber left them, or where it begins.
    fn assign(&self, consumer: &Native, start: &Start) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (name, partition, offset) in start {
            let Some(source) = self.seat.source(name) else { continue };
            let mut desk = self.seat.desk();
            let left = desk.standing(name, *partition).map(|standing| standing.mark);
            let offset = left.unwrap_or(*offset);
            desk.assign(&source, *partition, Track::new(offset, Note::default()), None);
            drop(desk);
            list.add_partition_offset(name, *partition, Offset::Offset(offset))?;
        }
        consumer.assign(&list)
    }

    fn poll(&mut self, consumer: &Native) -> End {
        loop {
            self.seat.go_round();
            let orders = self.seat.orders();
            if let Some(names) = orders.topics
                && let Err(cause) = self.change_topics(consumer, &names)
            {
                tracing::warn!(%cause, "topics could not be added to a subscription");
            }
            if let Some(by) = orders.stop {
                self.leave(consumer, by);
                return End::Stopped;
            }
            let wait = self.tend(consumer);
            if !self.make_room(consumer) {
                continue;
            }
            match self.read(consumer, wait) {
                Some(KafkaError::MessageConsumptionFatal(_)) => return End::Broken,
                Some(cause) => self.note(&cause),
                None => {}
            }
        }
    }

    /// What polling says goes by itself: servers come back, topics too.
    fn note(&self, cause: &KafkaError) {
        self.clients.link.note(cause);
        let code = cause.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PollExceeded) {
            self.clients.link.miss_poll();
            self.seat.throw_out();
            tracing::warn!("the consumer was not polled in time and has lost its partitions");
        } else {
            tracing::debug!(%cause, "polling Kafka");
        }
    }

    fn change_topics(&mut self, consumer: &Native, names: &[String]) -> KafkaResult<()> {
        let Way::Assigned(_, start) = &mut self.way else { return subscribe(consumer, names) };
        let new = names.iter().filter(|name| !start.iter().any(|(known, ..)| known == *name));
        let new: Vec<&String> = new.collect();
        for name in new {
            if let Err(cause) = add_topic(consumer, &self.seat, name, start) {
                tracing::debug!(%cause, name, "a topic is taken when it is found again");
                self.seat.forget_topic(name);
            }
        }
        Ok(())
    }

    /// Reads what is there, or waits for the first record.
    fn read(&self, consumer: &Native, wait: Duration) -> Option<KafkaError> {
        let mut batch: Vec<(Arc<Source>, i32, i64, Record)> = Vec::new();
        let (mut wait, mut failure) = (wait, None);
        while batch.len() < BATCH {
            match consumer.poll(wait) {
                None => break,
                Some(Err(cause)) => {
                    failure = Some(cause);
                    break;
                }
                Some(Ok(message)) => {
                    let known = batch.last().map(|(source, ..)| Arc::clone(source));
                    let known = known.filter(|source| source.name == message.topic());
                    let source = known.or_else(|| self.seat.source(message.topic()));
                    let Some(source) = source else { break };
                    let record = codec::read(&message, &source.topic);
                    batch.push((source, message.partition(), message.offset(), record));
                }
            }
            wait = Duration::ZERO;
        }
        if !batch.is_empty() {
            if self.clients.link.is_lost() {
                self.clients.link.heard();
            }
            let mut desk = self.seat.desk();
            for (source, partition, offset, record) in batch {
                desk.arrive(&source, partition, offset, record);
            }
            let waker = desk.wake();
            drop(desk);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        failure
    }

    /// Gets ready to be dropped.
    fn leave(&mut self, consumer: &Native, by: Instant) {
        if let Way::Assigned(..) = self.way {
            self.drain_all(consumer, by);
            return;
        }
        let watch = consumer.context();
        *crate::lock(&watch.leave_by) = Some(by);
        // A member that leaves while it joins would be waited for by the others as a dead one is: it
        // joins first.
        let joined_by = Instant::now() + self.clients.config.session_timeout;
        while !watch.has_joined.load(Ordering::Acquire)
            && Instant::now() < joined_by
            && !self.clients.link.is_lost()
        {
            self.serve(consumer);
        }
        if !watch.no_drain {
            self.drain_all(consumer, by);
        }
        // While it is leaving, it no longer follows the generations of its group, and what it commits
        // then may be refused.
        let is_settled = self.commit_last(consumer, by);
        watch.is_settled.store(is_settled, Ordering::Release);
    }

    /// Goes round once without reading: for rebalances, and for commits that settlements wait for.
    fn serve(&mut self, consumer: &Native) {
        self.seat.go_round();
        let wait = self.tend(consumer);
        if let Some(Err(cause)) = consumer.poll(wait) {
            self.note(&cause);
        }
    }

    /// Waits until nothing is out. Another member, or another start of this subscriber, would otherwise
    /// begin with what a handler here still has.
    fn drain_all(&mut self, consumer: &Native, by: Instant) {
        while self.seat.desk().out_count() > 0 && Instant::now() < by {
            self.serve(consumer);
        }
    }

    /// Commits all there is while this is a member still; says whether that went well.
    fn commit_last(&mut self, consumer: &Native, by: Instant) -> bool {
        let by = by.max(Instant::now() + COMMIT);
        while !consumer.assignment_lost() && Instant::now() < by {
            let commits = self.seat.desk().all();
            if commits.is_empty() || commit(consumer, &commits, CommitMode::Sync).is_ok() {
                return true;
            }
            self.serve(consumer);
        }
        false
    }
}

fn subscribe(consumer: &Native, names: &[String]) -> KafkaResult<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    consumer.subscribe(&names)
}

/// Adds a topic made later to what a broadcast subscriber takes, from its beginning.
fn add_topic(consumer: &Native, seat: &Seat, name: &str, start: &mut Start) -> KafkaResult<()> {
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let metadata = consumer.fetch_metadata(Some(name), REQUEST)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let Some(source) = seat.source(name).filter(|_| partitions > 0) else { return Err(unknown) };
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(name, partition, Offset::Offset(0))?;
    }
    consumer.incremental_assign(&list)?;
    for partition in 0..partitions {
        seat.desk().assign(&source, partition, Track::new(0, Note::default()), None);
        start.push((name.to_owned(), partition, 0));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
