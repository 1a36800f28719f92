//! A broadcast subscriber: reads every stream of its topics from where it was when it subscribed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use smol_str::SmolStr;
use tokio::time::Instant;
use trunkline_core::{Pattern, Result, SubscribeOptions, Topic};

use crate::book::Book;
use crate::broker::Shared;
use crate::codec::{self, EntryId, Fields, array_of, int_of, streams_of};
use crate::consume::{Desk, Partition};
use crate::entry::{PartitionId, Place};
use crate::error::{from_driver, unexpected};
use crate::index::{Index, register_topic};
use crate::link::{Link, backoff};
use crate::names::{Companions, readers_of};
use crate::position::Begin;
use crate::publish::millis;
use crate::reader;
use crate::scripts::Lua;
use crate::settle::{Owner, Settler};

/// How long one read blocks.
const BLOCK: Duration = Duration::from_millis(1_000);
/// How often the server is told how far this has read.
const HEARTBEAT: Duration = Duration::from_secs(3);

struct Subscriber {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// It blocks, so nothing else goes through it.
    link: Arc<Link>,
    name: String,
    topics: Vec<Pattern>,
    streams: BTreeMap<String, Reading>,
    /// Where streams begin that are found later: when this subscribed.
    began: EntryId,
    index: Index,
    inbox: EntryId,
    ahead: usize,
    next_beat: Instant,
}

/// A stream that is to be read.
struct Found {
    stream: SmolStr,
    topic: Topic,
    number: u32,
}

/// How far a stream has been read.
struct Reading {
    id: PartitionId,
    topic: Topic,
    at: EntryId,
}

/// Subscribes and starts the subscriber's task; ready when its place in every stream is fixed.
pub(crate) async fn join(shared: &Arc<Shared>, options: SubscribeOptions) -> Result<Arc<Desk>> {
    let begin = Begin::of(&options.start)?;
    for topic in options.topics.iter().filter_map(Pattern::exact) {
        register_topic(&shared.link, &shared.names, &topic, &shared.config).await?;
    }
    let name = shared.unique("b").replace('|', "-");
    let settler = Settler { shared: Arc::clone(shared), owner: Owner::Subscriber(name.clone()) };
    let desk = Desk::new(Book::new(options.prefetch, true, options.lanes), settler);
    let patience = BLOCK + shared.config.response_timeout.min(Duration::from_secs(2));
    let link = Link::new(&shared.config, patience, &shared.vitals);
    let mut subscriber = Subscriber {
        shared: Arc::clone(shared),
        desk: Arc::clone(&desk),
        link: Arc::new(link),
        name,
        topics: options.topics,
        streams: BTreeMap::new(),
        began: EntryId::default(),
        index: Index::default(),
        inbox: EntryId::default(),
        ahead: if options.lanes {
            shared.config.lane_window
        } else if options.prefetch >= 64 {
            options.prefetch
        } else {
            0
        },
        next_beat: Instant::now(),
    };
    let settled = subscriber.settle_in(begin).await;
    if settled.is_err() {
        // It leaves at once, so that it holds no trimming back.
        desk.begin_close();
    }
    drop(tokio::spawn(subscriber.run()));
    settled.map(|()| desk)
}

impl Subscriber {
    /// Fixes where each stream is read from, and tells those who trim.
    async fn settle_in(&mut self, begin: Option<Begin>) -> Result<()> {
        let mut time = redis::cmd("TIME");
        time.arg(&[] as &[&str]);
        let now = self.shared.link.one("subscribe", time).await?;
        let seconds = array_of(now).and_then(|parts| int_of(parts.first()?));
        let seconds = seconds.and_then(|s| u64::try_from(s).ok());
        let seconds = seconds.ok_or_else(|| unexpected("subscribe", "time"))?;
        self.began = EntryId { ms: (seconds * 1_000).saturating_sub(1), seq: u64::MAX };
        self.beat().await?;
        self.index = Index::load(&self.shared.link, &self.shared.names).await?;
        self.began = begin.as_ref().map_or(self.began, |begin| begin.after);
        let found = self.missing_streams();
        let places = match begin {
            Some(begin) => found.iter().map(|found| begin.in_stream(&found.stream)).collect(),
            None => self.ends_of(&found).await?,
        };
        for (found, at) in found.into_iter().zip(places) {
            self.open(found, at);
        }
        self.beat().await
    }

