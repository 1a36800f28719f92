//! The thread of one consumer: it polls, commits, pauses and resumes, and nobody else does.
//!
//! Offsets are committed as lists, with what is completed above them, and not by librdkafka's own store:
//! that commits an offset only when it grows, so that what is completed above a stuck event would never
//! be written. A commit is made only of partitions that this thread holds: before the group gives one to
//! another member, [`Watch::pre_rebalance`] has run here, on this thread, or the group has moved on
//! and its coordinator refuses what an old generation commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::oneshot;
use trunkline_core::Result;

use crate::client::{self, Clients, Link, REQUEST};
use crate::codec::{self, Record};
use crate::desk::{Commit, Source};
use crate::error;
use crate::note::Note;
use crate::seat::Seat;
use crate::topics::{Edge, Place32};
use crate::track::Track;

/// How long a poll waits at most, and so how late an order or a commit is.
const POLL: Duration = Duration::from_millis(25);
/// How many records are taken in at a time.
const BATCH: usize = 256;
/// How long handlers may take all there is before partitions are paused: a pause throws away what was
/// fetched, and rebalances wait as long as nothing is polled.
const STUCK: Duration = Duration::from_millis(200);
/// How often it is looked whether too much waits to be due.
const HOLD_CHECK: Duration = Duration::from_millis(100);
/// How long the urgent events of a backlog are looked for, at most.
const LOOK_AHEAD: Duration = Duration::from_secs(5);
/// How long the coordinator is asked for committed offsets: a rebalance waits for it.
const COMMITTED: Duration = Duration::from_secs(20);
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

type Native = BaseConsumer<Watch>;

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

/// What happens to the partitions of a consumer, told by librdkafka on the polling thread.
struct Watch {
    seat: Arc<Seat>,
    link: Arc<Link>,
    drain_timeout: Duration,
    no_drain: bool,
    /// The group has given it partitions once, perhaps none.
    has_joined: AtomicBool,
    /// Partitions came or went since it was last looked.
    is_rebalanced: AtomicBool,
    /// When leaving: how long deliveries that are out are waited for.
    leave_by: std::sync::Mutex<Option<Instant>>,
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, cause: KafkaError, _reason: &str) {
        self.link.note(&cause);
    }
}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, consumer: &Native, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assign(consumer, list),
            Rebalance::Revoke(list) => self.revoke(consumer, list),
            Rebalance::Error(cause) => tracing::warn!(%cause, "a rebalance failed"),
        }
        self.is_rebalanced.store(true, Ordering::Release);
    }

    fn post_rebalance(&self, consumer: &Native, rebalance: &Rebalance<'_>) {
        // A partition that was paused before it went is paused still when it comes back.
        if let Rebalance::Assign(list) = rebalance
            && list.count() > 0
            && let Err(cause) = consumer.resume(list)
        {
            tracing::warn!(%cause, "partitions that came could not be resumed");
        }
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.has_joined.store(true, Ordering::Release);
        }
    }

    fn commit_callback(&self, outcome: KafkaResult<()>, offsets: &TopicPartitionList) {
        let mut desk = self.seat.desk();
        for element in offsets.elements() {
            if outcome.is_err() || element.error().is_err() {
                desk.mark_dirty(element.topic(), element.partition());
            }
        }
    }
}

impl Watch {
    /// Learns where partitions begin, and what earlier owners completed above that.
    fn assign(&self, consumer: &Native, list: &TopicPartitionList) {
        if list.count() == 0 {
            return;
        }
        let committed = committed(consumer, list);
        let ends = self.ends(consumer, list);
        for mut element in list.elements() {
            let (name, partition) = (element.topic().to_owned(), element.partition());
            let track = match &committed {
                None => Track::unknown(),
                Some(known) => {
                    let known = known.get(&(name.clone(), partition));
                    let (offset, note) = match known {
                        Some((offset, text)) => (*offset, Note::read(*offset, text)),
                        None => (self.seat.start_of(&name, partition), Note::default()),
                    };
                    // It fails for no offset that is one.
                    drop(element.set_offset(Offset::Offset(offset)));
                    Track::new(offset, note)
                }
            };
            let Some(source) = self.seat.source(&name) else { continue };
            let ahead = ends.get(&(name, partition));
            let ahead = ahead.map(|end| (*end, Instant::now() + LOOK_AHEAD));
            self.seat.desk().assign(&source, partition, track, ahead);
        }
    }

