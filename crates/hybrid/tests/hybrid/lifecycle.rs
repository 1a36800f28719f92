//! Subscribing, health, capabilities and closing.

use std::future::poll_fn;
use std::time::Duration;

use trunkline_core::{
    Broker, BrokerAdmin, BrokerPosition, Capabilities, Durability, ErrorKind, Group, GroupSpec,
    Health, HealthStatus, Pattern, Route, StartAt, SubscriptionExt,
};
use trunkline_hybrid::{
    HybridBroker, HybridConfig, KeySplit, OnRemoteDown, RoutingRules, RulesStrategy,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};

use crate::support::*;

const DEADLINE: Duration = Duration::from_secs(1);

fn hybrid() -> (Scripted, Scripted, HybridBroker) {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let broker = HybridBroker::new(local.clone(), remote.clone(), by_id);
    (local, remote, broker)
}

#[test]
fn capabilities_are_what_both_sides_can_do() {
    let broker = HybridBroker::new(memory(), Scripted::new(), by_id);
    let mut expected = Capabilities::minimal("hybrid", Durability::Process);
    expected.delay = true;
    // The exception: a buffer is the local side's alone.
    expected.buffer = true;
    assert_eq!(*broker.capabilities(), expected);
}

#[test]
fn what_each_side_survives_can_be_told_apart() {
    let survives = HybridBroker::new(memory(), Scripted::new(), by_id).survives();
    assert_eq!(survives.local, ("memory", Durability::Process));
    assert_eq!(survives.remote, ("scripted", Durability::Replicated));
    assert_eq!(
        survives.to_string(),
        "an event routed local (memory) lives as long as this process, one routed remote \
         (scripted) survives the loss of a minority of servers"
    );
}

#[test]
fn the_broker_knows_whether_its_strategy_splits_keys() {
    let rules = RulesStrategy::new(RoutingRules::default()).unwrap();
    let broker = HybridBroker::new(memory(), memory(), rules);
    assert_eq!(*broker.key_split(), KeySplit::Never);
    assert_eq!(*HybridBroker::new(memory(), memory(), by_id).key_split(), KeySplit::Unknown);
}

#[tokio::test]
async fn a_handler_subscribes_once_and_gets_both_sides() {
    let (local, remote, broker) = hybrid();
    for options in [group("billing"), broadcast()] {
        let mut subscription = broker.subscribe(options).await.unwrap();
        local.deliver(&event("here", "a"));
        remote.deliver(&event("there", "a"));
        let mut seen = drain(&mut subscription).await;
        seen.sort();
        assert_eq!(seen, ["here", "there"]);
        subscription.close(DEADLINE).await.unwrap();
        local.end(None);
        remote.end(None);
    }
    assert_eq!((local.state().left, remote.state().left), (2, 2));
}

#[tokio::test]
async fn neither_side_starves_the_other() {
    let (local, remote, broker) = hybrid();
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    for n in 0..4 {
        local.deliver(&event(&format!("l{n}"), "a"));
        remote.deliver(&event(&format!("r{n}"), "a"));
    }
    let sides: Vec<char> =
        drain(&mut subscription).await.iter().map(|id| id.chars().next().unwrap()).collect();
    assert_eq!(sides.chunks(2).filter(|pair| pair[0] == pair[1]).count(), 0, "{sides:?}");
}

#[tokio::test]
async fn a_subscribe_that_fails_remotely_leaves_nothing_behind_locally() {
    let (local, remote, broker) = hybrid();
    remote.state().refuse_subscribe = true;
    let error = broker.subscribe(broadcast()).await.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.context("side")), (ErrorKind::Disconnected, Some("remote")));
    let state = local.state();
    assert_eq!((state.subscribed, state.left), (1, 1));
}

#[tokio::test]
async fn an_option_that_one_side_lacks_is_refused_before_either_is_asked() {
    let remote = Scripted::new();
    let broker = HybridBroker::new(memory(), remote.clone(), always(Route::Local));
    let options = broadcast().with_start(StartAt::Time(jiff::Timestamp::UNIX_EPOCH));
    let error = broker.subscribe(options).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(remote.state().subscribed, 0);
}

