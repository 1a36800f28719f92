//! A topic that somebody deletes underneath.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::time::{sleep, timeout};
use trunkline_core::{Broker as _, PublishOptions, SubscriptionExt as _};
use trunkline_kafka::KafkaBroker;

use super::{SOON, TOPIC, ack, config, connect, event, join, next, number, plain, prefix, publish};

const REQUEST: Duration = Duration::from_secs(10);

/// Deletes the topic; ready when the server knows it no longer.
async fn delete(prefix: &str) {
    let name = format!("{prefix}{TOPIC}");
    let admin: AdminClient<DefaultClientContext> = plain().create().unwrap();
    let deleted = admin.delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
    deleted.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    let probe: BaseConsumer = plain().create().unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let metadata = probe.fetch_metadata(None, REQUEST).unwrap();
        if !metadata.topics().iter().any(|topic| topic.name() == name) {
            return;
        }
        assert!(Instant::now() < deadline, "the topic is still there");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes until it is accepted: the topic has to be made again first.
async fn publish_at_last(broker: &KafkaBroker, number: usize) {
    let deadline = Instant::now() + SOON;
    loop {
        let batch = [event(Some("k"), number)];
        let result = broker.publish(&batch, &PublishOptions::default()).await;
        let Err(error) = result.into_result() else { return };
        assert!(Instant::now() < deadline, "the topic was not made again: {error}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_with_a_topic_that_was_deleted_and_made_again() {
    let prefix = prefix();
    // For so long a client waits for a young topic that it does not find.
    let young = ("topic.metadata.propagation.max.ms", "1000");
    let config = config(&prefix).with_property(young.0, young.1).unwrap();
    let broker = connect(&config).await;
    let mut member = join(&broker, 10).await;
    let first: Vec<_> = (0..20).map(|at| event(Some("k"), at)).collect();
    publish(&broker, &first).await;
    for at in 0..20 {
        let delivery = next(&mut member).await;
        assert_eq!(number(&delivery), at);
        ack(delivery).await;
    }
    delete(&prefix).await;
    // Fewer than there were: Kafka would have the group go on behind them.
    for at in 20..25 {
        publish_at_last(&broker, at).await;
    }
    for at in 20..25 {
        let delivery = next(&mut member).await;
        assert_eq!(number(&delivery), at);
        ack(delivery).await;
    }
    let more: Vec<_> = (25..75).map(|at| event(Some("k"), at)).collect();
    publish(&broker, &more).await;
    for at in 25..75 {
        let delivery = next(&mut member).await;
        assert_eq!(number(&delivery), at);
        ack(delivery).await;
    }
    let quiet = timeout(Duration::from_secs(1), member.next()).await;
    assert!(quiet.is_err(), "something came twice");
    broker.close(SOON).await.unwrap();
}
