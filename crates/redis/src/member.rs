//! One member of a group: its task reads the partitions that it owns, acknowledges, renews and hands
//! over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{Pipeline, Value};
use tokio::time::Instant;
use trunkline_core::{Group, GroupSpec, Order, Result, SubscribeOptions};

use crate::book::Book;
use crate::broker::Shared;
use crate::codec::{EntryId, text_of};
use crate::consume::{Desk, Partition};
use crate::entry::{Acks, PartitionId};
use crate::index::{GroupRecord, Index};
use crate::link::{backoff, random_fraction};
use crate::mutant::Mutant;
use crate::reader::Whose;
use crate::settle::{Owner, Settler};
use crate::transact::{Batch, Guard};
use crate::waiter::Waiter;

/// Ids in one command: a script can spread some thousands of arguments and no more.
pub(crate) const IDS: usize = 1_000;

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
    pub(crate) guard: Guard,
    /// What was read and is not in the book yet.
    pub(crate) unpacked: Vec<Batch>,
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
    /// What is pending is looked at before anything is read: all of it where the take-over from the
    /// last owner has failed, this member's own where the answer of a read was lost.
    pub(crate) doubt: Option<Whose>,
    /// The fencing number that proves the lease; absent where members share freely.
    pub(crate) fence: Option<i64>,
    /// Everything up to this id has been read by the group, as far as it is known.
    pub(crate) last: Option<EntryId>,
    /// Whether the group has a stream of retries beside this one, as far as it is known.
    pub(crate) has_retry: Option<bool>,
}

