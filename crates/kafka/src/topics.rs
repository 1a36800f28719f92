//! The topics of a cluster: which exist, making those that do not, and where they begin and end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataTopic;
use trunkline_core::{Error, ErrorKind, Pattern, Result, Topic};

use crate::client::{Asking, Clients, Probe, REQUEST};
use crate::names::Names;
use crate::offsets::{self, Edge};
use crate::{error, lock};

/// How long a new topic may take until its partitions have leaders.
pub(crate) const USABLE: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
pub(crate) const BETWEEN: Duration = Duration::from_millis(10);

/// Where the events of a topic go.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    /// How many events without a key took a partition in turn.
    pub(crate) turn: AtomicU32,
}

/// What a topic of ours is for, which decides its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// With the partitions that the topic is to have.
    Events(u32),
    /// Retries and delays, which must not expire. One partition: what is due first is found first,
    /// and members share the partitions of their topics evenly.
    Waiting,
    /// One partition, so that letters have one order; kept until they are settled.
    Letters,
    /// One partition; the last record of each key is kept.
    Registry,
}

/// A partition by its topic's physical name.
pub(crate) type Place32 = (String, i32);

pub(crate) struct Topics {
    pub(crate) names: Names,
    clients: Clients,
    admin: AdminClient<Asking>,
    probe: Arc<Probe>,
    known: RwLock<HashMap<Topic, Arc<Place>>>,
    /// Topics of ours that are known to exist.
    ours: Mutex<HashSet<String>>,
}

impl Topics {
    pub(crate) fn new(clients: Clients, probe: Arc<Probe>) -> Result<Self> {
        Ok(Self {
            names: Names::new(&clients.config.prefix),
            admin: clients.admin()?,
            probe,
            clients,
            known: RwLock::default(),
            ours: Mutex::default(),
        })
    }

    pub(crate) fn known(&self, topic: &Topic) -> Option<Arc<Place>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    pub(crate) fn forget(&self, topic: &Topic) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    fn learn(&self, topic: &Topic, name: String, partitions: u32) -> Arc<Place> {
        let place = Arc::new(Place { name, partitions, turn: AtomicU32::new(0) });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(topic.clone(), Arc::clone(&place));
        place
    }

    /// Where a topic is; it is made when it does not exist. The second value says whether it was.
    pub(crate) async fn place(&self, topic: &Topic) -> Result<(Arc<Place>, bool)> {
        if let Some(place) = self.known(topic) {
            return Ok((place, false));
        }
        let (name, alias) = (self.names.topic(topic), self.names.alias(topic));
        for name in [&name, &alias] {
            if let Some(partitions) = self.partitions(name).await? {
                return Ok((self.learn(topic, name.clone(), partitions), false));
            }
            // Only a name with one of these can be refused for its likeness to another.
            if !topic.as_str().contains(['.', '_']) {
                break;
            }
        }
        if !self.clients.config.create_topics {
            return Err(error::missing_topic(topic));
        }
        let wanted = Purpose::Events(self.clients.config.partitions_of(topic));
        let made = self.make(&[(name.clone(), wanted)]).await;
        let name = match made {
            Err(refused) if refused.context("code") == Some("collision") => {
                self.make(&[(alias.clone(), wanted)]).await?;
                alias
            }
            made => made.map(|()| name)?,
        };
        let partitions = self
            .partitions(&name)
            .await?
            .unwrap_or_else(|| self.clients.config.partitions_of(topic));
        Ok((self.learn(topic, name, partitions), true))
    }

