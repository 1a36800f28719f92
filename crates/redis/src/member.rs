//! One member of a group: its task reads the partitions that it owns, acknowledges, renews and hands
//! over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;
use trunkline_core::{Group, GroupSpec, Order, Result, SubscribeOptions};

use crate::book::{Acks, Book, PartitionId, Place};
use crate::broker::Shared;
use crate::codec::{EntryId, text_of};
use crate::consume::{Desk, Partition};
use crate::error::{Remedy, remedy_of_code};
use crate::index::{GroupRecord, Index};
use crate::link::{backoff, random_fraction};
use crate::reader::{self, Found, Whose};
use crate::scripts::Lua;
use crate::settle::{Owner, Settler, state_field};
use crate::waiter::Waiter;

/// Ids in one command: a script can spread some thousands of arguments and no more.
const IDS: usize = 1_000;

/// A member's task.
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) group: Group,
    pub(crate) consumer: String,
    pub(crate) record: GroupRecord,
    pub(crate) index: Index,
    pub(crate) owned: BTreeMap<PartitionId, Owned>,
    pub(crate) next_id: PartitionId,
    pub(crate) is_ordered: bool,
    /// Live members, this one included, when last counted.
    pub(crate) live: u64,
    pub(crate) woken: EntryId,
    pub(crate) waiter: Waiter,
    next_refresh: Instant,
    next_scan: Instant,
    ahead: usize,
}

/// A partition that this member reads.
pub(crate) struct Owned {
    pub(crate) partition: Arc<Partition>,
    /// There may be more to read.
    pub(crate) is_hot: bool,
    /// To be handed over when nothing of it is out.
    pub(crate) is_draining: bool,
    /// A read may have been answered and lost: what is pending is looked at first.
    pub(crate) is_doubtful: bool,
    /// Everything up to this id has been read by the group.
    pub(crate) last: EntryId,
}

/// Joins a group and starts the member's task; ready when it has its share of the partitions.
pub(crate) async fn join(
    shared: &Arc<Shared>,
    group: Group,
    options: SubscribeOptions,
) -> Result<Arc<Desk>> {
    let mut spec = GroupSpec::new(group.clone(), options.topics.iter().cloned());
    spec.start = options.start;
    spec.order = options.order;
    spec.lanes = options.lanes;
    let record = shared.declare(&spec).await?;
    let is_ordered = record.is_ordered();
    let prefetch = options.prefetch;
    let book = Book::new(prefetch, is_ordered && options.order != Order::None, record.lanes);
    let settler = Settler { shared: Arc::clone(shared), owner: Owner::Group(group.clone()) };
    let desk = Desk::new(book, settler);
    // A partition without a lease is read by all members: reading ahead would take from the others.
    let ahead = match (is_ordered, record.lanes) {
        (true, true) => shared.config.lane_window,
        (true, false) if prefetch >= 64 => prefetch,
        _ => 0,
    };
    let consumer = shared.unique("m").replace('|', "-");
    let mut member = Member {
        waiter: Waiter::new(shared),
        shared: Arc::clone(shared),
        desk: Arc::clone(&desk),
        group,
        consumer,
        record,
        index: Index::default(),
        owned: BTreeMap::new(),
        next_id: 0,
        is_ordered,
        live: 1,
        woken: EntryId::default(),
        next_refresh: Instant::now(),
        next_scan: Instant::now() + shared.config.discovery_interval.mul_f64(random_fraction()),
        ahead,
    };
    member.settle_in().await?;
    drop(tokio::spawn(member.run()));
    Ok(desk)
}

