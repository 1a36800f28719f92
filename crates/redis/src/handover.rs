//! Giving partitions to the next member, so that it finds everything as if it had been first.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::time::Instant;
use trunkline_core::Result;

use crate::book::Book;
use crate::codec::text_of;
use crate::consume::Partition;
use crate::entry::{PartitionId, Place};
use crate::error::fenced;
use crate::link::backoff;
use crate::member::Member;
use crate::mutant::Mutant;
use crate::publish::millis;
use crate::scripts::Lua;

/// A release marks what is left as idle for so long that every member may take it: a day.
const IDLE_MS: u64 = 86_400_000;

impl Member {
    /// Tells the group that a member came or went.
    pub(crate) async fn announce(&self) -> Result<()> {
        let mut command = redis::cmd("XADD");
        command.arg(self.shared.names.wake(&self.group)).arg("MAXLEN").arg("~").arg(16);
        command.arg("*").arg("member").arg(&self.consumer);
        self.shared.consume.one("announce", command).await.map(drop)
    }

    /// Lets suspects out, one at a time, each counted before.
    pub(crate) async fn admit_suspects(&mut self) -> Result<()> {
        let Some(held) = self.desk.update(Book::next_suspect) else { return Ok(()) };
        let Some(owned) = self.owned.get(&held.place.partition) else { return Ok(()) };
        let partition = Arc::clone(&owned.partition);
        let companions = &partition.companions;
        let mut call = Lua::Suspect.call(2);
        let stream =
            if held.place.is_retry { &companions.retry } else { partition.stream.as_str() };
        call.arg(&companions.lease).arg(stream).arg(&partition.fence).arg(self.group.as_str());
        call.arg(&self.consumer).arg(held.place.id.to_string()).arg(held.redeliveries + 1);
        let counted = self.shared.consume.one("count a delivery", call).await;
        match counted.map(text_of) {
            Ok(Some(answer)) if answer == "ok" => self.desk.update(|book| book.admit(held)),
            Ok(_) => {
                self.desk.update(|book| book.put_back(held));
                self.lose(partition.id);
            }
            Err(error) => {
                self.desk.update(|book| book.put_back(held));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives up partitions that are to go and of which nothing is out.
    pub(crate) async fn hand_over(&mut self) -> Result<()> {
        let is_due =
            |id: &PartitionId, book: &Book| book.out_of(*id) == 0 && !book.has_acks_of(*id);
        let draining: Vec<_> = self
            .owned
            .iter()
            .filter(|(_, owned)| owned.is_draining)
            .map(|(id, _)| *id)
            .filter(|id| self.desk.update(|book| is_due(id, book)))
            .collect();
        for id in draining {
            self.release(id).await?;
        }
        Ok(())
    }

    /// Gives a partition up; what was read and not handed out counts as often delivered as before.
    async fn release(&mut self, id: PartitionId) -> Result<()> {
        let Some(owned) = self.owned.remove(&id) else { return Ok(()) };
        let places = self.desk.update(|book| book.forget(id));
        self.desk.remove_partition(id);
        let sent = self.send_release(&owned.partition, &places).await;
        if sent.is_err() {
            // The lease runs out by itself then, and the next owner counts what was left as delivered.
            self.next_presence_now();
        }
        match sent {
            Err(error) if error.kind() == trunkline_core::ErrorKind::Fenced => Ok(()),
            sent => sent,
        }
    }

    async fn send_release(&self, partition: &Partition, places: &[(Place, u32)]) -> Result<()> {
        let companions = &partition.companions;
        let (retried, own): (Vec<_>, Vec<_>) =
            places.iter().copied().partition(|(place, _)| place.is_retry);
        let mut call = Lua::Release.call(4);
        call.arg(&companions.lease).arg(partition.stream.as_str()).arg(&companions.retry);
        call.arg(self.shared.names.wake(&self.group));
        call.arg(&partition.token).arg(self.group.as_str()).arg(&self.consumer);
        call.arg(IDLE_MS).arg(own.len());
        for (place, count) in own.into_iter().chain(retried) {
            call.arg(place.id.to_string()).arg(count);
        }
        let answer = self.shared.consume.one("hand over", call).await?;
        if text_of(answer).as_deref() == Some("fenced") {
            return Err(fenced("hand over"));
        }
        Ok(())
    }

    /// Leaves: settlements land, what is not out is given back at once, the rest as it is settled or
    /// dropped.
    pub(crate) async fn leave(mut self) {
        let mut attempt = 0;
        for id in self.owned.keys() {
            self.desk.update(|book| book.shut(*id));
        }
        for owned in self.owned.values_mut() {
            owned.is_draining = true;
        }
        while let Err(error) = self.say_goodbye().await {
            tracing::debug!(%error, group = %self.group, "leaving is tried again");
            attempt += 1;
            if self.is_hopeless(attempt) {
                return;
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        self.desk.flushed.send_replace(true);
        self.linger().await;
        self.remove_consumer().await;
    }

    /// Past the leases there is nothing left to give.
    fn is_hopeless(&self, attempt: u32) -> bool {
        let patience = self.shared.config.lease_ttl.as_millis() / 250;
        u128::from(attempt) > patience.max(20)
    }

    async fn say_goodbye(&mut self) -> Result<()> {
        if self.shared.config.breaks(Mutant::NoFlush) {
            self.desk.update(Book::take_acks);
        }
        self.flush_acks().await?;
        self.hand_over().await?;
        let names = &self.shared.names;
        let mut pipe = Pipeline::with_capacity(2);
        pipe.cmd("ZREM").arg(names.members(&self.group)).arg(&self.consumer);
        pipe.cmd("XADD").arg(names.wake(&self.group)).arg("MAXLEN").arg("~").arg(16);
        pipe.arg("*").arg("left").arg(&self.consumer);
        self.shared.consume.all("leave", &pipe).await.map(drop)
    }

    /// Keeps what is still out until it is settled or dropped, and gives it back then.
    async fn linger(&mut self) {
        let mut renewed = Instant::now();
        while !self.owned.is_empty() {
            let third = self.shared.config.lease_ttl / 3;
            let desk = Arc::clone(&self.desk);
            tokio::select! {
                () = desk.changed.notified() => {}
                () = tokio::time::sleep_until(renewed + third) => {}
            }
            let mut step = self.flush_acks().await;
            if step.is_ok() {
                step = self.hand_over().await;
            }
            if Instant::now() >= renewed + third {
                renewed = Instant::now();
                step = step.and(self.renew_leases().await);
            }
            if step.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.desk.changed.notify_one();
                if self.shared.is_closed() && self.shared.vitals_are_away() {
                    return;
                }
            }
        }
    }

    /// A consumer without anything pending is forgotten; one with something is the next owner's to
    /// take from.
    async fn remove_consumer(&self) {
        let mut pipe = Pipeline::new();
        for (topic, record) in self.matched() {
            for number in 0..record.partitions {
                let stream = self.shared.names.stream(&topic, number);
                let companions = crate::names::Companions::of(&stream, &self.group);
                for stream in [stream.as_str(), &companions.retry] {
                    let mut forget = Lua::Forget.call(1);
                    forget.arg(stream).arg(self.group.as_str()).arg(&self.consumer);
                    pipe.add_command(forget);
                }
            }
        }
        if let Err(error) = self.shared.consume.run(&pipe).await {
            tracing::debug!(%error, "a consumer's name stays behind");
        }
    }

    async fn renew_leases(&mut self) -> Result<()> {
        let leased: Vec<_> = self.owned.keys().copied().filter(|_| self.is_ordered).collect();
        if leased.is_empty() {
            return Ok(());
        }
        let ttl = self.shared.config.lease_ttl;
        let sent = Instant::now();
        let renewal = self.renewal(&leased, millis(ttl));
        let answer = self.shared.consume.one("renew", renewal).await?;
        self.note_renewed(leased, answer, sent + ttl.mul_f64(0.95));
        Ok(())
    }
}
