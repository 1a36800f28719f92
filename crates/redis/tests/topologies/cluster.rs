//! A cluster of two primaries, of which the one that the deployment uses has a replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use trunkline_core::{Broker as _, BrokerExt as _};
use trunkline_redis::RedisBroker;

use crate::nodes::{Node, PASSWORD, free_port};
use crate::{config, connect, event, publish_until, round_trip, subscribe};

/// The slot of `{shop-}`, as the servers have it.
async fn slot_of(node: &Node, key: &str) -> u16 {
    node.ask("CLUSTER", &["KEYSLOT", key]).await.parse().unwrap()
}

async fn node() -> Node {
    let bus = free_port();
    Node::start(&format!(
        "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1000\n\
         cluster-replica-validity-factor 0\n"
    ))
    .await
}

struct Cluster {
    /// Has the slot at first.
    primary: Node,
    replica: Node,
    other: Node,
}

impl Cluster {
    async fn start() -> Self {
        let (primary, replica, other) = (node().await, node().await, node().await);
        let slot = slot_of(&primary, "{shop-}").await;
        let (mine, rest) = if slot < 8_192 { (0, 8_192) } else { (8_192, 0) };
        for (node, first) in [(&primary, mine), (&other, rest)] {
            let (first, last) = (first.to_string(), (first + 8_191).to_string());
            assert_eq!(node.ask("CLUSTER", &["ADDSLOTSRANGE", &first, &last]).await, "OK");
        }
        primary.meet(&replica).await;
        primary.meet(&other).await;
        let id = primary.ask("CLUSTER", &["MYID"]).await;
        replica.wait_until("it knows the primary", "CLUSTER", &["NODES"], &id).await;
        replica.wait_until("it replicates", "CLUSTER", &["REPLICATE", &id], "OK").await;
        replica.wait_until("it follows", "INFO", &["replication"], "link_status:up").await;
        for node in [&primary, &replica, &other] {
            let wanted = "cluster_state:ok";
            node.wait_until("the cluster is up", "CLUSTER", &["INFO"], wanted).await;
            let id = replica.ask("CLUSTER", &["MYID"]).await;
            node.wait_until("all know all", "CLUSTER", &["NODES"], &id).await;
        }
        Self { primary, replica, other }
    }

    /// The other primary, and one that is gone: neither has what the deployment uses.
    fn url(&self) -> String {
        let gone = format!("127.0.0.1:{}", free_port());
        format!("redis+cluster://:{PASSWORD}@{gone},{}", self.other.address())
    }
}

impl Node {
    async fn meet(&self, other: &Node) {
        let bus = other.bus_port().await;
        let arguments = ["MEET", "127.0.0.1", &other.port.to_string(), &bus];
        assert_eq!(self.ask("CLUSTER", &arguments).await, "OK");
    }

    async fn bus_port(&self) -> String {
        self.ask("CONFIG", &["GET", "cluster-port"]).await.split('"').nth(3).unwrap().to_owned()
    }

    async fn keys(&self) -> Vec<String> {
        let client =
            redis::Client::open(format!("redis://:{PASSWORD}@{}", self.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Value = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        redis::from_redis_value(keys).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_deployment_stands_in_one_slot() {
    let cluster = Cluster::start().await;
    let broker = connect(&cluster.url()).await;
    round_trip(&broker).await;
    let keys = cluster.primary.keys().await;
    assert!(keys.len() > 10, "{keys:?}");
    let slot = slot_of(&cluster.primary, "shop-").await;
    for key in &keys {
        assert!(key.starts_with("{shop-}"), "{key}");
        assert_eq!(slot_of(&cluster.primary, key).await, slot, "{key}");
    }
    assert_eq!(cluster.other.keys().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_follows_its_slot_to_another_primary() {
    let cluster = Cluster::start().await;
    let broker = connect(&cluster.url()).await;
    let mut group = subscribe(&broker).await;

    // Handed over, and the old primary lives on: what it is asked it answers with MOVED.
    let over = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (broker, over) = (broker.clone(), Arc::clone(&over));
        tokio::spawn(async move { publish_until(&broker, 0, &over).await })
    };
    group.take(0..50).await;
    assert_eq!(cluster.replica.ask("CLUSTER", &["FAILOVER"]).await, "OK");
    let (primary, replica) = (&cluster.replica, &cluster.primary);
    primary.wait_until("it is the primary", "ROLE", &[], "master").await;
    replica.wait_until("it follows", "INFO", &["replication"], "link_status:up").await;
    over.store(true, Ordering::Relaxed);
    let accepted = publishing.await.unwrap();
    group.take(accepted).await;
    assert!(broker.health().await.reconnects > 0);

    // And back, by the death of the new one.
    let durable = config(&cluster.url()).with_wait_replicas(1, Duration::from_secs(1));
    let durable = RedisBroker::connect(durable).await.unwrap();
    for number in 10_000_000..10_000_200 {
        durable.publish_one(&event(number)).await.unwrap();
    }
    primary.kill();
    assert_eq!(replica.ask("CLUSTER", &["FAILOVER", "TAKEOVER"]).await, "OK");
    let after = publish_until(&broker, 20_000_000, &AtomicBool::new(true)).await;
    group.take((10_000_000..10_000_200).chain(after)).await;
}