impl Member {
    /// Takes part, and waits a moment for the others to hand over this member's share.
    async fn settle_in(&mut self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_millis(300);
        const BETWEEN: Duration = Duration::from_millis(5);
        self.index = Index::load(&self.shared.link, &self.shared.names).await?;
        let begun = Instant::now();
        self.refresh().await?;
        self.announce().await?;
        while !self.has_its_share() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(BETWEEN).await;
            self.refresh().await?;
        }
        Ok(())
    }

    async fn run(mut self) {
        let mut failures = 0;
        while !self.desk.is_closing() {
            match self.turn().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, group = %self.group, "the member tries again");
                    self.owned.values_mut().for_each(|owned| owned.is_doubtful = true);
                    tokio::time::sleep(backoff(failures)).await;
                    continue;
                }
            }
            self.wait().await;
        }
        self.leave().await;
    }

    /// Does what can be done now.
    async fn turn(&mut self) -> Result<()> {
        if Instant::now() >= self.next_refresh {
            self.refresh().await?;
        }
        self.scan_if_due().await?;
        self.settle_doubts().await?;
        self.admit_suspects().await?;
        self.read_and_ack().await?;
        self.hand_over().await
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let has_work = self.desk.update(|book| book.has_acks())
            || (self.wants() > 0 && self.owned.values().any(|owned| owned.is_readable()));
        if has_work {
            return;
        }
        let cold = self.owned.values().filter(|owned| !owned.is_hot && !owned.is_draining);
        let streams = cold.map(|owned| (owned.partition.stream.as_str(), owned.last));
        let names = &self.shared.names;
        let wake = names.wake(&self.group);
        let watched = [(names.changes.as_str(), self.index.changed), (wake.as_str(), self.woken)];
        self.waiter.watch(watched.into_iter().chain(streams)).await;
        let desk = Arc::clone(&self.desk);
        tokio::select! {
            () = desk.changed.notified() => {}
            news = self.waiter.news() => self.hear(&wake, news),
            () = tokio::time::sleep_until(self.next_refresh.min(self.next_scan)) => {}
        }
    }

    fn hear(&mut self, wake: &str, news: Option<Vec<String>>) {
        let Some(streams) = news else {
            // The connection was lost: anything may have happened.
            self.owned.values_mut().for_each(|owned| owned.is_hot = true);
            self.next_refresh = Instant::now();
            return;
        };
        for stream in streams {
            if stream == self.shared.names.changes || stream == wake {
                self.next_refresh = Instant::now();
            }
            for owned in self.owned.values_mut() {
                owned.is_hot |= owned.partition.stream == stream.as_str();
            }
        }
    }

    /// Shows that this member lives, renews what it owns, and takes or gives its share.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let third = self.shared.config.lease_ttl / 3;
        self.next_refresh = Instant::now() + third.mul_f64(0.9 + 0.1 * random_fraction());
        let version = self.show_presence().await?;
        if version != self.index.version {
            let known = self.index.version;
            self.index = Index::load(&self.shared.link, &self.shared.names).await?;
            self.follow_index(known).await?;
        }
        self.balance().await
    }

    pub(crate) fn next_presence_now(&mut self) {
        self.next_refresh = Instant::now();
    }

    /// How many entries may be read now.
    fn wants(&self) -> usize {
        let (load, prefetch) = self.desk.update(|book| (book.load(), book.prefetch()));
        let window = prefetch + self.ahead;
        if load.waiting > (16 * prefetch).max(4_096) {
            return 0;
        }
        let room = window.saturating_sub(load.out + load.ready);
        // One read of many costs far less than many reads of one.
        if load.ready == 0 || room >= window / 4 { room } else { 0 }
    }

    async fn read_and_ack(&mut self) -> Result<()> {
        let wanted = self.wants();
        let hot = self.owned.values().filter(|owned| owned.is_readable());
        let mut reading: Vec<_> = hot.map(|owned| Arc::clone(&owned.partition)).collect();
        let is_suspicious = |p: &Arc<Partition>| self.desk.update(|b| b.has_suspects_of(p.id));
        reading.retain(|partition| !is_suspicious(partition));
        reading.truncate(wanted);
        let count = wanted.div_ceil(reading.len().max(1));
        let acks = self.desk.update(Book::take_acks);
        let mut pipe = Pipeline::new();
        let acked = self.add_acks(&mut pipe, &acks);
        for partition in &reading {
            pipe.add_command(reader::read(partition, &self.group, &self.consumer, count));
        }
        if pipe.is_empty() {
            return Ok(());
        }
        let answers = match self.shared.consume.run(&pipe).await {
            Ok(answers) => answers,
            Err(error) => {
                self.desk.update(|book| book.return_acks(acks));
                return Err(crate::error::from_driver("read", error, true));
            }
        };
        let mut answers = answers.into_iter();
        let refused = answers.by_ref().take(acked).filter(|answer| !is_ok(answer)).count();
        if refused > 0 {
            self.examine_acks(acks, refused);
        }
        for (partition, answer) in reading.iter().zip(answers) {
            self.receive(partition, answer, count).await?;
        }
        Ok(())
    }

    /// Some acknowledgements did not land: fenced off for good, or to be sent again.
    fn examine_acks(&mut self, acks: Acks, refused: usize) {
        self.shared.vitals.fenced.fetch_add(refused as u64, Ordering::Relaxed);
        self.next_refresh = Instant::now();
        // What is still owned then is sent again; an id twice does no harm.
        self.desk.update(|book| book.return_acks(acks));
    }

    /// Adds the commands that acknowledge; returns how many.
    pub(crate) fn add_acks(&self, pipe: &mut Pipeline, acks: &Acks) -> usize {
        let before = pipe.len();
        let mut by_partition: BTreeMap<PartitionId, Vec<Place>> = BTreeMap::new();
        for place in &acks.places {
            by_partition.entry(place.partition).or_default().push(*place);
        }
        for (id, places) in by_partition {
            let Some(owned) = self.owned.get(&id) else { continue };
            for chunk in places.chunks(IDS) {
                pipe.add_command(self.ack(&owned.partition, chunk, &acks.noted));
            }
        }
        pipe.len() - before
    }

    fn ack(&self, partition: &Partition, places: &[Place], noted: &[Place]) -> Cmd {
        let companions = &partition.companions;
        let (retried, own): (Vec<Place>, Vec<Place>) =
            places.iter().copied().partition(|place| place.is_retry);
        let mut call = Lua::Ack.call(4);
        call.arg(&companions.lease).arg(partition.stream.as_str());
        call.arg(&companions.retry).arg(&companions.state);
        call.arg(&partition.token).arg(self.group.as_str()).arg(own.len()).arg(retried.len());
        for place in own.into_iter().chain(retried) {
            crate::codec::write_id(&mut call, place.id);
        }
        for place in noted.iter().filter(|place| places.contains(place)) {
            call.arg(state_field(*place));
        }
        call
    }

    async fn receive(
        &mut self,
        partition: &Arc<Partition>,
        answer: Value,
        count: usize,
    ) -> Result<()> {
        if let Value::ServerError(error) = &answer {
            if remedy_of_code(error.code()) == Remedy::NoGroup {
                return self.recreate(partition).await;
            }
            return answer.extract_error().map(drop).map_err(|e| {
                crate::error::from_driver("read", e, false)
            });
        }
        let Some(owned) = self.owned.get_mut(&partition.id) else { return Ok(()) };
        match reader::found(partition, answer) {
            Found::Entries { entries, last, own } => {
                owned.is_hot = own >= count || own == 0;
                owned.last = last.unwrap_or(owned.last);
                self.desk.update(|book| add_entries(book, partition, entries));
            }
            Found::Nothing(last) => {
                owned.is_hot = false;
                owned.last = last;
            }
            Found::Fenced => self.lose(partition.id),
            Found::Unreadable => {
                return Err(crate::error::unexpected("read", "entries"));
            }
        }
        Ok(())
    }

    /// Makes the group again on a stream that it or the stream has vanished from.
    async fn recreate(&mut self, partition: &Partition) -> Result<()> {
        let start = self.owned.get(&partition.id).map_or_else(EntryId::default, |owned| owned.last);
        tracing::warn!(stream = %partition.stream, group = %self.group, "the group was gone and is made again");
        let mut pipe = Pipeline::new();
        pipe.cmd("XGROUP").arg("CREATE").arg(partition.stream.as_str()).arg(self.group.as_str());
        pipe.arg(start.to_string()).arg("MKSTREAM");
        pipe.cmd("XGROUP").arg("CREATE").arg(&partition.companions.retry);
        pipe.arg(self.group.as_str()).arg("0").arg("MKSTREAM");
        crate::index::run_creates(&self.shared.consume, &pipe).await
    }

    /// The partition is another's: what was read of it is forgotten.
    pub(crate) fn lose(&mut self, id: PartitionId) {
        if self.owned.remove(&id).is_some() {
            self.desk.update(|book| book.forget(id));
            self.desk.remove_partition(id);
            self.next_refresh = Instant::now();
        }
    }

    /// Where a read failed, takes what the server has given to this member and the member never got.
    async fn settle_doubts(&mut self) -> Result<()> {
        let doubtful = self.owned.values().filter(|owned| owned.is_doubtful);
        let doubtful: Vec<_> = doubtful.map(|owned| Arc::clone(&owned.partition)).collect();
        for partition in doubtful {
            self.take_over(&partition, Whose::Mine, 0).await?;
            if let Some(owned) = self.owned.get_mut(&partition.id) {
                owned.is_doubtful = false;
                owned.is_hot = true;
            }
        }
        Ok(())
    }

    async fn scan_if_due(&mut self) -> Result<()> {
        if Instant::now() < self.next_scan {
            return Ok(());
        }
        self.next_scan = Instant::now() + self.shared.config.discovery_interval;
        crate::discover::scan(&self.shared).await
    }

    /// The ids of what the answer of the presence holds.
    pub(crate) fn last_wake(answer: Value) -> Option<EntryId> {
        let entry = crate::codec::array_of(answer)?.into_iter().next()?;
        EntryId::parse(text_of(crate::codec::array_of(entry)?.swap_remove(0))?.as_bytes())
    }
}

impl Owned {
    pub(crate) fn is_readable(&self) -> bool {
        self.is_hot && !self.is_draining && !self.is_doubtful
    }
}

/// Adds what was read; what groups pass over is acknowledged at once.
fn add_entries(
    book: &mut Book,
    partition: &Partition,
    entries: Vec<(Place, crate::codec::Fields)>,
) {
    for (place, fields) in entries {
        match reader::held(book, partition, place, fields) {
            Some(held) => book.add(held),
            None => book.return_acks(Acks { places: vec![place], noted: Vec::new() }),
        }
    }
}

fn is_ok(answer: &Value) -> bool {
    matches!(answer, Value::BulkString(text) if text == b"ok")
        || matches!(answer, Value::SimpleString(text) if text == "ok")
}
