//! What a member leaves behind, and answers that never come, cost no event and no count.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trunkline_core::Broker as _;
use trunkline_redis::{RedisBroker, RedisConfig};

use crate::{Place, SERVER, eventually, expect, group_of, publish};

/// What the other members of these tests are called.
const GHOST: &str = "ghost";

async fn one_partition(place: &Place) -> RedisBroker {
    RedisBroker::connect(place.config().with_partitions(1)).await.unwrap()
}

/// Publishes, and gives the first events to a member that does nothing.
async fn left_by_a_ghost(place: &Place, broker: &RedisBroker, published: u64, taken: u64) {
    broker.subscribe(group_of(&["a"])).await.unwrap().close(crate::SOON).await.unwrap();
    publish(broker, "a", "k", 0..published).await;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("g").arg(GHOST).arg("COUNT").arg(taken);
    read.arg("STREAMS").arg(place.key("a")).arg(">");
    place.run::<redis::Value>(&read).await;
}

fn companion(place: &Place, what: &str) -> String {
    format!("{{{}}}..{what}.g", place.key("a"))
}

#[tokio::test]
async fn a_take_over_that_fails_half_way_is_finished_before_anything_new_is_read() {
    let place = Place::new().await;
    let broker = one_partition(&place).await;
    left_by_a_ghost(&place, &broker, 5, 3).await;
    let lease = companion(&place, "lease");
    place.run::<()>(redis::cmd("SET").arg(&lease).arg("ghost|1")).await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    // The take-over stumbles over a key of the wrong kind, after it has claimed the first event.
    let state = companion(&place, "state");
    place.run::<()>(redis::cmd("SET").arg(&state).arg("no hash")).await;
    place.lapse("a").await;
    eventually("the take-over has begun", || async {
        let mut pending = redis::cmd("XPENDING");
        pending.arg(place.key("a")).arg("g").arg("-").arg("+").arg(1);
        let pending: Vec<(String, String, u64, u64)> = place.run(&pending).await;
        pending[0].1 != GHOST
    })
    .await;
    place.run::<()>(redis::cmd("DEL").arg(&state)).await;
    expect(&mut member, 0..5).await;
}

#[tokio::test]
async fn a_hand_over_forgets_no_earlier_delivery() {
    let place = Place::new().await;
    let broker = one_partition(&place).await;
    left_by_a_ghost(&place, &broker, 3, 3).await;
    let counts = async || {
        let mut pending = redis::cmd("XPENDING");
        pending.arg(place.key("a")).arg("g").arg("-").arg("+").arg(10);
        let pending: Vec<(String, String, u64, u64)> = place.run(&pending).await;
        pending
    };
    for (id, ..) in counts().await {
        let mut count = redis::cmd("XCLAIM");
        count.arg(place.key("a")).arg("g").arg(GHOST).arg(0).arg(id).arg("RETRYCOUNT").arg(3);
        place.run::<redis::Value>(&count).await;
    }
    let member = broker.subscribe(group_of(&["a"])).await.unwrap();
    member.close(crate::SOON).await.unwrap();
    let after: Vec<u64> = counts().await.into_iter().map(|(.., count)| count).collect();
    assert_eq!(after, [3, 3, 3]);
}