    /// With lanes, where the logs end: what is urgent up to there is looked for first.
    fn ends(&self, consumer: &Native, list: &TopicPartitionList) -> HashMap<Place32, i64> {
        if self.seat.lane_window.is_none() {
            return HashMap::new();
        }
        let elements = list.elements().into_iter();
        let places = elements.map(|element| (element.topic().to_owned(), element.partition()));
        let places: Vec<Place32> = places.collect();
        let mut asked = TopicPartitionList::new();
        for (name, partition) in &places {
            if asked.add_partition_offset(name, *partition, Offset::End).is_err() {
                return HashMap::new();
            }
        }
        let answered = consumer.offsets_for_times(asked, REQUEST);
        let Ok(answered) = answered else { return HashMap::new() };
        let found = answered.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => {
                Some(((element.topic().to_owned(), element.partition()), offset))
            }
            _ => None,
        });
        found.collect()
    }

    /// Lets partitions go when what is out of them is settled, or the time for it is over.
    fn revoke(&self, consumer: &Native, list: &TopicPartitionList) {
        let places = list.elements().into_iter().filter_map(|element| {
            let source = self.seat.source(element.topic())?;
            Some((source.id, element.partition()))
        });
        let places: Vec<(u32, i32)> = places.collect();
        let ids = self.seat.desk().begin_revoke(&places);
        if ids.is_empty() {
            return;
        }
        let by = *crate::lock(&self.leave_by);
        let deadline = by.unwrap_or_else(|| Instant::now() + self.drain_timeout);
        let is_lost = consumer.assignment_lost();
        if !self.no_drain && !is_lost && !self.seat.drain(&ids, deadline) {
            eprintln!("NOT DRAINED"); tracing::warn!("partitions were given up with deliveries out: they are delivered again");
        }
        let commits = self.seat.desk().end_revoke(&ids);
        self.seat.tell(None);
        if is_lost || commits.is_empty() {
            return;
        }
        let committed = commit(consumer, &commits, CommitMode::Sync);
        if let Err(cause) = committed {
            eprintln!("COMMIT FAILED {cause}"); tracing::warn!(%cause, "what was settled last is delivered again");
        }
    }
}

type Committed = HashMap<Place32, (i64, String)>;

/// What the group has committed of partitions, and the metadata; `None` where the coordinator does not
/// say in time.
fn committed(consumer: &Native, list: &TopicPartitionList) -> Option<Committed> {
    let deadline = Instant::now() + COMMITTED;
    loop {
        match committed_now(consumer, list) {
            Ok(committed) => return Some(committed),
            Err(cause) if Instant::now() < deadline => {
                eprintln!("COMMITTED AGAIN {cause}"); tracing::debug!(%cause, "the committed offsets are asked for again");
                std::thread::sleep(POLL);
            }
            Err(cause) => {
                tracing::warn!(%cause, "committed offsets are not known: some events come again");
                return None;
            }
        }
    }
}

fn committed_now(consumer: &Native, list: &TopicPartitionList) -> KafkaResult<Committed> {
    let mut asked = TopicPartitionList::with_capacity(list.count());
    for element in list.elements() {
        asked.add_partition(element.topic(), element.partition());
    }
    let answered = consumer.committed_offsets(asked, REQUEST)?;
    let mut found = HashMap::new();
    for element in answered.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            let place = (element.topic().to_owned(), element.partition());
            found.insert(place, (offset, element.metadata().to_owned()));
        }
    }
    Ok(found)
}

