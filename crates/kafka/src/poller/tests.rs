//! A broadcast subscriber and a topic that is made later, on librdkafka's cluster in memory.

use rdkafka::mocking::MockCluster;
use trunkline_core::{Pattern, SubscribeOptions};

use super::*;
use crate::KafkaBroker;
use crate::config::KafkaConfig;
use crate::seat::Role;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_could_not_be_taken_is_found_again() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders.old", 1, 1).unwrap();
    let url = format!("kafka://{}", cluster.bootstrap_servers());
    let broker = KafkaBroker::connect(KafkaConfig::new(&url).unwrap()).await.unwrap();
    let options = SubscribeOptions::broadcast([Pattern::new("orders.*").unwrap()]);
    let seat = Seat::new(&broker.shared, Role::Broadcast("one".to_owned()), &options);
    let start = vec![("orders.old".to_owned(), 0, 0)];
    let way = Way::Assigned("trunkline..broadcast".to_owned(), start);
    let mut poller = Poller::new(Arc::clone(&seat), broker.shared.clients.clone(), way);
    let consumer = poller.create().unwrap();
    let taken = |consumer: &Native| consumer.assignment().unwrap().count();
    let late = ["orders.late".to_owned()];
    // The server that is asked does not know it yet.
    assert!(seat.add_topics(late.clone()));
    poller.change_topics(&consumer, &late).unwrap();
    assert_eq!(taken(&consumer), 1);
    cluster.create_topic("orders.late", 2, 1).unwrap();
    // What the next look for topics does.
    assert!(seat.add_topics(late.clone()), "it is new once more");
    poller.change_topics(&consumer, &late).unwrap();
    assert_eq!(taken(&consumer), 3);
}
