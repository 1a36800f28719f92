//! A primary with a replica, watched by a sentinel.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind};
use trunkline_redis::RedisBroker;

use crate::nodes::{Node, PASSWORD, free_port};
use crate::{config, connect, event, publish_until, round_trip, subscribe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_nothing_that_a_replica_had_accepted() {
    let primary = Node::start("").await;
    let replica = Node::replica_of(&primary).await;
    let sentinel = Node::sentinel(&primary, "").await;
    // A sentinel that is gone is passed over.
    let hosts = format!("127.0.0.1:{},{}", free_port(), sentinel.address());
    let url = format!("redis+sentinel://:{PASSWORD}@{hosts}/main/1");
    let broker = connect(&url).await;
    round_trip(&broker).await;

    let durable = config(&url).with_wait_replicas(1, Duration::from_secs(1));
    let durable = RedisBroker::connect(durable).await.unwrap();
    let mut group = subscribe(&broker).await;
    let ahead = tokio::spawn(async move {
        let mut accepted = Vec::new();
        for number in 1_000.. {
            match durable.publish_one(&event(number)).await {
                Ok(()) => accepted.push(number),
                Err(_) => break,
            }
        }
        // The new primary has no replica, so nothing is accepted as replicated.
        let error = durable.publish_one(&event(999)).await.unwrap_err();
        (accepted, error)
    });
    group.take(1_000..1_200).await;
    primary.kill();
    let after = publish_until(&broker, 1_000_000, &AtomicBool::new(true)).await;
    let (accepted, error) = ahead.await.unwrap();
    assert!(accepted.len() >= 200, "{}", accepted.len());
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Disconnected), "{error}");
    group.take(accepted.into_iter().chain(after)).await;
    let role = replica.ask("ROLE", &[]).await;
    assert!(role.contains("master"), "{role}");
    assert!(broker.health().await.reconnects > 0);
}

#[tokio::test]
async fn sentinels_that_do_not_answer_are_named_without_the_password() {
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), free_port());
    let url = format!("redis+sentinel://ann:{PASSWORD}@{hosts}/main");
    let config = config(&url).with_connect_timeout(Duration::from_millis(300));
    let error = RedisBroker::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains(&hosts) && shown.contains("sentinels of main"), "{shown}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("ann"), "{shown}");
}

#[tokio::test]
async fn a_sentinel_may_ask_for_the_password_and_says_which_service_it_does_not_know() {
    let primary = Node::start("").await;
    let _replica = Node::replica_of(&primary).await;
    let sentinel = Node::sentinel(&primary, &format!("requirepass {PASSWORD}")).await;
    let url = format!("redis+sentinel://:{PASSWORD}@{}", sentinel.address());
    let broker = connect(&format!("{url}/main")).await;
    broker.publish_one(&event(1)).await.unwrap();
    let config = config(&format!("{url}/mian")).with_connect_timeout(Duration::from_secs(2));
    let error = RedisBroker::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(format!("{error:?}").contains("knows no service `mian`"), "{error:?}");
}
