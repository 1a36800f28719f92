//! What cannot be had, and how it is said.

use std::time::Duration;

use trunkline_core::{Broker as _, ErrorKind, RetryClass};
use trunkline_redis::{RedisBroker, RedisConfig};

use crate::{Place, SERVER, event};

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that nobody else can have, and at which nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = RedisConfig::new(&format!("redis://ann:s3cret@127.0.0.1:{port}/0")).unwrap();
    let begun = std::time::Instant::now();
    let refused =
        RedisBroker::connect(config.with_connect_timeout(Duration::from_millis(500))).await;
    let refused = refused.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(refused.kind(), ErrorKind::Disconnected);
    assert!(refused.to_string().contains(&format!("127.0.0.1:{port}")), "{refused}");
    assert!(!format!("{refused:?}").contains("s3cret"));
}

#[tokio::test]
async fn tls_to_a_plain_port_is_refused_without_a_panic() {
    let url = SERVER.url().replacen("redis://", "rediss://", 1);
    let config = RedisConfig::new(&url).unwrap().with_connect_timeout(Duration::from_millis(800));
    let refused = RedisBroker::connect(config).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Disconnected, "{refused:?}");
}

#[tokio::test]
async fn too_few_replicas_leave_the_outcome_unknown() {
    let place = Place::new().await;
    let config = place.config().with_wait_replicas(1, Duration::from_millis(50));
    let broker = RedisBroker::connect(config).await.unwrap();
    let published = broker.publish(&[event("a", None, 0)], &Default::default()).await;
    let refused = published.into_result().unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::TimedOut, RetryClass::Ambiguous));
    assert!(refused.to_string().contains("replicas"), "{refused}");
}
