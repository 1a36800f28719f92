//! Reading and acknowledging, in a transaction that only the owner of the partitions can run.
//!
//! A member watches the fencing numbers of its partitions, and looks whether they are still its own. A
//! new owner raises the number, and then the server discards the transaction of the old one. So nothing
//! has to be copied through a script, which would cost the server more than the reading itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join;
use redis::{Pipeline, Value};
use trunkline_core::Result;

use crate::broker::Shared;
use crate::codec::{self, Fields, array_of, int_of, streams_of};
use crate::consume::{Desk, Partition};
use crate::entry::{Acks, PartitionId, Place};
use crate::error::{Remedy, from_driver, remedy_of_code, unexpected};
use crate::link::{Link, Pinned, is_for_later};
use crate::member::Member;
use crate::mutant::Mutant;
use crate::reader;

/// The connection that a member watches and reads on: what is watched is a matter of the connection.
pub(crate) struct Guard {
    link: Link,
    connection: Option<Pinned>,
    /// Partitions that were this member's when the last transaction had ended, and are watched since.
    watched: HashSet<PartitionId>,
}

impl Guard {
    pub(crate) fn new(shared: &Shared) -> Self {
        let link = Link::new(&shared.config, shared.config.response_timeout, &shared.vitals);
        Self { link, connection: None, watched: HashSet::new() }
    }

    async fn run(&mut self, pipe: &Pipeline) -> Result<Vec<Value>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.link.pin().await.map_err(|e| from_driver("read", e, false))?,
        };
        // What is watched ends with the transaction, and with the connection.
        self.watched.clear();
        let answer = self.link.send_on(&mut connection, pipe).await;
        let answers = answer.map_err(|e| from_driver("read", e, true))?;
        // A server that is no longer the primary may leave the connection open.
        self.connection = (!answers.iter().any(is_for_later)).then_some(connection);
        Ok(answers)
    }
}

/// What one command of a transaction asked for.
enum Asked {
    Acknowledgement,
    Entries,
    /// Where the stream ends, for this partition.
    End(PartitionId),
}

impl Member {
    /// Acknowledges, and reads up to `count` entries of each partition.
    pub(crate) async fn transact(
        &mut self,
        mut acks: Acks,
        reading: &[Arc<Partition>],
        count: usize,
    ) -> Result<()> {
        let reads_plainly = self.shared.config.breaks(Mutant::PlainReads) && !reading.is_empty();
        if reads_plainly && !acks.places.is_empty() {
            Box::pin(self.transact(std::mem::take(&mut acks), &[], 0)).await?;
        }
        let is_unfenced = self.shared.config.breaks(Mutant::NoFence) || reads_plainly;
        let is_fenced = self.is_ordered && !is_unfenced;
        if is_fenced && !self.is_watching(&acks, reading) {
            let watching = self.watch().await;
            if self.shared.config.breaks(Mutant::PlainReads) {
                acks.places.retain(|place| self.guard.watched.contains(&place.partition));
            }
            if watching.is_err() || !self.is_watching(&acks, reading) {
                // Something was lost: what is left is asked for again.
                self.desk.update(|book| book.return_acks(acks));
                return watching;
            }
        }
        let mut pipe = Pipeline::new();
        pipe.cmd("MULTI");
        let mut asked = Vec::new();
        asked.resize_with(self.add_acks(&mut pipe, &acks), || Asked::Acknowledgement);
        self.add_reads(&mut pipe, reading, count, &mut asked);
        if asked.is_empty() {
            return Ok(());
        }
        pipe.cmd("EXEC");
        let watched = if is_fenced { self.add_watch(&mut pipe) } else { Vec::new() };
        // What the last transaction brought is made into events while the server works on this one.
        let desk = Arc::clone(&self.desk);
        let (unpacked, is_early) =
            (std::mem::take(&mut self.unpacked), self.shared.config.breaks(Mutant::AckOnRead));
        let unpacking =
            async { unpacked.into_iter().for_each(|batch| unpack(&desk, batch, is_early)) };
        let (answers, ()) = join(self.guard.run(&pipe), unpacking).await;
        let mut answers = match answers {
            Ok(answers) => answers.into_iter().skip(1 + asked.len()),
            Err(error) => {
                self.desk.update(|book| book.return_acks(acks));
                return Err(error);
            }
        };
        let executed = answers.next().unwrap_or(Value::Nil);
        let received = match executed {
            Value::Array(values) => self.receive(asked, values, reading, count).await,
            refused => {
                self.desk.update(|book| book.return_acks(acks));
                refused.extract_error().map(drop).map_err(|e| from_driver("read", e, false))
            }
        };
        if is_fenced {
            self.note_fences(&watched, answers.nth(1));
        }
        received
    }

    fn is_watching(&self, acks: &Acks, reading: &[Arc<Partition>]) -> bool {
        let acked = acks.places.iter().map(|place| place.partition);
        let acked = acked.filter(|id| self.owned.contains_key(id));
        let mut all = acked.chain(reading.iter().map(|partition| partition.id));
        all.all(|id| self.guard.watched.contains(&id))
    }

    /// Watches every partition, and loses those that are another's by now.
    async fn watch(&mut self) -> Result<()> {
        let mut pipe = Pipeline::with_capacity(3);
        pipe.cmd("UNWATCH");
        let watched = self.add_watch(&mut pipe);
        let answers = self.guard.run(&pipe).await?;
        self.note_fences(&watched, answers.into_iter().nth(2));
        Ok(())
    }

    /// Adds the commands that watch; returns the partitions in their order.
    fn add_watch(&self, pipe: &mut Pipeline) -> Vec<PartitionId> {
        let fences = || self.owned.values().map(|owned| &owned.partition.companions.fence);
        if self.owned.is_empty() {
            return Vec::new();
        }
        for name in ["WATCH", "MGET"] {
            pipe.cmd(name);
            for fence in fences() {
                pipe.arg(fence);
            }
        }
        self.owned.keys().copied().collect()
    }