/// Joins a group and starts the member's task; ready when it has its share of the partitions.
pub(crate) async fn join(
    shared: &Arc<Shared>,
    group: Group,
    options: SubscribeOptions,
) -> Result<Arc<Desk>> {
    let mut spec = GroupSpec::new(group.clone(), options.topics.iter().cloned());
    spec.start = options.start.clone();
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
        guard: Guard::new(shared),
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
        unpacked: Vec::new(),
        next_refresh: Instant::now(),
        next_scan: Instant::now() + shared.config.discovery_interval.mul_f64(random_fraction()),
        ahead,
    };
    let settled = member.settle_in().await;
    if settled.is_err() {
        // It leaves at once, with what it has leased.
        desk.begin_close();
    }
    drop(tokio::spawn(member.run()));
    settled.map(|()| desk)
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
                    self.doubt_everything();
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
        let has_work = self.has_enough_acks() || !self.readable(self.wants(0)).0.is_empty();
        let names = &self.shared.names;
        let wake = names.wake(&self.group);
        if !(has_work && self.waiter.is_waiting()) {
            let cold = self.owned.values().filter(|owned| !owned.is_hot && !owned.is_draining);
            let end = |owned: &'_ Owned| owned.last.unwrap_or_default();
            let streams = cold.map(|owned| (owned.partition.stream.as_str(), end(owned)));
            let news = [(names.changes.as_str(), self.index.changed), (wake.as_str(), self.woken)];
            self.waiter.watch(news.into_iter().chain(streams)).await;
        }
        if has_work {
            if let Some(news) = self.waiter.news().now_or_never() {
                self.hear(&wake, news);
            }
            return;
        }
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
        if self.shared.config.breaks(Mutant::NewBeforePending) {
            let owned = self.owned.values().map(|owned| Arc::clone(&owned.partition));
            for partition in owned.collect::<Vec<_>>() {
                self.take_over(&partition, Whose::All, 0).await?;
            }
        }
        self.balance().await
    }

    pub(crate) fn next_presence_now(&mut self) {
        self.next_refresh = Instant::now();
    }

    /// How many entries may be read now.
    fn wants(&self, unpacked: usize) -> usize {
        let (load, prefetch) = self.desk.update(|book| (book.load(), book.prefetch()));
        let window = prefetch + self.ahead;
        if load.waiting > (16 * prefetch).max(4_096) {
            return 0;
        }
        let ready = load.ready + unpacked;
        let room = window.saturating_sub(load.out + ready);
        // One read of many costs far less than many reads of one.
        if ready == 0 || room >= window / 4 { room } else { 0 }
    }

    /// Reads and acknowledges while either is wanted, and now and then looks what else there is to do.
    async fn read_and_ack(&mut self) -> Result<()> {
        const AT_A_TIME: usize = 16;
        let mut done = Ok(true);
        for _ in 0..AT_A_TIME {
            let is_urgent = self.desk.is_closing() || Instant::now() >= self.next_refresh;
            if is_urgent || !matches!(done, Ok(true)) {
                break;
            }
            done = self.read_and_ack_once().await;
        }
        if !self.unpacked.is_empty() {
            self.unpack();
            // Who takes them goes first, before this asks for more.
            tokio::task::yield_now().await;
        }
        done.map(drop)
    }

    /// The partitions to read now, and how many of them are known to have something.
    fn readable(&self, wanted: usize) -> (Vec<Arc<Partition>>, usize) {
        let all = self.owned.values().filter(|owned| !owned.is_draining && owned.doubt.is_none());
        let mut all: Vec<&Owned> = all.collect();
        self.desk.update(|book| all.retain(|owned| !book.has_suspects_of(owned.partition.id)));
        let hot = all.iter().filter(|owned| owned.is_hot).count();
        if hot == 0 {
            return (Vec::new(), 0);
        }
        // To look at the others costs next to nothing; only where little is wanted it could be too much.
        if wanted < 4 * all.len() {
            all.retain(|owned| owned.is_hot);
            all.truncate(wanted);
        }
        let hot = hot.min(all.len());
        (all.into_iter().map(|owned| Arc::clone(&owned.partition)).collect(), hot)
    }

    /// Tells whether there was anything to do.
    async fn read_and_ack_once(&mut self) -> Result<bool> {
        let unpacked: usize = self.unpacked.iter().map(|(_, entries)| entries.len()).sum();
        let wanted = self.wants(unpacked);
        let (reading, hot) = self.readable(wanted);
        let has_acks = self.has_enough_acks();
        if reading.is_empty() && !has_acks {
            return Ok(false);
        }
        let count = wanted.div_ceil(hot.max(1));
        let acks = if has_acks { self.take_enough_acks() } else { Acks::default() };
        if let Err(error) = self.look_for_retries(&reading).await {
            self.desk.update(|book| book.return_acks(acks));
            return Err(error);
        }
        self.transact(acks, &reading, count).await.map(|()| true)
    }

    /// Finds out whether the group has a stream of retries beside each of these.
    async fn look_for_retries(&mut self, reading: &[Arc<Partition>]) -> Result<()> {
        let is_unknown =
            |p: &&Arc<Partition>| self.owned.get(&p.id).is_some_and(|o| o.has_retry.is_none());
        let unknown: Vec<_> = reading.iter().filter(is_unknown).collect();
        let mut pipe = Pipeline::new();
        for partition in &unknown {
            pipe.cmd("EXISTS").arg(&partition.companions.retry);
        }
        let answers = self.shared.consume.all("read", &pipe).await?;
        for (partition, answer) in unknown.into_iter().zip(answers) {
            if let Some(owned) = self.owned.get_mut(&partition.id) {
                owned.has_retry = Some(answer == Value::Int(1));
            }
        }
        Ok(())
    }

    /// Makes the group again on streams that it or they have vanished from.
    pub(crate) async fn recreate(&mut self, partitions: &[Arc<Partition>]) -> Result<()> {
        tracing::warn!(group = %self.group, "the group was gone from a stream and is made again");
        let group = self.group.as_str();
        let mut pipe = Pipeline::new();
        for partition in partitions {
            let Some(owned) = self.owned.get_mut(&partition.id) else { continue };
            // What was read before is in hand, or done with.
            let start = owned.last.unwrap_or_default().to_string();
            pipe.cmd("XGROUP").arg("CREATE").arg(partition.stream.as_str()).arg(group);
            pipe.arg(start).arg("MKSTREAM");
            if owned.has_retry == Some(true) {
                pipe.cmd("XGROUP").arg("CREATE").arg(&partition.companions.retry).arg(group);
                pipe.arg("0").arg("MKSTREAM");
            }
            owned.is_hot = true;
        }
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
