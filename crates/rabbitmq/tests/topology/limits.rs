//! The server's own limit of deliveries never ends what our policy goes on with.

use lapin::types::AMQPValue;
use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind};

use crate::{Place, SOON, Taker, connect, event, group};

/// More than the 20 after which RabbitMQ 4 drops an event unless told otherwise.
const DELIVERIES: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_changed_hands_25_times_is_still_delivered() {
    let place = Place::new().await;
    let broker = connect(place.config().with_partitions(1)).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    broker.publish_one(&event("orders", 1)).await.unwrap();
    for _ in 0..DELIVERIES {
        drop(member.expect(1).await);
        member.close().await;
        member = Taker::open(&broker, group("g", "orders")).await;
    }
    let last = member.expect(1).await;
    assert!(last.redeliveries() as usize >= DELIVERIES, "{last:?}");
    assert_eq!(last.attempts(), 0);
    last.ack().await.unwrap();
    member.close().await;
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_made_with_a_limit_is_refused_with_what_to_do() {
    let place = Place::new().await;
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let limit = ("x-delivery-limit", AMQPValue::LongInt(3));
    place.queue("g..0", &[quorum, single, limit]).await;
    let broker = connect(place.config()).await;
    let Err(error) = broker.subscribe(group("g", "orders")).await else {
        panic!("the queue would drop events")
    };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("limit of deliveries"), "{error}");
    assert!(format!("{error:?}").contains("g..0"), "{error:?}");

    // As the error says.
    place.delete("g..0").await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    broker.publish_one(&event("orders", 1)).await.unwrap();
    member.take(1).await;
    member.close().await;
    broker.close(SOON).await.unwrap();
}
