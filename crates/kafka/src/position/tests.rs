//! How places are written, and where subscriptions begin while the servers do not know all they have: on
//! librdkafka's cluster in memory.

use std::collections::BTreeSet;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::{sleep, timeout};
use trunkline_core::{
    Broker as _, BrokerAdmin as _, Data, Event, Group, GroupSpec, PublishOptions, SubscribeOptions,
    Subscription, SubscriptionExt as _, Topic,
};

use super::*;
use crate::{KafkaBroker, KafkaConfig};

const PARTITIONS: u32 = 4;
const TOPIC: Topic = Topic::from_static("orders.new");
/// One of which everything is known.
const OTHER: &str = "payments";
const GROUP: Group = Group::from_static("g");
/// Longer than anything here needs.
const SOON: Duration = Duration::from_secs(20);
/// Longer than a question and its answer.
const A_WHILE: Duration = Duration::from_millis(500);

#[test]
fn a_place_reads_back_as_it_was_written() {
    let spot = Spot { name: "dev-orders.placed".to_owned(), partition: 3, offset: 7, at: 42 };
    let position = spot.position();
    assert_eq!(position.to_string(), "kafka:dev-orders.placed/3/7@42");
    assert_eq!(Spot::read(&position).unwrap(), spot);
}

#[test]
fn what_is_no_place_is_invalid() {
    for text in ["7", "a/3/7", "a/3@42", "a/x/7@42", "a/-1/7@42", "a/3/-7@42", "/3/7@42"] {
        let start = StartAt::Position(BrokerPosition::new(NAME, text));
        assert_eq!(Spot::check(&start).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
    }
}

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// What a server that has just started does not know yet.
#[derive(Debug, Clone, Copy)]
enum Unknown {
    /// Who leads a partition.
    Leader,
    /// The partitions that it is asked for, once.
    Partitions,
    /// The topic.
    Topic,
}

impl Unknown {
    async fn begin(self, cluster: &Cluster, broker: &KafkaBroker) {
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        match self {
            Self::Leader => cluster.partition_leader(TOPIC.as_str(), 0, None).unwrap(),
            Self::Partitions => cluster.request_errors(RDKafkaApiKey::ListOffsets, &[unknown]),
            Self::Topic => {
                cluster.topic_error(TOPIC.as_str(), unknown).unwrap();
                // The client has noticed.
                let topics = &broker.shared.topics;
                assert_eq!(topics.partitions(TOPIC.as_str()).await.unwrap(), None);
            }
        }
    }

    fn end(self, cluster: &Cluster) {
        let known = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        match self {
            Self::Leader => cluster.partition_leader(TOPIC.as_str(), 0, Some(1)).unwrap(),
            Self::Partitions => {}
            Self::Topic => cluster.topic_error(TOPIC.as_str(), known).unwrap(),
        }
    }
}

fn config(cluster: &Cluster) -> KafkaConfig {
    KafkaConfig::new(&format!("kafka://{}", cluster.bootstrap_servers())).unwrap()
}

/// Two servers that have the topic, and an event in each of its partitions.
async fn begin() -> (Cluster, KafkaBroker) {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic(TOPIC.as_str(), PARTITIONS.cast_signed(), 1).unwrap();
    // Those that a group needs: this cluster makes no topics when it is asked to.
    for ours in [OTHER, "trunkline..groups", "trunkline..retry.g"] {
        cluster.create_topic(ours, 1, 1).unwrap();
    }
    for partition in 0..PARTITIONS.cast_signed() {
        cluster.partition_leader(TOPIC.as_str(), partition, Some(1 + partition % 2)).unwrap();
    }
    let broker = KafkaBroker::connect(config(&cluster)).await.unwrap();
    publish(&broker, "old").await;
    (cluster, broker)
}

/// An event into every partition.
async fn publish(broker: &KafkaBroker, text: &str) {
    for partition in 0..PARTITIONS {
        let data = Data::json(format!("\"{text}\""));
        let event = Event::from_data("t", TOPIC, data).build().unwrap();
        let options = PublishOptions::default().with_partition(partition);
        broker.publish(&[event], &options).await.into_result().unwrap();
    }
}

/// What a call gives that begins while something is unknown.
async fn meanwhile<T: Send + 'static>(
    (cluster, broker): (&Cluster, &KafkaBroker),
    unknown: Unknown,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> T {
    unknown.begin(cluster, broker).await;
    let call = tokio::spawn(call);
    sleep(A_WHILE).await;
    unknown.end(cluster);
    timeout(SOON, call).await.expect("the call ends soon").unwrap().unwrap()
}

async fn subscribe(broker: KafkaBroker, pattern: &'static str) -> Result<Box<dyn Subscription>> {
    broker.subscribe(SubscribeOptions::broadcast([pattern.parse()?, OTHER.parse()?])).await
}

/// A subscriber gets what comes to every partition, and nothing that was there.
async fn assert_whole(broker: &KafkaBroker, mut subscriber: Box<dyn Subscription>) {
    publish(broker, "new").await;
    let mut partitions = BTreeSet::new();
    while partitions.len() < PARTITIONS as usize {
        let next = timeout(SOON, subscriber.next()).await;
        let delivery =
            next.unwrap_or_else(|_| panic!("only {partitions:?} came")).unwrap().unwrap();
        assert_eq!(delivery.event().data().unwrap().as_slice(), b"\"new\"");
        let Spot { partition, .. } = Spot::read(&delivery.position().unwrap()).unwrap();
        assert!(partitions.insert(partition));
        delivery.ack().await.map_err(|unsettled| unsettled.error).unwrap();
    }
    broker.close(SOON).await.unwrap();
}

async fn assert_subscribed(pattern: &'static str, unknown: Unknown) {
    let (cluster, broker) = begin().await;
    let subscriber =
        meanwhile((&cluster, &broker), unknown, subscribe(broker.clone(), pattern)).await;
    assert_whole(&broker, subscriber).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_a_partition_that_had_no_leader_when_it_came() {
    assert_subscribed("orders.new", Unknown::Leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_with_a_wildcard_gets_a_partition_that_had_no_leader_when_it_came() {
    assert_subscribed("orders.*", Unknown::Leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_partitions_that_were_unknown_when_it_came() {
    assert_subscribed("orders.new", Unknown::Partitions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_a_topic_that_was_unknown_when_it_came() {
    assert_subscribed("orders.new", Unknown::Topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_has_no_leader_is_not_missing() {
    let (cluster, broker) = begin().await;
    let config = config(&cluster).with_create_topics(false);
    // It knows nothing of the topic yet.
    let other = KafkaBroker::connect(config).await.unwrap();
    let subscribing = subscribe(other.clone(), "orders.new");
    let subscriber = meanwhile((&cluster, &other), Unknown::Leader, subscribing).await;
    assert_whole(&broker, subscriber).await;
    other.close(SOON).await.unwrap();
}

async fn declare(broker: KafkaBroker, pattern: &'static str) -> Result<()> {
    let mut spec = GroupSpec::new(GROUP, [pattern.parse()?, OTHER.parse()?]);
    spec.start = StartAt::Latest;
    broker.declare_group(spec).await
}

/// A group begins behind what every partition has.
async fn assert_declared(pattern: &'static str, unknown: Unknown) {
    let (cluster, broker) = begin().await;
    // The registry has been read.
    assert!(broker.groups().await.unwrap().is_empty());
    meanwhile((&cluster, &broker), unknown, declare(broker.clone(), pattern)).await;
    for partition in 0..PARTITIONS.cast_signed() {
        let start = broker.shared.registry.start_of(&GROUP, TOPIC.as_str(), partition);
        assert_eq!(start, 1, "of partition {partition}");
    }
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_late_in_a_partition_that_had_no_leader_when_it_was_made() {
    assert_declared("orders.new", Unknown::Leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_wildcard_begins_late_in_a_partition_that_had_no_leader_when_it_was_made() {
    assert_declared("orders.*", Unknown::Leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_late_in_partitions_that_were_unknown_when_it_was_made() {
    assert_declared("orders.new", Unknown::Partitions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_late_in_a_topic_that_was_unknown_when_it_was_made() {
    assert_declared("orders.new", Unknown::Topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_partition_without_a_leader_is_waited_for() {
    let (cluster, broker) = begin().await;
    let asking = broker.clone();
    let ends = meanwhile((&cluster, &broker), Unknown::Leader, async move {
        let places = places(&BTreeMap::from([(TOPIC.as_str().to_owned(), PARTITIONS)]));
        asking.shared.topics.offsets(places, Edge::High).await
    });
    assert_eq!(ends.await.len(), PARTITIONS as usize);
    broker.close(SOON).await.unwrap();
}
