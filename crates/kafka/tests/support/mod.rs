//! The broker as the suites want it: short sessions, few partitions, and hooks over the plain driver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers as _, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use trunkline_core::{
    Capabilities, Durability, Error, ErrorKind, Group, Result, Topic, partition_of,
};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, RawHeaders};

/// How soon a dead member is noticed.
const SESSION: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(150);
const REQUEST: Duration = Duration::from_secs(10);

/// With the retries' partition six: two members have three each, three have two, and none of them has two
/// of the topic more than another.
const PARTITIONS: u32 = 5;

/// Twice the default of `commit_interval`: a commit may be on its way unanswered when the next is due.
const ACK_INTERVAL: Duration = Duration::from_millis(400);

/// What the broker can do, pinned.
pub(crate) fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("kafka", Durability::Replicated);
    pinned.history = true;
    pinned.start_at_time = true;
    pinned.start_at_position = true;
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.dead_letters = true;
    pinned.partition = true;
    pinned.headers = true;
    pinned
}

/// The settings of a property.
pub(crate) fn config(conditions: &BrokerConditions) -> Result<KafkaConfig> {
    let url = conditions.url.clone().unwrap_or_default();
    let mut config = KafkaConfig::new(&url)?
        .with_prefix(&conditions.prefix)?
        .with_partitions(PARTITIONS)
        .with_replication(1)
        .with_session_timeout(SESSION, HEARTBEAT)
        .with_discovery_interval(Duration::from_millis(500))
        .with_drain_timeout(Duration::from_secs(15))
        // Unused without a login, and never to be seen: its URL holds no credential.
        .with_property("sasl.password", "hunter2-is-secret")?;
    if let Some(timeout) = conditions.publish_timeout {
        config = config.with_publish_timeout(timeout);
    }
    if let Some(bytes) = conditions.max_event_bytes {
        config = config.with_max_event_bytes(bytes);
    }
    Ok(config)
}

/// A broker for a property, with its hooks.
pub(crate) async fn broker(conditions: BrokerConditions) -> Result<Fixture<KafkaBroker>> {
    let broker = KafkaBroker::connect(config(&conditions)?).await?;
    Ok(fixture(broker, conditions))
}

/// Adds the hooks to a broker.
pub(crate) fn fixture(broker: KafkaBroker, conditions: BrokerConditions) -> Fixture<KafkaBroker> {
    let server = Server {
        address: conditions.url.unwrap_or_default().replace("kafka://", ""),
        prefix: conditions.prefix,
    };
    let [writing, removing, refusing, counting, cleaning] = [(); 5].map(|()| server.clone());
    Fixture::new(broker)
        .with_takeover(SESSION + Duration::from_secs(2))
        .with_ack_interval(ACK_INTERVAL)
        .with_partitions(PARTITIONS, |key| partition_of(key, PARTITIONS))
        // Time and size of a topic decide what stays, and nobody's progress.
        .without_retention_by_count()
        .with_header_tap(move |topic| {
            let server = server.clone();
            async move { Ok(async move { server.headers(topic).await }) }
        })
        .with_raw_writer(move |topic, bytes| {
            let server = writing.clone();
            async move { server.write(topic, bytes).await }
        })
        .with_group_remover(move |group| {
            let server = removing.clone();
            async move { server.remove(group).await }
        })
        .with_letter_refuser(move |topic, group| {
            let server = refusing.clone();
            async move { server.refuse_letters(topic, group).await }
        })
        .with_census(move || {
            let server = counting.clone();
            async move { server.census().await }
        })
        .at_end(async move { cleaning.clean().await })
}

/// A server as a program sees it that uses the plain driver.
#[derive(Clone)]
struct Server {
    address: String,
    prefix: String,
}

