//! The groups of a prefix and the dead letters that are settled: a compacted topic, followed by a thread.
//!
//! Records are read in the order of the log, and the first that makes a group or gives it a pattern
//! wins: two processes that declare the same group at once agree on where it begins.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use trunkline_core::{
    DeadLetterId, Error, ErrorKind, Group, GroupSpec, Pattern, Result, StartAt, Topic,
};

use crate::client::{Clients, Probe, REQUEST};
use crate::codec::Draft;
use crate::names::Names;
use crate::offsets::Edge;
use crate::position::{self, Beginnings};
use crate::producer::Producer;
use crate::topics::{Purpose, Topics, blocking};
use crate::{error, lock};

/// How long a poll of the follower waits.
const POLL: Duration = Duration::from_millis(100);

/// What a group is, as its record says.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    #[serde(default)]
    pub(crate) lanes: bool,
}

/// What a group takes, and where it begins in the topics that there were.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PatternRecord {
    /// Offsets by partition; a topic that is not named is taken from its beginning.
    #[serde(default)]
    start: Beginnings,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct GroupState {
    pub(crate) record: GroupRecord,
    /// In the order in which they were added.
    patterns: Vec<(Pattern, PatternRecord)>,
}

impl GroupState {
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.patterns.iter().map(|(pattern, _)| pattern.clone()).collect()
    }

    fn covers(&self, pattern: &Pattern) -> bool {
        self.patterns.iter().any(|(known, _)| known == pattern)
    }

    fn takes(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|(pattern, _)| pattern.matches(topic))
    }
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<Group, GroupState>,
    settled: HashSet<String>,
}

/// What registry and follower share.
#[derive(Debug)]
struct Log {
    state: Mutex<State>,
    /// The offset after the last record read.
    position: watch::Sender<i64>,
    /// Told when a group has changed.
    changed: Arc<Notify>,
    stop: AtomicBool,
}

pub(crate) struct Registry {
    names: Names,
    clients: Clients,
    log: Arc<Log>,
    /// Held while the topic is made and the follower started, and while a group is changed.
    is_open: tokio::sync::Mutex<bool>,
}

impl Registry {
    pub(crate) fn new(clients: Clients, names: Names, changed: Arc<Notify>) -> Self {
        let (position, _) = watch::channel(0);
        let log = Log { state: Mutex::default(), position, changed, stop: AtomicBool::new(false) };
        Self { names, clients, log: Arc::new(log), is_open: tokio::sync::Mutex::new(false) }
    }

    /// Reads all there is by now; what is read later follows by itself.
    pub(crate) async fn refresh(&self, topics: &Topics) -> Result<()> {
        let mut is_open = self.is_open.lock().await;
        self.open(&mut is_open, topics).await?;
        drop(is_open);
        self.catch_up(topics).await
    }

    async fn open(&self, is_open: &mut bool, topics: &Topics) -> Result<()> {
        if *is_open {
            return Ok(());
        }
        let name = self.names.registry();
        if topics.partitions(&name).await?.is_none() {
            topics.make(&[(name.clone(), Purpose::Registry)]).await?;
        }
        let (log, clients) = (Arc::clone(&self.log), self.clients.clone());
        let probe = blocking("registry", move || follower(&clients, &name)).await?;
        let thread = std::thread::Builder::new().name("trunkline-groups".to_owned());
        thread.spawn(move || follow(&log, &probe)).map_err(|cause| {
            let message = "no thread could be started for the registry of groups";
            Error::new(ErrorKind::Backend, "registry", message).because(cause)
        })?;
        *is_open = true;
        Ok(())
    }

    async fn catch_up(&self, topics: &Topics) -> Result<()> {
        let place = (self.names.registry(), 0);
        let deadline = Instant::now() + REQUEST;
        // A server that has just started may not know the topic yet.
        let end = loop {
            let mut ends = topics.offsets(vec![place.clone()], Edge::High).await?;
            match ends.remove(&place) {
                Some(end) => break end,
                None if Instant::now() >= deadline => return Err(unread()),
                None => tokio::time::sleep(POLL).await,
            }
        };
        self.wait_for(end).await
    }

