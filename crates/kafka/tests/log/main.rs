//! What is particular to Kafka, on a real server: where records are, how long a consumer may be silent,
//! and logs that others delete.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod deleted;
#[path = "../support/orders.rs"]
mod orders;
mod placement;
mod polling;

use std::time::Duration;

use rdkafka::ClientConfig;
use trunkline_core::{Data, Event};
use trunkline_kafka::{KafkaBroker, KafkaConfig};

use orders::{SERVER, SOON, TOPIC, ack, join, next, number, prefix, publish};

const PARTITIONS: u32 = 6;

fn config(prefix: &str) -> KafkaConfig {
    KafkaConfig::new(&SERVER.url())
        .unwrap()
        .with_prefix(prefix)
        .unwrap()
        .with_partitions(PARTITIONS)
        .with_replication(1)
        .with_session_timeout(Duration::from_secs(3), Duration::from_millis(150))
        .with_drain_timeout(Duration::from_secs(3))
}

async fn connect(config: &KafkaConfig) -> KafkaBroker {
    KafkaBroker::connect(config.clone()).await.unwrap()
}

/// The plain driver's settings.
fn plain() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", SERVER.url().replace("kafka://", ""));
    client
}

fn event(key: Option<&str>, number: usize) -> Event {
    let draft = Event::from_data("t", TOPIC, Data::json(number.to_string()));
    match key {
        Some(key) => draft.key(key).build().unwrap(),
        None => draft.build().unwrap(),
    }
}