fn commit(consumer: &Native, commits: &[Commit], mode: CommitMode) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut element = list.add_partition(&commit.name, commit.partition);
        element.set_offset(Offset::Offset(commit.mark))?;
        if !commit.note.is_empty() {
            element.set_metadata(&commit.note);
        }
    }
    consumer.commit(&list, mode)
}

struct Poller {
    seat: Arc<Seat>,
    clients: Clients,
    way: Way,
    next_commit: Instant,
    next_hold_check: Instant,
    /// Since when there has been no room.
    full_since: Option<Instant>,
    is_paused: bool,
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
            next_commit: now,
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
                if self.seat.orders().stop.is_some() {
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
        let config = &self.clients.config;
        let watch = Watch {
            seat: Arc::clone(&self.seat),
            link: Arc::clone(&self.clients.link),
            drain_timeout: config.drain_timeout,
            no_drain: crate::mutant::Mutations::of(config).no_drain,
            has_joined: AtomicBool::new(false),
            is_rebalanced: AtomicBool::new(false),
            leave_by: std::sync::Mutex::new(None),
        };
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
            tracing::warn!("the consumer was not polled in time and has lost its partitions");
        } else {
            tracing::debug!(%cause, "polling Kafka");
        }
    }

    fn change_topics(&mut self, consumer: &Native, names: &[String]) -> KafkaResult<()> {
        match &mut self.way {
            Way::Group(_) => subscribe(consumer, names),
            Way::Assigned(_, start) => {
                let new = names.iter().filter(|name| !start.iter().any(|(n, ..)| n == *name));
                let new: Vec<String> = new.cloned().collect();
                add_topics(consumer, &self.seat, &new, start)
            }
        }
    }

    /// Commits and makes ready what is due; gives how long a poll may wait.
    fn tend(&mut self, consumer: &Native) -> Duration {
        let now = Instant::now();
        let mut desk = self.seat.desk();
        let due = desk.queue.release_due(now);
        let looked = desk.ahead_until().is_some_and(|until| until <= now);
        let waker = if due || looked { desk.wake() } else { None };
        let next_due = desk.queue.next_due();
        let is_holding = desk.queue.has_held();
        drop(desk);
        if waker.is_some() {
            self.seat.tell(waker);
        }
        if is_holding && now >= self.next_hold_check {
            self.next_hold_check = now + HOLD_CHECK;
            self.hold_back(consumer);
        }
        if now >= self.next_commit {
            self.next_commit = now + self.clients.config.commit_interval;
            self.commit(consumer);
        }
        let due = next_due.map(|due| due.saturating_duration_since(now));
        due.map_or(POLL, |due| due.min(POLL))
    }

    fn commit(&self, consumer: &Native) {
        if !matches!(self.way, Way::Group(_)) {
            return;
        }
        let mut desk = self.seat.desk();
        let commits = desk.changes();
        let late = std::mem::take(&mut desk.late);
        drop(desk);
        if !commits.is_empty()
            && let Err(cause) = commit(consumer, &commits, CommitMode::Async)
        {
            tracing::debug!(%cause, "a commit waits for the next");
            let mut desk = self.seat.desk();
            commits.iter().for_each(|commit| desk.mark_dirty(&commit.name, commit.partition));
        }
        for (name, partition, mark) in late {
            let stale = Commit { name, partition, mark, note: String::new() };
            let _mutant = commit_one(consumer, stale);
        }
    }

    /// Pauses partitions of which too much waits to be due.
    fn hold_back(&self, consumer: &Native) {
        let window = self.clients.config.delay_window;
        let (pause, resume) = self.seat.desk().hold_back(window);
        let outcome = act_on(&pause, |list| consumer.pause(list))
            .and_then(|()| act_on(&resume, |list| consumer.resume(list)));
        if let Err(cause) = outcome {
            tracing::warn!(%cause, "partitions could not be paused or resumed");
        }
    }

    /// Whether there is room to read on. A handler that is stuck must not cost the partitions: they are
    /// paused then, and polling goes on.
    fn make_room(&mut self, consumer: &Native) -> bool {
        if consumer.context().is_rebalanced.swap(false, Ordering::AcqRel) {
            self.is_paused = false;
        }
        if self.is_paused {
            if self.seat.has_room() {
                self.pause(consumer, false);
                return true;
            }
            self.seat.wait(POLL);
            return true;
        }
        if !self.seat.is_full() {
            self.full_since = None;
            return true;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() > STUCK {
            self.pause(consumer, true);
            return true;
        }
        if !self.seat.has_orders() {
            self.seat.wait(POLL);
        }
        false
    }

    fn pause(&mut self, consumer: &Native, pauses: bool) {
        let desk = self.seat.desk();
        let places: Vec<(String, i32)> = desk
            .parts()
            .filter(|part| pauses || !part.is_held_back)
            .map(|part| (part.source.name.clone(), part.partition))
            .collect();
        drop(desk);
        let outcome = act_on(&places, |list| {
            if pauses { consumer.pause(list) } else { consumer.resume(list) }
        });
        match outcome {
            Ok(()) => self.is_paused = pauses,
            Err(cause) => tracing::warn!(%cause, pauses, "partitions could not be paused or resumed"),
        }
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

    /// Gets ready to be dropped. A member that is still joining would be waited for by the others as a
    /// dead one is: it joins first.
    fn leave(&self, consumer: &Native, by: Instant) {
        let Way::Group(_) = self.way else {
            self.drain_all(by);
            return;
        };
        let joined_by = Instant::now() + self.clients.config.session_timeout;
        while !consumer.context().has_joined.load(Ordering::Acquire)
            && Instant::now() < joined_by
            && !self.clients.link.is_lost()
        {
            if let Some(Err(cause)) = consumer.poll(POLL) {
                self.note(&cause);
            }
        }
        *crate::lock(&consumer.context().leave_by) = Some(by);
    }

    /// What a broadcast subscriber has out cannot go to anybody else: it is waited for only so that
    /// handlers end before their subscription.
    fn drain_all(&self, by: Instant) {
        while self.seat.desk().out_count() > 0 && Instant::now() < by {
            self.seat.wait(POLL);
        }
    }
}

fn commit_one(consumer: &Native, stale: Commit) -> KafkaResult<()> {
    commit(consumer, &[stale], CommitMode::Async)
}

fn subscribe(consumer: &Native, names: &[String]) -> KafkaResult<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    consumer.subscribe(&names)
}

/// Adds topics made later to what a broadcast subscriber takes, from their beginning.
fn add_topics(
    consumer: &Native,
    seat: &Seat,
    names: &[String],
    start: &mut Start,
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for name in names {
        let metadata = consumer.fetch_metadata(Some(name), REQUEST)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let Some(source) = seat.source(name) else { continue };
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            list.add_partition_offset(name, partition, Offset::Offset(0))?;
            seat.desk().assign(&source, partition, Track::new(0, Note::default()), None);
            start.push((name.clone(), partition, 0));
        }
    }
    if list.count() == 0 { Ok(()) } else { consumer.incremental_assign(&list) }
}

fn act_on(
    places: &[(String, i32)],
    act: impl FnOnce(&TopicPartitionList) -> KafkaResult<()>,
) -> KafkaResult<()> {
    if places.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (name, partition) in places {
        list.add_partition(name, *partition);
    }
    act(&list)
}

/// The edges of a log that a start is asked for.
pub(crate) fn edge_of(start: trunkline_core::StartAt) -> Edge {
    match start {
        trunkline_core::StartAt::Beginning => Edge::Low,
        trunkline_core::StartAt::Time(time) => Edge::Time(time.as_millisecond()),
        _ => Edge::High,
    }
}
