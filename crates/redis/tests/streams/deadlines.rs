//! Nobody waits longer for a publish than asked for, and nobody shorter because of another.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::Instant;
use trunkline_core::{BatchResult, Broker as _, Data, ErrorKind, Event, PublishOptions};
use trunkline_launcher::Server;
use trunkline_redis::RedisBroker;

use crate::{Place, SOON, event, eventually, topic};

/// How long the server would answer nothing, were it not woken.
const PAUSE: Duration = SOON;
/// Longer than anything here lasts.
const PATIENT: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(150);
/// So long that what stands before the server can be told by its size.
const LONG: usize = 64 << 10;

async fn publish_for(broker: &RedisBroker, event: Event, limit: Duration) -> BatchResult {
    let options = PublishOptions::default().with_timeout(limit);
    broker.publish(&[event], &options).await
}

/// Publishes with a short limit; the time it waited is not that of the pause.
async fn publish_hastily(broker: &RedisBroker) -> BatchResult {
    let began = Instant::now();
    let result = publish_for(broker, event("a", None, 1), SHORT).await;
    let waited = began.elapsed();
    assert!(waited < PAUSE / 2, "it waited for {waited:?}");
    result
}

async fn pause(place: &Place) {
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(u64::try_from(PAUSE.as_millis()).unwrap()).arg("WRITE");
    place.run::<()>(&pause).await;
}

async fn go_on(place: &Place) {
    place.run::<()>(redis::cmd("CLIENT").arg("UNPAUSE")).await;
}

/// Bytes that the server has been sent and does not work on.
async fn waiting(place: &Place) -> usize {
    let clients: String = place.run(redis::cmd("CLIENT").arg("LIST")).await;
    let sizes = clients.split_whitespace().filter_map(|field| {
        let size = field.strip_prefix("qbuf=").or_else(|| field.strip_prefix("argv-mem="));
        size.map(|size| size.parse::<usize>().unwrap())
    });
    sizes.sum()
}

/// A server of its own: a pause stops everybody.
async fn alone() -> (Server, Place, RedisBroker) {
    let (server, place) = Place::alone().await;
    let config = place.config().with_partitions(1).with_response_timeout(PATIENT);
    let broker = RedisBroker::connect(config).await.unwrap();
    publish_for(&broker, event("a", None, 0), SOON).await.into_result().unwrap();
    (server, place, broker)
}

#[tokio::test]
async fn a_short_time_limit_is_nobody_elses() {
    let (_server, place, broker) = alone().await;
    pause(&place).await;
    let hasty = async {
        let result = publish_hastily(&broker).await;
        go_on(&place).await;
        result
    };
    // Handed in at once, they go out in one pipeline.
    let (hasty, patient) = join(hasty, publish_for(&broker, event("a", None, 2), PATIENT)).await;
    assert_eq!(hasty.into_result().unwrap_err().kind(), ErrorKind::TimedOut);
    patient.into_result().unwrap();
}

#[tokio::test]
async fn a_short_time_limit_holds_behind_pipelines_that_wait() {
    let (_server, place, broker) = alone().await;
    pause(&place).await;
    let mut before = Vec::new();
    for number in 1..4 {
        let data = Data::json("7".repeat(LONG));
        let (broker, event) = (broker.clone(), Event::from_data("t", topic("a"), data));
        let event = event.build().unwrap();
        before.push(tokio::spawn(async move { publish_for(&broker, event, PATIENT).await }));
        // A pipeline of its own for each of the first two; the last waits in the queue.
        if number < 3 {
            eventually("it stands before the server", || async {
                waiting(&place).await >= number * LONG
            })
            .await;
        }
    }
    let hasty = publish_hastily(&broker).await;
    assert_eq!(hasty.into_result().unwrap_err().kind(), ErrorKind::TimedOut);
    go_on(&place).await;
    for publish in before {
        publish.await.unwrap().into_result().unwrap();
    }
}
