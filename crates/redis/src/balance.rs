//! Who owns which partition: leases with a fencing number, balanced by who is present.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::{Pipeline, Value};
use tokio::time::Instant;
use trunkline_core::{Result, Topic};

use crate::codec::{array_of, int_of, text_of, write_id};
use crate::consume::Partition;
use crate::entry::{Acks, Held, PartitionId, Place};
use crate::index::{TopicRecord, create_groups, run_creates};
use crate::link::random;
use crate::member::{IDS, Member, Owned};
use crate::mutant::Mutant;
use crate::names::Companions;
use crate::publish::millis;
use crate::reader::{self, Claimed, Whose};
use crate::scripts::Lua;

impl Member {
    /// Tells the server that this member lives, and renews its leases; returns the index's version.
    pub(crate) async fn show_presence(&mut self) -> Result<u64> {
        let names = &self.shared.names;
        let ttl = self.shared.config.lease_ttl;
        let mut pipe = Pipeline::with_capacity(3);
        let mut presence = Lua::Presence.call(2);
        presence.arg(names.members(&self.group)).arg(&names.version);
        presence.arg(&self.consumer).arg(millis(ttl));
        pipe.add_command(presence);
        let wake = names.wake(&self.group);
        pipe.cmd("XREVRANGE").arg(wake).arg("+").arg("-").arg("COUNT").arg(1);
        let leased: Vec<_> = self.owned.keys().copied().filter(|_| self.is_ordered).collect();
        if !leased.is_empty() {
            pipe.add_command(self.renewal(&leased, millis(ttl)));
        }
        let sent = Instant::now();
        let mut answers = self.shared.consume.all("renew", &pipe).await?.into_iter();
        let counts = answers.next().and_then(array_of).unwrap_or_default();
        self.live =
            counts.first().and_then(int_of).and_then(|n| u64::try_from(n).ok()).unwrap_or(1);
        let version = counts.get(1).and_then(int_of).and_then(|n| u64::try_from(n).ok());
        self.hear_wake(answers.next());
        let held = answers.next().unwrap_or(Value::Nil);
        // A margin for what passes between the server's clock and this one.
        self.note_renewed(leased, held, sent + ttl.mul_f64(0.95));
        if !self.is_ordered {
            self.show_work().await?;
        }
        Ok(version.unwrap_or(0))
    }

    pub(crate) fn note_renewed(&mut self, leased: Vec<PartitionId>, held: Value, until: Instant) {
        for (id, is_held) in leased.into_iter().zip(array_of(held).unwrap_or_default()) {
            if int_of(&is_held) == Some(1) {
                self.desk.update(|book| book.renew(id, until));
            } else if !self.is_stale_by_fault() {
                tracing::warn!(group = %self.group, "a partition's lease was lost");
                self.lose(id);
            }
        }
    }

    pub(crate) fn renewal(&self, leased: &[PartitionId], ttl_ms: u64) -> redis::Cmd {
        let owned = || leased.iter().filter_map(|id| self.owned.get(id));
        let mut renew = Lua::Renew.call(leased.len());
        for owned in owned() {
            renew.arg(&owned.partition.companions.lease);
        }
        renew.arg(ttl_ms);
        for owned in owned() {
            renew.arg(&owned.partition.token);
        }
        renew
    }

    /// Somebody woke the group: what was redriven or came due is looked for.
    fn hear_wake(&mut self, answer: Option<Value>) {
        let last = answer.and_then(Self::last_wake).unwrap_or_default();
        if last != self.woken {
            self.woken = last;
            for owned in self.owned.values_mut() {
                owned.is_hot = true;
                owned.has_retry = owned.has_retry.filter(|has_retry| *has_retry);
            }
        }
    }

    /// Without leases, entries that are worked on are kept from others, and what nobody works on is
    /// taken over.
    async fn show_work(&mut self) -> Result<()> {
        let idle = millis(self.shared.config.lease_ttl);
        let partitions: Vec<_> =
            self.owned.values().map(|owned| Arc::clone(&owned.partition)).collect();
        let mut pipe = Pipeline::new();
        for partition in &partitions {
            let known = self.desk.update(|book| book.known_of(partition.id));
            let (retried, own): (Vec<Place>, Vec<Place>) =
                known.into_iter().partition(|place| place.is_retry);
            self.add_beats(&mut pipe, &partition.stream, &own);
            self.add_beats(&mut pipe, &partition.companions.retry, &retried);
        }
        self.shared.consume.all("renew", &pipe).await?;
        for partition in partitions {
            // What is known here was shown just now; what an answer that never came gave to this
            // member was not.
            self.take_over(&partition, Whose::All, idle).await?;
        }
        Ok(())
    }

    fn add_beats(&self, pipe: &mut Pipeline, stream: &str, places: &[Place]) {
        for chunk in places.chunks(IDS) {
            let mut beat = Lua::Beat.call(1);
            beat.arg(stream).arg(self.group.as_str()).arg(&self.consumer);
            chunk.iter().for_each(|place| write_id(&mut beat, place.id));
            pipe.add_command(beat);
        }
    }

