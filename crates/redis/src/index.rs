//! What is known of topics and groups: the index that publishers and readers keep on the server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redis::{Pipeline, Value};
use serde::Deserialize;
use smol_str::SmolStr;
use trunkline_core::{ErrorKind, Group, GroupSpec, Order, Pattern, Result, Topic};

use crate::codec::{EntryId, array_of, bytes_of, pairs_of, text_of};
use crate::config::RedisConfig;
use crate::error::unexpected;
use crate::link::Link;
use crate::names::Names;
use crate::position::{start_in, start_text};
use crate::scripts::Lua;

/// A topic as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicRecord {
    pub(crate) partitions: u32,
    /// When it was made, counted in changes of the index.
    version: u64,
}

impl TopicRecord {
    /// Whether the topic was made after that change of the index.
    pub(crate) fn is_after(self, version: u64) -> bool {
        self.version > version
    }
}

/// A group as the index has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct GroupRecord {
    patterns: Vec<PatternRecord>,
    order: SmolStr,
    #[serde(default)]
    pub(crate) lanes: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct PatternRecord {
    #[serde(rename = "p")]
    pattern: Pattern,
    #[serde(rename = "v")]
    version: u64,
    #[serde(rename = "s")]
    start: SmolStr,
}

impl GroupRecord {
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.patterns.iter().map(|record| record.pattern.clone()).collect()
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.order != "none"
    }

    pub(crate) fn takes(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|record| record.pattern.matches(topic))
    }

    /// Where the group begins on a topic that it takes: at the topic's beginning when it came later.
    pub(crate) fn start_on(&self, topic: &Topic, record: TopicRecord) -> Option<&str> {
        let first = self.patterns.iter().find(|known| known.pattern.matches(topic))?;
        Some(if record.version > first.version { "0" } else { &first.start })
    }
}

/// All topics and groups at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) topics: BTreeMap<Topic, TopicRecord>,
    pub(crate) groups: BTreeMap<Group, GroupRecord>,
    pub(crate) version: u64,
    /// The last change that is in it.
    pub(crate) changed: EntryId,
}

impl Index {
    pub(crate) async fn load(link: &Link, names: &Names) -> Result<Self> {
        let mut pipe = Pipeline::with_capacity(6);
        pipe.cmd("MULTI");
        pipe.cmd("XREVRANGE").arg(&names.changes).arg("+").arg("-").arg("COUNT").arg(1);
        pipe.cmd("HGETALL").arg(&names.topics);
        pipe.cmd("HGETALL").arg(&names.groups);
        pipe.cmd("GET").arg(&names.version);
        pipe.cmd("EXEC");
        let answers = link.all("read the index", &pipe).await?;
        let missing = || unexpected("read the index", "index");
        let parts = answers.into_iter().next_back().and_then(array_of).ok_or_else(missing)?;
        let [changes, topics, groups, version] =
            <[Value; 4]>::try_from(parts).ok().ok_or_else(missing)?;
        let last = array_of(changes).and_then(|found| found.into_iter().next());
        let changed = last
            .and_then(array_of)
            .and_then(|mut entry| EntryId::parse(&bytes_of(entry.swap_remove(0))?));
        Ok(Self {
            topics: topics_of(topics),
            groups: groups_of(groups),
            version: text_of(version).and_then(|text| text.parse().ok()).unwrap_or(0),
            changed: changed.unwrap_or_default(),
        })
    }
}

/// Makes a topic known, and every group that takes it present on its streams; returns its partitions.
pub(crate) async fn register_topic(
    link: &Link,
    names: &Names,
    topic: &Topic,
    config: &RedisConfig,
) -> Result<TopicRecord> {
    let mut call = Lua::Topic.call(4);
    call.arg(&names.version).arg(&names.topics).arg(&names.groups).arg(&names.changes);
    call.arg(topic.as_str()).arg(config.partitions_of(topic));
    let answer = link.one("register topic", call).await?;
    let missing = || unexpected("register topic", "topic");
    let mut parts = array_of(answer).ok_or_else(missing)?.into_iter();
    let record = parts.next().and_then(text_of).and_then(|text| parse_topic(&text));
    let record = record.ok_or_else(missing)?;
    let groups = parts.next().map(groups_of).unwrap_or_default();
    let mut pipe = Pipeline::new();
    for (name, group) in &groups {
        if let Some(start) = group.start_on(topic, record) {
            create_groups(&mut pipe, names, topic, record, name, start);
        }
    }
    run_creates(link, &pipe).await?;
    Ok(record)
}

