//! What happens to the partitions of a consumer: they come, they go, and offsets are committed.
//!
//! Offsets are committed as lists, with what is completed above them, and not by librdkafka's own store:
//! that commits an offset only when it grows, so that what is completed above a stuck event would never
//! be written. A commit is made only of partitions that this thread holds: before the group gives one to
//! another member, [`Watch::pre_rebalance`] has run here, on this thread, or the group has moved on
//! and its coordinator refuses what an old generation commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use crate::client::{self, Clients, Link, REQUEST};
use crate::lock;
use crate::mutant::Mutations;
use crate::note::Note;
use crate::part::Commit;
use crate::seat::{Drained, Seat};
use crate::topics::Place32;
use crate::track::Track;

/// How long the urgent events of a backlog are looked for, at most.
const LOOK_AHEAD: Duration = Duration::from_secs(5);
/// How long the coordinator is asked for committed offsets: a rebalance waits for it.
const COMMITTED: Duration = Duration::from_secs(20);
/// How long a commit is tried while the group is between two generations.
pub(crate) const COMMIT: Duration = Duration::from_millis(500);
/// How long to wait before a request is made again.
const AGAIN: Duration = Duration::from_millis(25);

pub(crate) type Native = BaseConsumer<Watch>;

/// What happens to the partitions of a consumer, told by librdkafka on the polling thread.
pub(crate) struct Watch {
    seat: Arc<Seat>,
    link: Arc<Link>,
    drain_timeout: Duration,
    pub(crate) no_drain: bool,
    /// The group has given it partitions once, perhaps none.
    pub(crate) has_joined: AtomicBool,
    /// Partitions came or went since it was last looked.
    pub(crate) is_rebalanced: AtomicBool,
    /// When leaving: how long deliveries that are out are waited for.
    pub(crate) leave_by: Mutex<Option<Instant>>,
    /// Everything was committed before it leaves.
    pub(crate) is_settled: AtomicBool,
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
            self.seat.tell_assigned();
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
    pub(crate) fn new(seat: &Arc<Seat>, clients: &Clients) -> Self {
        Self {
            seat: Arc::clone(seat),
            link: Arc::clone(&clients.link),
            drain_timeout: clients.config.drain_timeout,
            no_drain: Mutations::of(&clients.config).no_drain,
            has_joined: AtomicBool::new(false),
            is_rebalanced: AtomicBool::new(false),
            leave_by: Mutex::new(None),
            is_settled: AtomicBool::new(false),
        }
    }

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
                    let (mark, note) = match known.get(&(name.clone(), partition)) {
                        Some((mark, text)) => (*mark, Note::read(*mark, text)),
                        None => (self.seat.start_of(&name, partition), Note::default()),
                    };
                    let track = self.seat.desk().begin(&name, partition, mark, note);
                    // It fails for no offset that is one.
                    drop(element.set_offset(Offset::Offset(track.mark())));
                    track
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
        let by = *lock(&self.leave_by);
        let deadline = by.unwrap_or_else(|| Instant::now() + self.drain_timeout);
        // After a long standstill librdkafka may not know yet that the group has gone on without it.
        let is_lost = consumer.assignment_lost() || self.is_refused(consumer);
        let is_drained = is_lost || self.no_drain || self.drain(consumer, &ids, deadline);
        if !is_drained {
            tracing::warn!(
                "partitions were given up with deliveries out: they are delivered again"
            );
        }
        let mut desk = self.seat.desk();
        let commits = desk.end_revoke(&ids);
        // What was out has left room.
        let waker = desk.wake();
        drop(desk);
        self.seat.tell(waker);
        self.seat.tell_revoked();
        if commits.is_empty() || self.is_settled.load(Ordering::Acquire) {
            return;
        }
        let outcome = if is_lost { Ok(()) } else { commit_now(consumer, &commits) };
        if let Err(cause) = &outcome {
            tracing::warn!(%cause, "what was settled last is delivered again");
        }
        if is_lost || outcome.is_err() {
            self.seat.desk().keep_lost(commits);
        }
    }

    /// Whether this process has stood still, and the coordinator then takes its commits no more.
    fn is_refused(&self, consumer: &Native) -> bool {
        if !self.seat.is_suspect() {
            return false;
        }
        let commits = self.seat.desk().all();
        !commits.is_empty() && commit(consumer, &commits, CommitMode::Sync).is_err()
    }

    /// Waits for what is out of these partitions; says whether all of it was settled in time.
    fn drain(&self, consumer: &Native, ids: &[u32], deadline: Instant) -> bool {
        self.seat.begin_drain();
        let is_drained = loop {
            match self.seat.drain(ids, deadline) {
                Drained::Whole => break true,
                Drained::Late => break false,
                // A lane goes on only when its first event is settled for good: without the commit,
                // what is out behind that one would be waited for in vain.
                Drained::CommitWanted => {
                    if !commit_wanted(&self.seat, consumer, true) {
                        std::thread::sleep(AGAIN);
                    }
                }
            }
        };
        self.seat.end_drain();
        is_drained
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
                tracing::debug!(%cause, "the committed offsets are asked for again");
                std::thread::sleep(AGAIN);
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

pub(crate) fn commit(consumer: &Native, commits: &[Commit], mode: CommitMode) -> KafkaResult<()> {
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

/// Commits and waits; tries again while the group is between two generations.
pub(crate) fn commit_now(consumer: &Native, commits: &[Commit]) -> KafkaResult<()> {
    let deadline = Instant::now() + COMMIT;
    loop {
        let outcome = commit(consumer, commits, CommitMode::Sync);
        let code = outcome.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let is_between = matches!(
            code,
            Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
        );
        if !is_between || Instant::now() > deadline {
            return outcome;
        }
        std::thread::sleep(AGAIN);
    }
}

/// Commits what somebody waits for, and says whether that went well. A commit of a member that the group
/// has given up is refused, and so shows whether this is still one.
pub(crate) fn commit_wanted(seat: &Seat, consumer: &Native, is_group: bool) -> bool {
    let is_suspect = seat.is_suspect();
    let mut desk = seat.desk();
    let wanted = desk.commits_wanted;
    let commits = if is_suspect { desk.all() } else { desk.changes() };
    drop(desk);
    let outcome = match (is_group && !commits.is_empty(), is_suspect) {
        (false, _) => Ok(()),
        (true, true) => commit(consumer, &commits, CommitMode::Sync),
        (true, false) => commit_now(consumer, &commits),
    };
    let mut desk = seat.desk();
    let is_made = outcome.is_ok();
    if let Err(cause) = outcome {
        tracing::debug!(%cause, "a commit is tried again");
        commits.iter().for_each(|commit| desk.mark_dirty(&commit.name, commit.partition));
        drop(desk);
        seat.committed.notify_waiters();
    } else {
        desk.commits_made = wanted;
        drop(desk);
        seat.trust();
    }
    is_made
}