    fn missing_streams(&self) -> Vec<Found> {
        let taken = |topic: &Topic| self.topics.iter().any(|pattern| pattern.matches(topic));
        let topics = self.index.topics.iter().filter(|(topic, _)| taken(topic));
        let names = &self.shared.names;
        let streams = topics.flat_map(|(topic, record)| {
            (0..record.partitions).map(|number| Found {
                stream: names.stream(topic, number),
                topic: topic.clone(),
                number,
            })
        });
        streams.filter(|found| !self.streams.contains_key(found.stream.as_str())).collect()
    }

    /// The last id of each stream.
    async fn ends_of(&self, streams: &[Found]) -> Result<Vec<EntryId>> {
        let mut pipe = Pipeline::with_capacity(streams.len());
        for Found { stream, .. } in streams {
            pipe.cmd("XREVRANGE").arg(stream.as_str()).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let answers = self.shared.link.all("subscribe", &pipe).await?;
        let end = |answer| {
            let entry = array_of(answer)?.into_iter().next()?;
            EntryId::parse(&codec::bytes_of(array_of(entry)?.swap_remove(0))?)
        };
        Ok(answers.into_iter().map(|answer| end(answer).unwrap_or_default()).collect())
    }

    fn open(&mut self, Found { stream, topic, number }: Found, at: EntryId) {
        // The first is the inbox's.
        let id = PartitionId::try_from(self.streams.len() + 1).unwrap_or(PartitionId::MAX);
        self.desk.update(|book| book.open(id, None));
        self.streams.insert(stream.to_string(), Reading { id, topic: topic.clone(), at });
        // Nothing stands beside it for a subscriber, and no lease is needed to read it.
        let companions = Companions::default();
        let (token, fence) = (String::new(), String::new());
        let partition = Partition { id, topic, number, stream, companions, token, fence };
        self.desk.add_partition(Arc::new(partition));
    }

    /// Says that this subscriber lives and how far it has read.
    async fn beat(&mut self) -> Result<()> {
        self.next_beat = Instant::now() + HEARTBEAT;
        let (names, config) = (&self.shared.names, &self.shared.config);
        let mut pipe = Pipeline::with_capacity(self.streams.len() + 1);
        let mut presence = Lua::Presence.call(2);
        presence.arg(&names.subscribers).arg(&names.version);
        presence.arg(&self.name).arg(millis(config.subscriber_ttl));
        pipe.add_command(presence);
        for (stream, reading) in &self.streams {
            pipe.cmd("HSET").arg(readers_of(stream)).arg(&self.name).arg(reading.at.to_string());
        }
        self.shared.consume.all("heartbeat", &pipe).await.map(drop)
    }

    async fn run(mut self) {
        self.desk.update(|book| book.open(0, None));
        let mut failures = 0;
        while !self.desk.is_closing() {
            match self.turn().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "the broadcast subscriber reads again");
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "a broadcast subscriber is forgotten later");
        }
        self.desk.flushed.send_replace(true);
    }

    async fn turn(&mut self) -> Result<()> {
        if Instant::now() >= self.next_beat {
            self.beat().await?;
        }
        let wanted = self.desk.update(|book| {
            drop(book.take_acks());
            let (load, window) = (book.load(), book.prefetch() + self.ahead);
            let room = window.saturating_sub(load.out + load.ready);
            let is_stuck = load.waiting > (16 * book.prefetch()).max(4_096);
            if is_stuck { 0 } else { room }
        });
        if wanted == 0 {
            let desk = Arc::clone(&self.desk);
            tokio::select! {
                () = desk.changed.notified() => {}
                () = tokio::time::sleep_until(self.next_beat) => {}
            }
            return Ok(());
        }
        let Some(answer) = self.read(wanted).await? else { return Ok(()) };
        self.receive(answer).await
    }

    /// Reads up to about `wanted` entries; `None` when the subscription is being closed.
    async fn read(&self, wanted: usize) -> Result<Option<Value>> {
        let names = &self.shared.names;
        let inbox = names.inbox(&self.name);
        let count = wanted.div_ceil(self.streams.len().max(1));
        let mut pipe = Pipeline::with_capacity(1);
        pipe.cmd("XREAD").arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis().to_string());
        pipe.arg("STREAMS").arg(&names.changes).arg(&inbox);
        for stream in self.streams.keys() {
            pipe.arg(stream);
        }
        pipe.arg(self.index.changed.to_string()).arg(self.inbox.to_string());
        for reading in self.streams.values() {
            pipe.arg(reading.at.to_string());
        }
        let link = Arc::clone(&self.link);
        let mut reading = Box::pin(async move { link.run(&pipe).await });
        loop {
            tokio::select! {
                answer = &mut reading => {
                    let mut values = answer.map_err(|e| from_driver("read", e, false))?;
                    let value = values.pop().unwrap_or(Value::Nil);
                    return value.extract_error().map(Some).map_err(|e| from_driver("read", e, false));
                }
                // A plain read takes nothing, so it may be left alone.
                () = self.desk.changed.notified() => {
                    if self.desk.is_closing() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn receive(&mut self, answer: Value) -> Result<()> {
        if answer == Value::Nil {
            return Ok(());
        }
        let streams = streams_of(answer).ok_or_else(|| unexpected("read", "entries"))?;
        let inbox = self.shared.names.inbox(&self.name);
        let mut is_index_old = false;
        for (stream, entries) in streams {
            if stream == self.shared.names.changes {
                is_index_old = true;
            } else if stream == inbox {
                self.receive_redriven(entries).await?;
            } else if let Some(reading) = self.streams.get_mut(&stream) {
                reading.at = entries.last().map_or(reading.at, |(id, _)| *id);
                let (id, topic) = (reading.id, &reading.topic);
                self.desk.update(|book| {
                    entries.into_iter().for_each(|(at, fields)| add(book, id, topic, at, fields));
                });
            }
        }
        if is_index_old {
            self.index = Index::load(&self.shared.link, &self.shared.names).await?;
            for found in self.missing_streams() {
                self.open(found, self.began);
            }
            self.beat().await?;
        }
        Ok(())
    }

    /// Dead letters of this subscriber that come back.
    async fn receive_redriven(&mut self, entries: Vec<(EntryId, Fields)>) -> Result<()> {
        let mut forget = redis::cmd("XDEL");
        forget.arg(self.shared.names.inbox(&self.name));
        for (at, fields) in entries {
            self.inbox = at;
            codec::write_id(&mut forget, at);
            let fields: HashMap<_, _> = fields.into_iter().collect();
            let topic = fields.get(b"tl-topic".as_slice());
            let topic = topic.and_then(|text| Topic::new(std::str::from_utf8(text).ok()?).ok());
            let Some(topic) = topic else { continue };
            self.desk.update(|book| add(book, 0, &topic, at, fields.into_iter().collect()));
        }
        self.shared.consume.one("redrive", forget).await.map(drop)
    }

    async fn leave(&self) -> Result<()> {
        let names = &self.shared.names;
        let mut pipe = Pipeline::new();
        pipe.cmd("ZREM").arg(&names.subscribers).arg(&self.name);
        pipe.cmd("DEL").arg(names.inbox(&self.name));
        for stream in self.streams.keys() {
            pipe.cmd("HDEL").arg(readers_of(stream)).arg(&self.name);
        }
        self.shared.consume.all("leave", &pipe).await.map(drop)
    }
}

fn add(book: &mut Book, partition: PartitionId, topic: &Topic, id: EntryId, fields: Fields) {
    let entry = codec::read(fields, topic);
    let place = Place { partition, is_retry: false, id };
    let seq = book.next_seq();
    book.add(reader::of_entry(entry, place, seq));
}