/// Makes a group known, or adds topics to it, and makes it present on every stream that it takes.
pub(crate) async fn declare_group(
    link: &Link,
    names: &Names,
    spec: &GroupSpec,
    config: &RedisConfig,
) -> Result<GroupRecord> {
    let start = start_text(&spec.start)?;
    // Topics that are named are made first, so that the group's start applies to nothing or to what
    // foreign programs wrote before.
    for topic in spec.topics.iter().filter_map(Pattern::exact) {
        register_topic(link, names, &topic, config).await?;
    }
    let mut call = Lua::Group.call(4);
    call.arg(&names.version).arg(&names.topics).arg(&names.groups).arg(&names.changes);
    call.arg(spec.name.as_str()).arg(start);
    call.arg(if spec.order == Order::None { "none" } else { "per_key" });
    call.arg(if spec.lanes { "1" } else { "0" });
    for pattern in &spec.topics {
        call.arg(pattern.as_str());
    }
    let answer = link.one("declare group", call).await?;
    let missing = || unexpected("declare group", "group");
    let mut parts = array_of(answer).ok_or_else(missing)?.into_iter();
    let raw = parts.next().and_then(bytes_of).ok_or_else(missing)?;
    let group = parse_group(&raw).ok_or_else(missing)?;
    let topics = parts.next().map(topics_of).unwrap_or_default();
    let mut pipe = Pipeline::new();
    for (topic, record) in &topics {
        if let Some(start) = group.start_on(topic, *record) {
            create_groups(&mut pipe, names, topic, *record, &spec.name, start);
        }
    }
    run_creates(link, &pipe).await?;
    Ok(group)
}

/// Adds the commands that make a group present on the streams of a topic.
pub(crate) fn create_groups(
    pipe: &mut Pipeline,
    names: &Names,
    topic: &Topic,
    record: TopicRecord,
    group: &Group,
    start: &str,
) {
    for partition in 0..record.partitions {
        let stream = names.stream(topic, partition);
        pipe.cmd("XGROUP").arg("CREATE").arg(stream.as_str()).arg(group.as_str());
        pipe.arg(start_in(start, &stream)).arg("MKSTREAM");
    }
}

/// Runs commands that make groups; one that is there already is fine.
pub(crate) async fn run_creates(link: &Link, pipe: &Pipeline) -> Result<()> {
    if pipe.is_empty() {
        return Ok(());
    }
    let answers = link.run(pipe).await;
    let answers = answers.map_err(|e| crate::error::from_driver("make group", e, true))?;
    for answer in answers {
        match answer {
            Value::ServerError(error) if error.code() == "BUSYGROUP" => {}
            answer => {
                let checked = answer.extract_error();
                checked.map_err(|e| crate::error::from_driver("make group", e, false))?;
            }
        }
    }
    Ok(())
}

fn parse_topic(text: &str) -> Option<TopicRecord> {
    let (partitions, version) = text.split_once(':')?;
    let partitions = partitions.parse().ok().filter(|count| *count > 0)?;
    Some(TopicRecord { partitions, version: version.parse().ok()? })
}

pub(crate) fn parse_group(json: &[u8]) -> Option<GroupRecord> {
    serde_json::from_slice(json).ok()
}

fn topics_of(value: Value) -> BTreeMap<Topic, TopicRecord> {
    let pairs = pairs_of(value).unwrap_or_default();
    let read = pairs.into_iter().filter_map(|(name, record)| {
        let topic = Topic::new(std::str::from_utf8(&name).ok()?).ok()?;
        Some((topic, parse_topic(std::str::from_utf8(&record).ok()?)?))
    });
    read.collect()
}

fn groups_of(value: Value) -> BTreeMap<Group, GroupRecord> {
    let pairs = pairs_of(value).unwrap_or_default();
    let read = pairs.into_iter().filter_map(|(name, record)| {
        let group = Group::new(std::str::from_utf8(&name).ok()?).ok()?;
        Some((group, parse_group(&record)?))
    });
    read.collect()
}

/// The streams of the topics that publishers of this process have met.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: HashMap<Topic, Arc<Route>, foldhash::fast::RandomState>,
}

/// The streams of one topic, in the order of its partitions.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) streams: Vec<Stream>,
}

/// One partition as publishers see it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: SmolStr,
    /// Something was published since it was last trimmed.
    pub(crate) is_touched: AtomicBool,
}

impl Routes {
    /// More topics than this are forgotten all at once.
    const REMEMBERED: usize = 10_000;

    pub(crate) fn get(&self, topic: &Topic) -> Option<Arc<Route>> {
        self.known.get(topic).cloned()
    }

    pub(crate) fn add(&mut self, names: &Names, topic: &Topic, record: TopicRecord) -> Arc<Route> {
        if self.known.len() >= Self::REMEMBERED {
            self.known.clear();
        }
        let stream = |n| Stream { name: names.stream(topic, n), is_touched: AtomicBool::new(true) };
        let streams = (0..record.partitions).map(stream).collect();
        let route = Arc::new(Route { streams });
        self.known.insert(topic.clone(), Arc::clone(&route));
        route
    }

    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.known.values().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

/// The partition that a publish asks for, or an error that tells how many there are.
pub(crate) fn check_partition(wanted: u32, route: &Route, topic: &Topic) -> Result<usize> {
    let at = usize::try_from(wanted).unwrap_or(usize::MAX);
    if at < route.streams.len() {
        return Ok(at);
    }
    let message = format!("topic `{topic}` has {} partitions, counted from 0", route.streams.len());
    Err(trunkline_core::Error::new(ErrorKind::Invalid, "publish", message)
        .with("partition", wanted))
}
