//! An event that keeps killing its process is told from its innocent neighbours.

use trunkline_core::{Broker as _, BrokerExt as _, Delivery};

use crate::{Place, event, group_of, next, number};

/// A member whose process dies with what it has out: its runtime ends without a word.
fn dies_with(place: &Place, killer: u64) -> (Vec<u64>, u32) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = place.config().with_partitions(1);
    let (handled, count, leaked) = runtime.block_on(async move {
        let broker = trunkline_redis::RedisBroker::connect(config).await.unwrap();
        let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
        let mut handled = Vec::new();
        loop {
            let delivery = next(&mut member).await;
            if number(&delivery) == killer {
                let count = delivery.redeliveries();
                return (handled, count, (broker, member, delivery));
            }
            handled.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    });
    runtime.shutdown_background();
    // Dropping it would give it back, which a process that dies cannot.
    std::mem::forget(leaked);
    (handled, count)
}

#[tokio::test]
async fn a_killer_is_counted_and_its_neighbours_are_not() {
    let place = Place::new().await;
    let config = place.config().with_partitions(1);
    let broker = trunkline_redis::RedisBroker::connect(config).await.unwrap();
    // All of one partition, prefetched together, and the killer is in the middle.
    for number in 0..9 {
        broker.publish_one(&event("a", Some(&format!("k{number}")), number)).await.unwrap();
    }
    let mut counts = Vec::new();
    for _ in 0..4 {
        let doomed = place.clone();
        let died = tokio::task::spawn_blocking(move || dies_with(&doomed, 4)).await.unwrap();
        counts.push(died.1);
        place.lapse("a").await;
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts[3] >= 3, "{counts:?}");
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    let killer: Delivery = loop {
        let delivery = next(&mut member).await;
        if number(&delivery) == 4 {
            break delivery;
        }
        delivery.ack().await.unwrap();
    };
    assert!(killer.redeliveries() >= 4, "{}", killer.redeliveries());
    killer.ack().await.unwrap();
    for neighbour in 5..9 {
        let delivery = next(&mut member).await;
        assert_eq!(number(&delivery), neighbour, "the neighbours behind the killer");
        assert!(delivery.redeliveries() <= 3, "a neighbour has {}", delivery.redeliveries());
        delivery.ack().await.unwrap();
    }
    member.close(crate::SOON).await.unwrap();
    let mut pending = redis::cmd("XPENDING");
    pending.arg(place.key("a")).arg("g");
    let (left, ..): (u64, redis::Value, redis::Value, redis::Value) = place.run(&pending).await;
    assert_eq!(left, 0, "all was acknowledged, and nothing is left to come again");
}