#[tokio::test]
async fn a_fencing_number_is_not_used_again_after_the_server_lost_it() {
    let place = Place::new().await;
    let (lease, fence) = (place.key("lease"), place.key("fence"));
    let acquire = async |member: &str| {
        let mut call = redis::cmd("EVAL");
        call.arg(include_str!("../../src/lua/acquire.lua")).arg(2).arg(&lease).arg(&fence);
        let taken: Vec<(u64, String)> = place.run(call.arg(member).arg(600_000).arg(1)).await;
        taken.into_iter().next().map(|(_, token)| token)
    };
    let number = |token: &str| token.split_once('|').unwrap().1.parse::<u64>().unwrap();
    let first = acquire("a").await.unwrap();
    assert_eq!(acquire("b").await, None, "it is leased");
    let again = acquire("a").await.expect("whoever leased it and never heard of it has it");
    assert!(number(&again) > number(&first));
    place.run::<()>(redis::cmd("DEL").arg(&lease).arg(&fence)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let other = acquire("b").await.unwrap();
    assert!(number(&other) > number(&again), "{other} after {again}");
}

async fn count_members(place: &Place) -> u64 {
    place.run(redis::cmd("ZCARD").arg(format!("{}..members.g", place.prefix))).await
}

#[tokio::test]
async fn a_subscribe_that_is_dropped_half_way_leaves_no_member_and_no_lease() {
    let place = Place::new().await;
    let broker = RedisBroker::connect(place.config().with_partitions(2)).await.unwrap();
    // A member waits a moment for its share, which the ghost does not hand over.
    let lease = |stream: &str| format!("{{{}}}..lease.g", place.key(stream));
    place.run::<()>(redis::cmd("SET").arg(lease("a")).arg("ghost|1")).await;
    let is_halfway = || async {
        let shown = eventually("it shows itself", || async { count_members(&place).await == 1 });
        tokio::select! {
            () = shown => true,
            // The moment was over before anybody looked: once more.
            done = broker.subscribe(group_of(&["a"])) => {
                done.unwrap().close(crate::SOON).await.unwrap();
                false
            }
        }
    };
    eventually("a subscribe was dropped half way", is_halfway).await;
    eventually("the member is gone", || async {
        let leased: u64 = place.run(redis::cmd("EXISTS").arg(lease("a..1"))).await;
        count_members(&place).await == 0 && leased == 0
    })
    .await;
}

#[tokio::test]
async fn a_subscribe_that_fails_half_way_leaves_no_member() {
    let place = Place::new().await;
    let broker = one_partition(&place).await;
    left_by_a_ghost(&place, &broker, 1, 1).await;
    place.run::<()>(redis::cmd("SET").arg(companion(&place, "state")).arg("no hash")).await;
    assert!(broker.subscribe(group_of(&["a"])).await.is_err());
    eventually("the member is gone", || async { count_members(&place).await == 0 }).await;
}

/// In front of the server: of the first connection that reads for a group, it holds back what is sent,
/// until another connection reads; and lets it through before that one.
struct Straggler {
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Through,
    /// The next read is held back.
    Armed,
    Held,
    Released,
    Landed,
}

impl Straggler {
    async fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let straggler = Arc::new(Self { stage: watch::Sender::new(Stage::Through) });
        let of_all = Arc::clone(&straggler);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", SERVER.port())).await.unwrap();
                let ((from, to), (answers, server)) = (client.into_split(), server.into_split());
                let answering = tokio::spawn(carry_all(answers, to));
                tokio::spawn(Arc::clone(&of_all).forward(from, server, answering));
            }
        });
        (straggler, port)
    }

    async fn forward(
        self: Arc<Self>,
        mut from: OwnedReadHalf,
        mut server: OwnedWriteHalf,
        answering: JoinHandle<()>,
    ) {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(size @ 1..) = from.read(&mut chunk).await {
            let is_read = chunk[..size].windows(10).any(|word| word == b"XREADGROUP");
            let stage = *self.stage.borrow();
            match stage {
                Stage::Armed if is_read => {
                    self.stage.send_replace(Stage::Held);
                    self.reach(Stage::Released).await;
                    server.write_all(&chunk[..size]).await.unwrap();
                    // The server ends the connection when it has run all that came before the end.
                    server.shutdown().await.unwrap();
                    answering.await.unwrap();
                    self.stage.send_replace(Stage::Landed);
                    return;
                }
                Stage::Held if is_read => {
                    self.stage.send_replace(Stage::Released);
                    self.reach(Stage::Landed).await;
                }
                _ => {}
            }
            if server.write_all(&chunk[..size]).await.is_err() {
                return;
            }
        }
    }

    async fn reach(&self, wanted: Stage) {
        let mut stage = self.stage.subscribe();
        stage.wait_for(|stage| *stage == wanted).await.unwrap();
    }
}

/// Carries answers until the server has ended the connection.
async fn carry_all(mut answers: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(size @ 1..) = answers.read(&mut chunk).await {
        // Who has asked may be gone; that all was answered still shows in the end.
        drop(to.write_all(&chunk[..size]).await);
    }
}

#[tokio::test]
async fn a_read_that_arrives_after_its_member_gave_it_up_takes_nothing() {
    let place = Place::new().await;
    let (straggler, port) = Straggler::start().await;
    let config = RedisConfig::new(&format!("redis://127.0.0.1:{port}")).unwrap();
    let config = config
        .with_prefix(place.prefix.as_str())
        .with_partitions(1)
        .with_connect_timeout(crate::SOON)
        .with_response_timeout(Duration::from_millis(500))
        .with_lease_ttl(2 * crate::SOON);
    let slow = RedisBroker::connect(config).await.unwrap();
    // On a slow machine the answers that it needs may be late too.
    let mut member = loop {
        if let Ok(member) = slow.subscribe(group_of(&["a"])).await {
            break member;
        }
    };
    let direct = place.broker().await;
    publish(&direct, "a", "k", 0..1).await;
    expect(&mut member, 0..1).await;
    straggler.stage.send_replace(Stage::Armed);
    publish(&direct, "a", "k", 1..4).await;
    expect(&mut member, 1..4).await;
    straggler.reach(Stage::Landed).await;
}