    /// Makes topics, those that exist excepted, and waits until they are usable.
    pub(crate) async fn make(&self, wanted: &[(String, Purpose)]) -> Result<()> {
        let config = &self.clients.config;
        let limit = config.max_record_bytes().to_string();
        let topics: Vec<NewTopic<'_>> = wanted
            .iter()
            .map(|(name, purpose)| {
                let partitions = match purpose {
                    Purpose::Events(partitions) => *partitions,
                    Purpose::Waiting | Purpose::Letters | Purpose::Registry => 1,
                };
                let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
                let replicas = config.replication.map_or(-1, i32::from);
                let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
                let topic = topic.set("max.message.bytes", &limit);
                purpose.configure(topic, &config.topic_properties)
            })
            .collect();
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let outcomes = self.admin.create_topics(&topics, &options).await;
        for outcome in outcomes.map_err(|cause| error::request("create topic", cause))? {
            match outcome {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, Code::InvalidTopic)) => {
                    let message = "Kafka refuses the topic's name, or it differs from that of another \
                                   topic only in `.` and `_`";
                    return Err(Error::new(ErrorKind::Invalid, "create topic", message)
                        .with("code", "collision")
                        .with("name", name));
                }
                Err((name, code)) => return Err(error::refused("create topic", &name, code)),
            }
        }
        let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
        self.ask("create topic", move |probe| wait_until_usable(probe, &names)).await
    }

    /// Makes a topic of ours, unless it is known to exist.
    pub(crate) async fn ensure(&self, name: &str, purpose: Purpose) -> Result<()> {
        if lock(&self.ours).contains(name) {
            return Ok(());
        }
        if self.partitions(name).await?.is_none() {
            self.make(&[(name.to_owned(), purpose)]).await?;
        }
        lock(&self.ours).insert(name.to_owned());
        Ok(())
    }

    /// The partitions of a topic that exists, when they have leaders, as they do not for a moment when a
    /// server has just started.
    pub(crate) async fn partitions(&self, name: &str) -> Result<Option<u32>> {
        let name = name.to_owned();
        self.ask("metadata", move |probe| {
            let metadata = probe
                .fetch_metadata(Some(&name), REQUEST)
                .map_err(|cause| error::request("metadata", cause))?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            let count = found.and_then(partition_count);
            if count.is_some() && found.and_then(usable_partitions).is_none() {
                wait_until_usable(probe, &[name])?;
            }
            Ok(count)
        })
        .await
    }

    /// Every topic of the cluster behind the prefix that can be used, with its number of partitions.
    pub(crate) async fn all(&self) -> Result<Vec<(String, u32)>> {
        self.list(usable_partitions).await
    }

    async fn list(&self, count: fn(&MetadataTopic) -> Option<u32>) -> Result<Vec<(String, u32)>> {
        let prefix = self.clients.config.prefix.clone();
        self.ask("metadata", move |probe| {
            let metadata = probe
                .fetch_metadata(None, REQUEST)
                .map_err(|cause| error::request("metadata", cause))?;
            let ours = metadata.topics().iter().filter(|topic| topic.name().starts_with(&prefix));
            let found =
                ours.filter_map(|topic| count(topic).map(|count| (topic.name().to_owned(), count)));
            Ok(found.collect())
        })
        .await
    }

    /// The topics that match, by physical name, with their partitions. Those without a leader are among
    /// them, and those that patterns name are made.
    pub(crate) async fn matching(&self, patterns: &[Pattern]) -> Result<BTreeMap<String, u32>> {
        let mut found = BTreeMap::new();
        for topic in patterns.iter().filter_map(Pattern::exact) {
            let (place, _) = self.place(&topic).await?;
            found.insert(place.name.clone(), place.partitions);
        }
        if patterns.iter().any(|pattern| pattern.exact().is_none()) {
            for (name, partitions) in self.list(partition_count).await? {
                let topic = self.names.parse(&name);
                if topic.is_some_and(|topic| patterns.iter().any(|p| p.matches(&topic))) {
                    found.insert(name, partitions);
                }
            }
        }
        Ok(found)
    }

    /// Whether the topic keeps the last record of each key only; also where its configuration may not be
    /// read.
    pub(crate) async fn may_be_compacted(&self, name: &str) -> bool {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let asked = [ResourceSpecifier::Topic(name)];
        let Ok(answers) = self.admin.describe_configs(&asked, &options).await else { return true };
        let mut found = answers.iter().flatten().flat_map(|resource| &resource.entries);
        let policy = found.find(|entry| entry.name == "cleanup.policy");
        policy.and_then(|entry| entry.value.as_deref()).is_none_or(|text| text.contains("compact"))
    }

    /// The offsets at an edge of partitions, asked of each leader once.
    pub(crate) async fn offsets(
        &self,
        partitions: Vec<Place32>,
        edge: Edge,
    ) -> Result<HashMap<Place32, i64>> {
        self.ask("offsets", move |probe| offsets::at(probe, &partitions, edge)).await
    }

    /// Runs what blocks where it may block.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&Probe) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let probe = Arc::clone(&self.probe);
        blocking(operation, move || question(&probe)).await
    }

    pub(crate) async fn delete_topic(&self, name: &str) -> Result<()> {
        let outcomes = self.admin.delete_topics(&[name], &AdminOptions::new()).await;
        for outcome in outcomes.map_err(|cause| error::request("delete topic", cause))? {
            match outcome {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
                Err((name, code)) => return Err(error::refused("delete topic", &name, code)),
            }
        }
        Ok(())
    }

    /// Deletes a group's offsets; says whether it had members, and is still there.
    pub(crate) async fn delete_group(&self, name: &str) -> Result<bool> {
        let outcomes = self.admin.delete_groups(&[name], &AdminOptions::new()).await;
        for outcome in outcomes.map_err(|cause| error::request("delete group", cause))? {
            match outcome {
                Ok(_) | Err((_, Code::GroupIdNotFound)) => {}
                Err((_, Code::NonEmptyGroup)) => return Ok(true),
                Err((name, code)) => return Err(error::refused("delete group", &name, code)),
            }
        }
        Ok(false)
    }
}

impl Purpose {
    fn configure<'a>(self, topic: NewTopic<'a>, own: &'a BTreeMap<String, String>) -> NewTopic<'a> {
        match self {
            // Times are the broker's, so that a start at a time means when events were accepted.
            Self::Events(_) => own.iter().fold(
                topic.set("message.timestamp.type", "LogAppendTime"),
                |topic, (name, value)| topic.set(name, value),
            ),
            Self::Waiting | Self::Letters => {
                topic.set("retention.ms", "-1").set("message.timestamp.type", "LogAppendTime")
            }
            Self::Registry => topic.set("cleanup.policy", "compact"),
        }
    }
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|cause| {
        Error::new(ErrorKind::Backend, operation, "the request stopped").because(cause)
    })?
}

/// How many partitions a topic has.
pub(crate) fn partition_count(topic: &MetadataTopic) -> Option<u32> {
    let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
    (topic.error().is_none() && count > 0).then_some(count)
}

/// How many partitions a topic has, when all of them can be used.
fn usable_partitions(topic: &MetadataTopic) -> Option<u32> {
    let is_led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
    partition_count(topic).filter(|_| is_led)
}

fn wait_until_usable(probe: &Probe, names: &[String]) -> Result<()> {
    let deadline = Instant::now() + USABLE;
    for name in names {
        loop {
            let metadata = probe
                .fetch_metadata(Some(name), REQUEST)
                .map_err(|cause| error::request("create topic", cause))?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            if found.and_then(usable_partitions).is_some() {
                break;
            }
            if Instant::now() > deadline {
                let message = "the topic has no leader yet: try again";
                return Err(
                    Error::new(ErrorKind::Disconnected, "create topic", message).with("name", name)
                );
            }
            std::thread::sleep(BETWEEN);
        }
    }
    Ok(())
}