    /// Is present on topics that came since `known`, and forgets those that went.
    pub(crate) async fn follow_index(&mut self, known: u64) -> Result<()> {
        if let Some(record) = self.index.groups.get(&self.group) {
            self.record = record.clone();
        }
        if self.index.version < known || !self.index.groups.contains_key(&self.group) {
            self.restore_index().await?;
        }
        let mut pipe = Pipeline::new();
        for (topic, record) in self.index.topics.iter().filter(|(_, r)| r.is_after(known)) {
            if let Some(start) = self.record.start_on(topic, *record) {
                create_groups(&mut pipe, &self.shared.names, topic, *record, &self.group, start);
            }
        }
        run_creates(&self.shared.consume, &pipe).await
    }

    /// The server came back without the index, or with an older one: the group is made known again.
    async fn restore_index(&mut self) -> Result<()> {
        let mut spec = trunkline_core::GroupSpec::new(self.group.clone(), self.record.patterns());
        spec.lanes = self.record.lanes;
        if !self.is_ordered {
            spec.order = trunkline_core::Order::None;
        }
        self.record = self.shared.declare(&spec).await?;
        self.index = crate::index::Index::load(&self.shared.link, &self.shared.names).await?;
        Ok(())
    }

    pub(crate) fn matched(&self) -> Vec<(Topic, TopicRecord)> {
        let topics = self.index.topics.iter();
        let matched = topics.filter(|(topic, _)| self.record.takes(topic));
        matched.map(|(topic, record)| (topic.clone(), *record)).collect()
    }

    fn share(&self, record: TopicRecord) -> usize {
        let live = u32::try_from(self.live.max(1)).unwrap_or(u32::MAX);
        record.partitions.div_ceil(live) as usize
    }

    /// Whether this member has all that the others can spare.
    pub(crate) fn has_its_share(&self) -> bool {
        if !self.is_ordered {
            return true;
        }
        let live = usize::try_from(self.live.max(1)).unwrap_or(usize::MAX);
        let matched = self.matched();
        matched
            .iter()
            .all(|(topic, record)| self.owned_of(topic).len() >= record.partitions as usize / live)
    }

    fn owned_of(&self, topic: &Topic) -> Vec<PartitionId> {
        let owned = self.owned.iter().filter(|(_, owned)| owned.partition.topic == *topic);
        owned.map(|(id, _)| *id).collect()
    }

    /// Gives what is above this member's share, and takes what is free below it.
    pub(crate) async fn balance(&mut self) -> Result<()> {
        let mut pipe = Pipeline::new();
        let mut asked = Vec::new();
        for (topic, record) in self.matched() {
            if !self.is_ordered {
                self.open_all(&topic, record);
                continue;
            }
            let share = self.share(record);
            self.give_surplus(&topic, share);
            let missing = share.saturating_sub(self.owned_of(&topic).len());
            let free = if missing > 0 { self.not_owned(&topic, record) } else { Vec::new() };
            if free.is_empty() {
                continue;
            }
            let mut acquire = Lua::Acquire.call(2 * free.len());
            for number in &free {
                let stream = self.shared.names.stream(&topic, *number);
                let companions = Companions::of(&stream, &self.group);
                acquire.arg(&companions.lease).arg(&companions.fence);
            }
            acquire.arg(&self.consumer).arg(millis(self.shared.config.lease_ttl)).arg(missing);
            pipe.add_command(acquire);
            asked.push((topic, free));
        }
        let sent = Instant::now();
        let answers = self.shared.consume.all("lease", &pipe).await?;
        for ((topic, free), answer) in asked.into_iter().zip(answers) {
            for taken in array_of(answer).unwrap_or_default() {
                self.take_up(&topic, &free, taken, sent).await?;
            }
        }
        Ok(())
    }

    fn give_surplus(&mut self, topic: &Topic, share: usize) {
        let mut here = self.owned_of(topic);
        let draining = here.iter().filter(|id| self.owned[id].is_draining).count();
        let surplus = here.len().saturating_sub(share);
        if surplus <= draining || self.is_stale_by_fault() {
            return;
        }
        // What stands idle is handed over at once.
        here.retain(|id| !self.owned[id].is_draining);
        here.sort_by_key(|id| self.desk.update(|book| book.out_of(*id)));
        for id in here.into_iter().take(surplus - draining) {
            if let Some(owned) = self.owned.get_mut(&id) {
                owned.is_draining = true;
                self.desk.update(|book| book.shut(id));
            }
        }
        self.desk.changed.notify_one();
    }

    /// In random order, so that members that look at the same time take different ones.
    fn not_owned(&self, topic: &Topic, record: TopicRecord) -> Vec<u32> {
        let owned = self.owned.values().filter(|owned| owned.partition.topic == *topic);
        let owned: HashSet<u32> = owned.map(|owned| owned.partition.number).collect();
        let mut free: Vec<u32> = (0..record.partitions).filter(|n| !owned.contains(n)).collect();
        free.sort_by_cached_key(|_| random());
        free
    }