impl Server {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.address);
        client
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client().create().map_err(failed)
    }

    async fn write(&self, topic: Topic, bytes: Vec<u8>) -> Result<()> {
        let producer: FutureProducer = self.client().create().map_err(failed)?;
        let name = format!("{}{topic}", self.prefix);
        let record = FutureRecord::<(), _>::to(&name).payload(&bytes);
        let written = producer.send(record, REQUEST).await;
        written.map(drop).map_err(|(cause, _)| failed(cause))
    }

    /// The headers of a record of a topic, in whatever partition.
    async fn headers(self, topic: Topic) -> Result<RawHeaders> {
        let name = format!("{}{topic}", self.prefix);
        let reading = tokio::task::spawn_blocking(move || {
            let mut client = self.client();
            let reader: BaseConsumer = client.set("group.id", "test").create().map_err(failed)?;
            let mut all = TopicPartitionList::new();
            for partition in 0..i32::try_from(PARTITIONS).unwrap_or_default() {
                let begun = all.add_partition_offset(&name, partition, Offset::Beginning);
                begun.map_err(failed)?;
            }
            reader.assign(&all).map_err(failed)?;
            let record = reader.poll(REQUEST).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "test", "the topic holds no record")
            })?;
            let record = record.map_err(failed)?;
            let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
            let plain = |header: Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
            };
            Ok(headers.map(plain).collect())
        });
        reading.await.map_err(failed)?
    }

    /// Deletes a group although it has members: Kafka refuses that, so they are thrown out first, as its
    /// own tools do it. A live one comes back at once, and is thrown out again until the group is gone.
    async fn remove(&self, group: Group) -> Result<()> {
        let name = format!("{}{group}", self.prefix);
        let (admin, options) = (self.admin()?, AdminOptions::new());
        let deadline = tokio::time::Instant::now() + REQUEST;
        loop {
            let server = self.clone();
            let ours = name.clone();
            let thrown_out = tokio::task::spawn_blocking(move || server.throw_out(&ours));
            thrown_out.await.map_err(failed)??;
            let deleted = admin.delete_groups(&[&name], &options).await.map_err(failed)?;
            match deleted.into_iter().next() {
                Some(Ok(_)) => return Ok(()),
                Some(Err((_, RDKafkaErrorCode::NonEmptyGroup)))
                    if tokio::time::Instant::now() < deadline => {}
                Some(Err((_, code))) => return Err(failed(code)),
                None => {
                    let message = "the server said nothing of the group";
                    return Err(Error::new(ErrorKind::Backend, "test", message));
                }
            }
        }
    }

    /// Has every member of a group leave it, as nobody but themselves could know.
    fn throw_out(&self, group: &str) -> Result<()> {
        let probe: BaseConsumer = self.client().create().map_err(failed)?;
        let list = probe.fetch_group_list(Some(group), REQUEST).map_err(failed)?;
        let mut members = list.groups().iter().flat_map(|group| group.members());
        members.try_for_each(|member| leave(&self.address, group, member.id()))
    }

    /// Makes the topic of the dead letters first, with room for none; it can be given room.
    async fn refuse_letters(
        &self,
        topic: Topic,
        group: Group,
    ) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let name = format!("{}{topic}..dlq.{group}", self.prefix);
        let made = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set(LARGEST, "1");
        let (admin, options) = (self.admin()?, AdminOptions::new());
        done(admin.create_topics([&made], &options).await.map_err(failed)?)?;
        Ok(async move {
            let roomy = AlterConfig::new(ResourceSpecifier::Topic(&name)).set(LARGEST, "1048588");
            done(admin.alter_configs([&roomy], &options).await.map_err(failed)?)
        })
    }

    /// The names of topics and groups of the prefix.
    async fn names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let server = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let probe: BaseConsumer = server.client().create().map_err(failed)?;
            let ours = |name: &str| name.starts_with(&server.prefix);
            let metadata = probe.fetch_metadata(None, REQUEST).map_err(failed)?;
            let topics = metadata.topics().iter().map(|topic| topic.name().to_owned());
            let list = probe.fetch_group_list(None, REQUEST).map_err(failed)?;
            let groups = list.groups().iter().map(|group| group.name().to_owned());
            Ok((topics.filter(|n| ours(n)).collect(), groups.filter(|n| ours(n)).collect()))
        });
        asked.await.map_err(failed)?
    }

    async fn census(&self) -> Result<Vec<(String, u64)>> {
        let (topics, groups) = self.names().await?;
        Ok(vec![
            ("topics".to_owned(), topics.len() as u64),
            ("groups".to_owned(), groups.len() as u64),
            ("members".to_owned(), self.clone().members().await?),
        ])
    }

    /// How many members the groups of the prefix have.
    async fn members(self) -> Result<u64> {
        let asked = tokio::task::spawn_blocking(move || {
            let probe: BaseConsumer = self.client().create().map_err(failed)?;
            let list = probe.fetch_group_list(None, REQUEST).map_err(failed)?;
            let ours = list.groups().iter().filter(|group| group.name().starts_with(&self.prefix));
            Ok(ours.map(|group| group.members().len() as u64).sum())
        });
        asked.await.map_err(failed)?
    }

    /// Deletes what the property has left.
    async fn clean(&self) -> Result<()> {
        // A server of the property's own may be gone by now, and what it held with it.
        let Ok((topics, groups)) = self.names().await else { return Ok(()) };
        let (admin, options) = (self.admin()?, AdminOptions::new());
        let (topics, groups): (Vec<&str>, Vec<&str>) = (
            topics.iter().map(String::as_str).collect(),
            groups.iter().map(String::as_str).collect(),
        );
        if !topics.is_empty() {
            admin.delete_topics(&topics, &options).await.map_err(failed)?;
        }
        if !groups.is_empty() {
            admin.delete_groups(&groups, &options).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The setting of a topic: its largest record.
const LARGEST: &str = "max.message.bytes";

/// Each thing that was asked for has an answer of its own.
fn done<T, N>(answers: Vec<std::result::Result<T, (N, RDKafkaErrorCode)>>) -> Result<()> {
    answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(|(_, code)| failed(code)))
}

/// Has a member leave its group, which the plain driver has no call for: `LeaveGroup`, version 2.
fn leave(address: &str, group: &str, member: &str) -> Result<()> {
    const LEAVE_GROUP: i16 = 13;
    const VERSION: i16 = 2;
    let mut request = Vec::new();
    for number in [LEAVE_GROUP, VERSION, 0, 0] {
        request.extend(number.to_be_bytes());
    }
    for text in ["test", group, member] {
        let length = i16::try_from(text.len()).map_err(failed)?;
        request.extend(length.to_be_bytes());
        request.extend(text.as_bytes());
    }
    let mut server = TcpStream::connect(address).map_err(failed)?;
    server.set_read_timeout(Some(REQUEST)).map_err(failed)?;
    let length = i32::try_from(request.len()).map_err(failed)?;
    server.write_all(&length.to_be_bytes()).map_err(failed)?;
    server.write_all(&request).map_err(failed)?;
    // The lengths, the request's number, the throttling, and what became of it: it may have left by
    // itself meanwhile.
    server.read_exact(&mut [0; 14]).map_err(failed)
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Backend, "test", "the plain driver failed").because(cause)
}