#[tokio::test]
async fn a_position_is_one_sides_and_refused_before_either_is_asked() {
    let config = || MemoryConfig::default().with_history(10);
    let (local, remote) = (MemoryBroker::new(config()), MemoryBroker::new(config()));
    let broker = HybridBroker::new(local.clone(), remote, always(Route::Local));
    let start = StartAt::Position(BrokerPosition::new("memory", 1));
    let error = broker.subscribe(broadcast().with_start(start.clone())).await.map(drop);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    let mut spec = GroupSpec::new(Group::from_static("g"), [Pattern::all()]);
    spec.start = start;
    let error = broker.admin().unwrap().declare_group(spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(local.groups().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_subscription_ends_when_both_sides_have_ended() {
    let (local, remote, broker) = hybrid();
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    local.end(None);
    assert!(next_now(&mut subscription).await.is_none());
    remote.deliver(&event("1", "a"));
    assert_eq!(drain(&mut subscription).await, ["1"]);
    remote.end(None);
    assert!(subscription.next().await.unwrap().is_none());
}

#[tokio::test]
async fn the_error_of_one_side_comes_after_what_was_taken_and_ends_the_whole() {
    let (local, remote, broker) = hybrid();
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    // The side that goes first alternates: after this poll it is the local one.
    assert!(next_now(&mut subscription).await.is_none());
    local.deliver(&event("1", "a"));
    remote.end(Some(ErrorKind::Backend));
    let mut out = Vec::new();
    let mut polls = Vec::new();
    for _ in 0..3 {
        polls.push(poll_fn(|cx| subscription.poll_deliveries(cx, 16, &mut out)).await);
    }
    assert!(matches!(polls[0], Ok(true)) && matches!(polls[2], Ok(false)), "{polls:?}");
    let error = polls.remove(1).unwrap_err();
    assert_eq!((error.kind(), error.context("side")), (ErrorKind::Backend, Some("remote")));
    assert_eq!(out.len(), 1);
}

#[tokio::test]
async fn health_is_the_worst_of_both_with_facts_by_side() {
    let (local, remote, broker) = hybrid();
    local.state().health = Health::up().with("queues", 3);
    assert_eq!(broker.health().await.status, HealthStatus::Up);
    remote.state().health = Health::down("no route to host");
    let health = broker.health().await;
    assert_eq!(health.status, HealthStatus::Down);
    for (name, value) in [("local.queues", "3"), ("remote.reason", "no route to host")] {
        assert!(health.facts.contains(&(name.to_owned(), value.to_owned())), "{health:?}");
    }
}

#[tokio::test]
async fn a_remote_broker_that_is_down_degrades_a_hybrid_that_falls_back() {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let config = HybridConfig::default().with_on_remote_down(OnRemoteDown::Local);
    let broker = HybridBroker::with_config(local.clone(), remote.clone(), by_id, config);
    remote.state().health = Health::down("as told");
    assert_eq!(broker.health().await.status, HealthStatus::Degraded);
    local.state().health = Health::down("as told");
    assert_eq!(broker.health().await.status, HealthStatus::Down);
}

#[tokio::test]
async fn closing_closes_both_sides_and_can_be_repeated() {
    let (local, remote, broker) = hybrid();
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    broker.close(DEADLINE).await.unwrap();
    broker.close(DEADLINE).await.unwrap();
    assert_eq!((local.state().closed, remote.state().closed), (2, 2));
    assert!(subscription.next().await.unwrap().is_none());
    let result = publish(&broker, &[event("l", "a"), event("r", "a")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Closed), (1, ErrorKind::Closed)]);
    assert!(local.batches().is_empty() && remote.batches().is_empty());
    let again = broker.subscribe(broadcast()).await.map(drop).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Closed);
    assert_eq!(broker.health().await.status, HealthStatus::Down);
}

#[tokio::test]
async fn counters_are_read_from_any_clone() {
    let (_, _, broker) = hybrid();
    let kept = broker.clone();
    let boxed: Box<dyn Broker> = Box::new(broker);
    assert!(publish(&boxed, &[event("l", "a")]).await.is_ok());
    assert_eq!(kept.counters().routed_local, 1);
}