    async fn take_up(
        &mut self,
        topic: &Topic,
        free: &[u32],
        taken: Value,
        sent: Instant,
    ) -> Result<()> {
        let mut parts = array_of(taken).unwrap_or_default().into_iter();
        let place = parts.next().as_ref().and_then(int_of).and_then(|at| usize::try_from(at).ok());
        let number = place.and_then(|at| free.get(at)).copied();
        let (Some(number), Some(token)) = (number, parts.next().and_then(text_of)) else {
            return Ok(());
        };
        let until = sent + self.shared.config.lease_ttl.mul_f64(0.95);
        let partition = self.open(topic, number, token, Some(until));
        if self.shared.config.breaks(Mutant::NewBeforePending) {
            return Ok(());
        }
        // What its last owner had and did not finish comes first, however often it has to be tried.
        let taken = self.take_over(&partition, Whose::All, 0).await;
        if let Some(owned) = self.owned.get_mut(&partition.id) {
            owned.doubt = taken.is_err().then_some(Whose::All);
        }
        taken
    }

    /// A mutant that takes a partition for its own whatever the lease says.
    pub(crate) fn is_stale_by_fault(&self) -> bool {
        let config = &self.shared.config;
        config.breaks(Mutant::NoFence) || config.breaks(Mutant::PlainReads)
    }

    fn open(
        &mut self,
        topic: &Topic,
        number: u32,
        token: String,
        until: Option<Instant>,
    ) -> Arc<Partition> {
        let stream = self.shared.names.stream(topic, number);
        let companions = Companions::of(&stream, &self.group);
        let id = self.next_id;
        self.next_id += 1;
        let (topic, mut until, mut fence) = (topic.clone(), until, token.clone());
        if self.is_stale_by_fault() {
            until = None;
        }
        if self.shared.config.breaks(Mutant::NoFence) {
            fence = String::new();
        }
        let partition = Partition { id, topic, number, stream, companions, token, fence };
        let partition = Arc::new(partition);
        self.desk.add_partition(Arc::clone(&partition));
        self.desk.update(|book| book.open(id, until));
        let owned = Owned {
            fence: partition.first_fence(),
            partition: Arc::clone(&partition),
            is_hot: true,
            is_draining: false,
            doubt: None,
            last: None,
            has_retry: None,
        };
        self.owned.insert(id, owned);
        partition
    }

    fn open_all(&mut self, topic: &Topic, record: TopicRecord) {
        for number in self.not_owned(topic, record) {
            self.open(topic, number, String::new(), None);
        }
    }

    /// Takes over what is pending with others, or what this member was given and never got.
    pub(crate) async fn take_over(
        &mut self,
        partition: &Arc<Partition>,
        whose: Whose,
        idle_ms: u64,
    ) -> Result<()> {
        let known = self.desk.update(|book| book.known_of(partition.id));
        let known: HashSet<_> = known.into_iter().collect();
        let mut is_quarantined = false;
        for is_retry in [false, true] {
            let mut start = Some("-".to_owned());
            while let Some(from) = start.take() {
                let call = reader::claim(
                    partition,
                    &self.group,
                    &self.consumer,
                    is_retry,
                    &from,
                    idle_ms,
                    whose,
                );
                let answer = self.shared.consume.one("take over", call).await;
                let answer = match answer {
                    // The group is gone: the next read makes it again.
                    Err(error) if error.to_string().contains("NOGROUP") => break,
                    answer => answer?,
                };
                let Some((next, page)) = reader::claimed(partition, is_retry, answer) else {
                    self.lose(partition.id);
                    return Ok(());
                };
                let fresh = page.into_iter().filter(|claimed| !known.contains(&claimed.place));
                self.add_claimed(partition, fresh, &mut is_quarantined);
                start = next;
            }
        }
        Ok(())
    }

    fn add_claimed(
        &self,
        partition: &Partition,
        page: impl Iterator<Item = Claimed>,
        is_quarantined: &mut bool,
    ) {
        self.desk.update(|book| {
            for Claimed { place, count, attempts, fields } in page {
                let Some(fields) = fields else {
                    self.shared.vitals.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let Some(held) = reader::held(book, partition, place, fields) else {
                    let places = vec![place];
                    book.return_acks(Acks { places, noted: Vec::new() });
                    continue;
                };
                // Twice with a member that died: from here on, in order, one at a time.
                *is_quarantined |= count >= 2;
                let held = Held {
                    attempts: attempts.unwrap_or(held.attempts),
                    is_noted: attempts.is_some(),
                    redeliveries: count,
                    is_suspect: *is_quarantined,
                    ..held
                };
                if *is_quarantined { book.add_suspect(held) } else { book.add(held) }
            }
        });
    }
}
