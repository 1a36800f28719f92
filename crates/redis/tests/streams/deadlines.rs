//! Nobody waits longer for a publish than asked for, and nobody shorter because of another.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::Instant;
use trunkline_core::{BatchResult, Broker as _, ErrorKind, PublishOptions};
use trunkline_redis::RedisBroker;

use crate::{Place, event};

/// How long the server answers nothing.
const PAUSE: Duration = Duration::from_millis(1_000);
const SHORT: Duration = Duration::from_millis(150);

async fn publish_for(
    broker: &RedisBroker,
    number: u64,
    limit: Duration,
) -> (BatchResult, Duration) {
    let began = Instant::now();
    let options = PublishOptions::default().with_timeout(limit);
    let result = broker.publish(&[event("a", None, number)], &options).await;
    (result, began.elapsed())
}

async fn pause(place: &Place) {
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(u64::try_from(PAUSE.as_millis()).unwrap()).arg("WRITE");
    place.run::<()>(&pause).await;
}

/// A server of its own: a pause stops everybody.
async fn alone() -> (trunkline_launcher::Server, Place, RedisBroker) {
    let server = trunkline_launcher::Server::start(trunkline_launcher::Kind::Redis).unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let raw = client.get_multiplexed_async_connection().await.unwrap();
    let place = Place { prefix: String::new(), raw };
    let config = trunkline_redis::RedisConfig::new(&server.url()).unwrap().with_partitions(1);
    let broker = RedisBroker::connect(config).await.unwrap();
    let first = broker.publish(&[event("a", None, 0)], &PublishOptions::default()).await;
    first.into_result().unwrap();
    (server, place, broker)
}

#[tokio::test]
async fn a_short_time_limit_is_nobody_elses() {
    let (_server, place, broker) = alone().await;
    pause(&place).await;
    // Handed in at once, they go out in one pipeline.
    let (hasty, patient) =
        join(publish_for(&broker, 1, SHORT), publish_for(&broker, 2, 5 * PAUSE)).await;
    let (result, waited) = hasty;
    assert_eq!(result.into_result().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(waited < PAUSE / 2, "it waited for {waited:?}");
    patient.0.into_result().unwrap();
}

#[tokio::test]
async fn a_short_time_limit_holds_behind_pipelines_that_wait() {
    let (_server, place, broker) = alone().await;
    pause(&place).await;
    let before = async {
        let mut all = Vec::new();
        for number in 1..4 {
            let broker = broker.clone();
            all.push(tokio::spawn(async move { publish_for(&broker, number, 5 * PAUSE).await }));
            // A pipeline of its own for each, and the last waits in the queue.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        all
    };
    let before = before.await;
    let (result, waited) = publish_for(&broker, 4, SHORT).await;
    assert_eq!(result.into_result().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(waited < PAUSE / 2, "it waited for {waited:?}");
    for publish in before {
        publish.await.unwrap().0.into_result().unwrap();
    }
}
