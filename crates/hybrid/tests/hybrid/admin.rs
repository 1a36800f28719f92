//! The operations tools of both sides as one.

use std::time::Duration;

use jiff::Timestamp;
use trunkline_core::{
    Broker, BrokerAdmin, DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, ErrorKind,
    FailureCause, Group, GroupSpec, Pattern, PublishOptions, SubscriptionExt,
};
use trunkline_hybrid::HybridBroker;
use trunkline_memory::MemoryBroker;

use crate::support::*;

const BILLING: Group = Group::from_static("billing");

fn hybrid() -> (MemoryBroker, MemoryBroker, HybridBroker) {
    let (local, remote) = (memory(), memory());
    let broker = HybridBroker::new(local.clone(), remote.clone(), by_id);
    (local, remote, broker)
}

fn tools(broker: &HybridBroker) -> &dyn BrokerAdmin {
    broker.admin().unwrap()
}

#[test]
fn there_are_tools_only_where_both_sides_have_them() {
    assert!(hybrid().2.admin().is_some());
    assert!(HybridBroker::new(memory(), Scripted::new(), by_id).admin().is_none());
}

#[tokio::test]
async fn a_group_is_made_listed_and_deleted_as_one_of_both_sides() {
    let (local, remote, broker) = hybrid();
    let tools = tools(&broker);
    tools.declare_group(GroupSpec::new(BILLING, [Pattern::all()])).await.unwrap();
    for side in [&local, &remote] {
        assert_eq!(side.admin().unwrap().groups().await.unwrap().len(), 1);
    }
    let member = broker.subscribe(group("billing")).await.unwrap();
    let batch = [event("l1", "a"), event("r2", "a"), event("r3", "b")];
    assert!(publish(&broker, &batch).await.is_ok());
    let groups = tools.groups().await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].lag, groups[0].members, groups[0].topics.len()), (3, 1, 1));
    let topics = tools.topics().await.unwrap();
    assert_eq!(topics.len(), 1);
    drop(member);
    assert!(tools.delete_group(&BILLING).await.unwrap());
    assert!(!tools.delete_group(&BILLING).await.unwrap());
    for side in [&local, &remote] {
        assert!(side.admin().unwrap().groups().await.unwrap().is_empty());
    }
}

fn letter(failed: i64) -> DeadLetter {
    let at = Timestamp::from_second(failed).unwrap();
    DeadLetter {
        cause: FailureCause::Failed,
        attempts: 3,
        first_failure: at,
        last_failure: at,
        error_kind: "handler_failed".into(),
        error_text: "no".into(),
    }
}

#[tokio::test]
async fn dead_letters_of_both_sides_are_listed_by_age_and_settled_by_name() {
    let (_, _, broker) = hybrid();
    let tools = tools(&broker);
    let mut member = broker.subscribe(group("billing")).await.unwrap();
    for (id, failed) in [("r1", 10), ("l2", 20), ("r3", 30)] {
        assert!(publish(&broker, &[event(id, "")]).await.is_ok());
        let delivery = member.next().await.unwrap().unwrap();
        delivery.reject(letter(failed)).await.unwrap();
    }
    let letters = tools.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    let ids: Vec<String> = letters.iter().map(|letter| letter.event.id().to_string()).collect();
    assert_eq!(ids, ["r1", "l2", "r3"]);
    let sides: Vec<&str> =
        letters.iter().map(|letter| letter.id.0.split(':').next().unwrap()).collect();
    assert_eq!(sides, ["remote", "local", "remote"]);
    let first_two = DeadLetterFilter { limit: Some(2), ..DeadLetterFilter::default() };
    assert_eq!(tools.dead_letters(&first_two).await.unwrap().len(), 2);

    tools.settle_dead_letter(&letters[1].id, DeadLetterVerdict::Discard).await.unwrap();
    tools.settle_dead_letter(&letters[0].id, DeadLetterVerdict::Redrive).await.unwrap();
    assert_eq!(drain(&mut member).await, ["r1"]);
    let rest = tools.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(rest.iter().map(|letter| &letter.id).collect::<Vec<_>>(), [&letters[2].id]);
}

#[tokio::test]
async fn a_dead_letter_of_neither_side_is_not_found() {
    let (_, _, broker) = hybrid();
    let id = DeadLetterId("elsewhere:1".into());
    let outcome = tools(&broker).settle_dead_letter(&id, DeadLetterVerdict::Discard).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_delayed_event_is_cancelled_on_the_side_that_has_it() {
    let (_, _, broker) = hybrid();
    let _member = broker.subscribe(group("billing")).await.unwrap();
    let options = PublishOptions::default().with_delay(Duration::from_secs(3600));
    for id in ["l1", "r2"] {
        let event = event(id, "a");
        assert!(broker.publish(std::slice::from_ref(&event), &options).await.is_ok());
        assert!(tools(&broker).cancel(event.id()).await.unwrap());
        assert!(!tools(&broker).cancel(event.id()).await.unwrap());
    }
}
