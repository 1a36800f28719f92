//! What the polling thread does beside reading: it commits, pauses and resumes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;

use crate::part::Commit;
use crate::poller::{POLL, Poller, Way};
use crate::watch::{Native, commit, commit_wanted};

/// How long handlers may take all there is before partitions are paused: a pause throws away what was
/// fetched, and rebalances wait as long as nothing is polled.
const STUCK: Duration = Duration::from_millis(200);
/// How often it is looked whether too much waits to be due.
const HOLD_CHECK: Duration = Duration::from_millis(100);

/// How often is committed at most, however fast deliveries are settled.
const BETWEEN: Duration = Duration::from_millis(5);

impl Poller {
    /// Commits and makes ready what is due; gives how long a poll may wait.
    pub(crate) fn tend(&mut self, consumer: &Native) -> Duration {
        let now = Instant::now();
        let mut desk = self.seat.desk();
        let due = desk.queue.release_due(now);
        let looked = desk.ahead_until().is_some_and(|until| until <= now);
        let waker = if due || looked { desk.wake() } else { None };
        let next_due = desk.queue.next_due();
        let is_holding = desk.queue.has_held();
        let has_much = desk.has_much_uncommitted() && now >= self.last_commit + BETWEEN;
        let is_wanted = desk.commits_wanted > desk.commits_made;
        drop(desk);
        if waker.is_some() {
            self.seat.tell(waker);
        }
        if is_holding && now >= self.next_hold_check {
            self.next_hold_check = now + HOLD_CHECK;
            self.hold_back(consumer);
        }
        if is_wanted && !self.clients.link.is_lost() {
            commit_wanted(&self.seat, consumer, matches!(self.way, Way::Group(_)));
        }
        if has_much || now >= self.last_commit + self.clients.config.commit_interval {
            self.last_commit = now;
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
        let mut change = self.seat.desk().hold_back(window);
        if self.is_paused {
            // They go on with all others, when there is room.
            change.resume.clear();
        }
        let outcome = act_on(&change.pause, |list| consumer.pause(list))
            .and_then(|()| act_on(&change.resume, |list| consumer.resume(list)));
        if let Err(cause) = outcome {
            tracing::warn!(%cause, "partitions could not be paused or resumed");
        }
    }

    /// Whether there is room to read on. A handler that is stuck must not cost the partitions: they are
    /// paused then, and polling goes on.
    pub(crate) fn make_room(&mut self, consumer: &Native) -> bool {
        if consumer.context().is_rebalanced.swap(false, Ordering::AcqRel) && self.is_paused {
            // Partitions that came are not paused, and those that stayed still are: all begin anew.
            self.pause(consumer, false);
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
        let outcome =
            act_on(
                &places,
                |list| {
                    if pauses { consumer.pause(list) } else { consumer.resume(list) }
                },
            );
        match outcome {
            Ok(()) => self.is_paused = pauses,
            Err(cause) => {
                tracing::warn!(%cause, pauses, "partitions could not be paused or resumed");
            }
        }
    }
}

fn commit_one(consumer: &Native, stale: Commit) -> KafkaResult<()> {
    commit(consumer, &[stale], CommitMode::Async)
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