    async fn wait_for(&self, end: i64) -> Result<()> {
        let mut position = self.log.position.subscribe();
        let reached = tokio::time::timeout(REQUEST, position.wait_for(|at| *at >= end)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(unread()),
        }
    }

    pub(crate) fn group(&self, group: &Group) -> Option<GroupState> {
        lock(&self.log.state).groups.get(group).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<(Group, GroupState)> {
        let state = lock(&self.log.state);
        state.groups.iter().map(|(name, group)| (name.clone(), group.clone())).collect()
    }

    /// Where a group begins in a partition of which it has committed nothing.
    pub(crate) fn start_of(&self, group: &Group, name: &str, partition: i32) -> i64 {
        let Some(topic) = self.names.parse(name) else { return 0 };
        let state = lock(&self.log.state);
        let Some(group) = state.groups.get(group) else { return 0 };
        let matching = group.patterns.iter().find(|(pattern, _)| pattern.matches(&topic));
        let offsets = matching.and_then(|(_, record)| record.start.get(name));
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        offsets.and_then(|offsets| offsets.get(at)).copied().unwrap_or(0)
    }

    /// Makes a group, or adds patterns to it; `false` when there was nothing to do.
    pub(crate) async fn declare(
        &self,
        topics: &Topics,
        producer: &Producer,
        spec: &GroupSpec,
    ) -> Result<bool> {
        let mut is_open = self.is_open.lock().await;
        self.open(&mut is_open, topics).await?;
        self.catch_up(topics).await?;
        let known = self.group(&spec.name);
        let is_made = known.is_some();
        let known = known.unwrap_or_default();
        let missing: Vec<&Pattern> =
            spec.topics.iter().filter(|pattern| !known.covers(pattern)).collect();
        if is_made && missing.is_empty() {
            return Ok(false);
        }
        // What is added to a group that there is reaches it from now on.
        let is_new = known.patterns.is_empty();
        let start = if is_new { &spec.start } else { &StartAt::Latest };
        let mut drafts = Vec::with_capacity(missing.len() + 1);
        if !is_made {
            drafts.push(draft(&group_key(&spec.name), &GroupRecord { lanes: spec.lanes })?);
        }
        for pattern in missing {
            let begins = self.starts(topics, &known, pattern, start).await?;
            drafts.push(draft(&pattern_key(&spec.name, pattern), &begins)?);
        }
        // Nothing is written before everything is known: a group half made would begin elsewhere when it
        // is declared again.
        let mut end = 0;
        for draft in drafts {
            end = producer.write(&self.names.registry(), draft).await? + 1;
        }
        self.wait_for(end).await?;
        Ok(true)
    }

    /// Where a pattern begins in the topics that there are.
    async fn starts(
        &self,
        topics: &Topics,
        known: &GroupState,
        pattern: &Pattern,
        start: &StartAt,
    ) -> Result<PatternRecord> {
        if *start == StartAt::Beginning {
            return Ok(PatternRecord::default());
        }
        let (patterns, limit) =
            (std::slice::from_ref(pattern), self.clients.config.connect_timeout);
        let mut start = position::beginnings(topics, patterns, start, limit).await?;
        start.retain(|name, _| !self.names.parse(name).is_some_and(|topic| known.takes(&topic)));
        Ok(PatternRecord { start })
    }

    /// Forgets a group.
    pub(crate) async fn remove(&self, producer: &Producer, group: &Group) -> Result<()> {
        let _changing = self.is_open.lock().await;
        let Some(state) = self.group(group) else { return Ok(()) };
        let mut keys: Vec<String> =
            state.patterns().iter().map(|pattern| pattern_key(group, pattern)).collect();
        keys.push(group_key(group));
        let mut end = 0;
        for key in keys {
            end = producer.write(&self.names.registry(), Draft::plain(&key, None)).await? + 1;
        }
        self.wait_for(end).await
    }

    pub(crate) fn is_settled(&self, letter: &DeadLetterId) -> bool {
        lock(&self.log.state).settled.contains(letter.0.as_str())
    }

    /// Notes that a dead letter is settled; the first note counts.
    pub(crate) async fn settle(
        &self,
        topics: &Topics,
        producer: &Producer,
        letter: &DeadLetterId,
    ) -> Result<()> {
        let _changing = self.is_open.lock().await;
        self.catch_up(topics).await?;
        if self.is_settled(letter) {
            return Err(error::letter_gone());
        }
        let draft = Draft::plain(&letter_key(letter), Some(b"{}".to_vec()));
        let end = producer.write(&self.names.registry(), draft).await? + 1;
        self.wait_for(end).await
    }

    pub(crate) fn stop(&self) {
        self.log.stop.store(true, Ordering::Release);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn unread() -> Error {
    let message = "the registry of groups could not be read in time: try again";
    Error::new(ErrorKind::Disconnected, "registry", message)
}

fn group_key(group: &Group) -> String {
    format!("group/{group}")
}

fn pattern_key(group: &Group, pattern: &Pattern) -> String {
    format!("pattern/{group}/{pattern}")
}

fn letter_key(letter: &DeadLetterId) -> String {
    format!("letter/{}", letter.0)
}

fn draft<T: Serialize>(key: &str, record: &T) -> Result<Draft> {
    let json = serde_json::to_vec(record).map_err(|cause| {
        let message = "a record of the registry does not encode";
        Error::new(ErrorKind::Encode, "registry", message).because(cause)
    })?;
    Ok(Draft::plain(key, Some(json)))
}

fn follower(clients: &Clients, name: &str) -> Result<Probe> {
    let probe = clients.probe_of(name)?;
    let mut list = TopicPartitionList::new();
    let failed = |cause| error::request("registry", cause);
    list.add_partition_offset(name, 0, Offset::Beginning).map_err(failed)?;
    probe.assign(&list).map_err(failed)?;
    Ok(probe)
}

fn follow(log: &Log, probe: &Probe) {
    while !log.stop.load(Ordering::Acquire) {
        match probe.poll(POLL) {
            None => {}
            Some(Err(cause)) => tracing::debug!(%cause, "following the registry of groups"),
            Some(Ok(message)) => {
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
                if let Some(key) = key {
                    lock(&log.state).read(key, message.payload());
                    log.changed.notify_one();
                }
                log.position.send_replace(message.offset() + 1);
            }
        }
    }
}

impl State {
    fn read(&mut self, key: &str, value: Option<&[u8]>) {
        let mut words = key.split('/');
        match (words.next(), words.next(), words.next()) {
            (Some("group"), Some(group), None) => self.read_group(group, value),
            (Some("pattern"), Some(group), Some(pattern)) => {
                self.read_pattern(group, pattern, value);
            }
            (Some("letter"), ..) => {
                let letter = key.trim_start_matches("letter/").to_owned();
                if value.is_some() {
                    self.settled.insert(letter);
                } else {
                    self.settled.remove(&letter);
                }
            }
            _ => {}
        }
    }

    fn read_group(&mut self, group: &str, value: Option<&[u8]>) {
        let Ok(group) = Group::new(group) else { return };
        let Some(value) = value else {
            self.groups.remove(&group);
            return;
        };
        let record = serde_json::from_slice(value).unwrap_or_default();
        self.groups.entry(group).or_insert(GroupState { record, patterns: Vec::new() });
    }

    fn read_pattern(&mut self, group: &str, pattern: &str, value: Option<&[u8]>) {
        let (Ok(group), Ok(pattern)) = (Group::new(group), Pattern::new(pattern)) else { return };
        let Some(state) = self.groups.get_mut(&group) else { return };
        match value {
            Some(_) if state.covers(&pattern) => {}
            Some(value) => {
                let record = serde_json::from_slice(value).unwrap_or_default();
                state.patterns.push((pattern, record));
            }
            None => state.patterns.retain(|(known, _)| *known != pattern),
        }
    }
}