    fn note_fences(&mut self, watched: &[PartitionId], answer: Option<Value>) {
        let fences = answer.and_then(array_of).unwrap_or_default();
        for (id, fence) in watched.iter().zip(fences) {
            let own = self.owned.get(id).map(|owned| owned.fence);
            if own.is_some() && own == Some(int_of(&fence)) {
                self.guard.watched.insert(*id);
            } else {
                self.shared.vitals.fenced.fetch_add(1, Ordering::Relaxed);
                if !self.is_stale_by_fault() {
                    self.lose(*id);
                }
            }
        }
    }

    fn add_reads(
        &self,
        pipe: &mut Pipeline,
        reading: &[Arc<Partition>],
        count: usize,
        asked: &mut Vec<Asked>,
    ) {
        let has_retry = |partition: &Partition| {
            self.owned.get(&partition.id).is_some_and(|owned| owned.has_retry == Some(true))
        };
        let mut streams = Vec::with_capacity(reading.len());
        for partition in reading {
            if has_retry(partition) {
                streams.push(partition.companions.retry.as_str());
            }
            streams.push(&partition.stream);
        }
        if streams.is_empty() {
            return;
        }
        pipe.cmd("XREADGROUP").arg("GROUP").arg(self.group.as_str()).arg(&self.consumer);
        pipe.arg("COUNT").arg(count).arg("STREAMS");
        for stream in &streams {
            pipe.arg(*stream);
        }
        for _ in &streams {
            pipe.arg(">");
        }
        asked.push(Asked::Entries);
        for partition in reading {
            // Where members share, others move the end too.
            let is_known = self.is_ordered
                && self.owned.get(&partition.id).is_some_and(|owned| owned.last.is_some());
            if !is_known {
                pipe.cmd("XINFO").arg("STREAM").arg(partition.stream.as_str());
                asked.push(Asked::End(partition.id));
            }
        }
    }

    async fn receive(
        &mut self,
        asked: Vec<Asked>,
        answers: Vec<Value>,
        reading: &[Arc<Partition>],
        count: usize,
    ) -> Result<()> {
        let mut is_group_gone = false;
        for (asked, answer) in asked.into_iter().zip(answers) {
            if let Value::ServerError(error) = &answer {
                is_group_gone |= remedy_of_code(error.code()) == Remedy::NoGroup;
                tracing::debug!(group = %self.group, code = error.code(), "a command was refused");
                continue;
            }
            match asked {
                Asked::Acknowledgement => {}
                Asked::Entries => self.receive_entries(answer, reading, count)?,
                Asked::End(id) => self.note_end(id, answer),
            }
        }
        if is_group_gone {
            self.recreate(reading).await?;
        }
        Ok(())
    }

    fn receive_entries(
        &mut self,
        answer: Value,
        reading: &[Arc<Partition>],
        count: usize,
    ) -> Result<()> {
        let streams = match answer {
            Value::Nil => Vec::new(),
            answer => streams_of(answer).ok_or_else(|| unexpected("read", "entries"))?,
        };
        let mut found: HashMap<String, _> = streams.into_iter().collect();
        for partition in reading {
            let Some(owned) = self.owned.get_mut(&partition.id) else { continue };
            let retried = found.remove(&partition.companions.retry).unwrap_or_default();
            let own = found.remove(partition.stream.as_str()).unwrap_or_default();
            owned.is_hot = own.len() >= count || retried.len() >= count;
            owned.last = own.last().map(|(id, _)| *id).or(owned.last);
            let place = |is_retry| {
                move |(id, fields)| (Place { partition: partition.id, is_retry, id }, fields)
            };
            let entries: Vec<(Place, Fields)> = retried
                .into_iter()
                .map(place(true))
                .chain(own.into_iter().map(place(false)))
                .collect();
            if !entries.is_empty() {
                self.unpacked.push((Arc::clone(partition), entries));
            }
        }
        Ok(())
    }

    /// Where a stream ended when all of it had been read.
    fn note_end(&mut self, id: PartitionId, answer: Value) {
        let end = crate::trim::State::of(answer).map(|state| state.last);
        if let Some(owned) = self.owned.get_mut(&id)
            && !owned.is_hot
        {
            owned.last = end;
        }
    }
}

/// Entries as they were read of one partition.
pub(crate) type Batch = (Arc<Partition>, Vec<(Place, Fields)>);

impl Member {
    /// Makes events of what the last transaction brought.
    pub(crate) fn unpack(&mut self) {
        let is_early = self.shared.config.breaks(Mutant::AckOnRead);
        for batch in std::mem::take(&mut self.unpacked) {
            unpack(&self.desk, batch, is_early);
        }
    }
}

/// Adds what was read; what groups pass over is acknowledged at once.
fn unpack(desk: &Desk, (partition, entries): Batch, is_acked: bool) {
    // Few enough that the first do not wait long for the last.
    const AT_ONCE: usize = 64;
    let mut entries = entries.into_iter();
    loop {
        let chunk = entries.by_ref().take(AT_ONCE);
        let read: Vec<_> =
            chunk.map(|(place, fields)| (place, codec::read(fields, &partition.topic))).collect();
        if read.is_empty() {
            return;
        }
        desk.update(|book| {
            for (place, entry) in read {
                if entry.is_broadcast_only || is_acked {
                    book.return_acks(Acks { places: vec![place], noted: Vec::new() });
                }
                if !entry.is_broadcast_only {
                    let seq = book.next_seq();
                    book.add(reader::of_entry(entry, place, seq));
                }
            }
        });
    }
}
