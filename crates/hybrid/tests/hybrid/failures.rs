//! The remote broker is down, or nobody knows what became of an event.

use trunkline_core::{ErrorKind, RetryClass, Route};
use trunkline_hybrid::{HybridBroker, HybridConfig, OnRemoteDown};

use crate::support::*;

fn hybrid(on_remote_down: OnRemoteDown) -> (Scripted, Scripted, HybridBroker) {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let config = HybridConfig::default().with_on_remote_down(on_remote_down);
    let broker = HybridBroker::with_config(local.clone(), remote.clone(), by_id, config);
    (local, remote, broker)
}

#[tokio::test]
async fn while_the_remote_broker_is_down_publishing_fails_by_default() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Fail);
    for id in ["r", "b"] {
        remote.will_fail(&[(0, ErrorKind::Disconnected)]);
        let result = publish(&broker, &[event(id, "a")]).await;
        assert_eq!(kinds(&result), [(0, ErrorKind::Disconnected)]);
    }
    assert!(local.batches().is_empty());
}

#[tokio::test]
async fn while_the_remote_broker_is_down_events_go_local_where_configured_and_are_counted() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Local);
    for id in ["r", "b"] {
        remote.will_fail(&[(0, ErrorKind::Disconnected)]);
        assert!(publish(&broker, &[event(id, "a")]).await.is_ok());
    }
    assert_eq!(local.batches(), [["r"], ["b"]]);
    let everyone = trunkline_core::Audience::Everyone;
    assert!(local.state().published.iter().all(|(_, options)| options.audience == everyone));
    assert_eq!(broker.counters().remote_down_local, 2);
}

#[tokio::test]
async fn what_was_aborted_behind_an_event_falls_back_with_it_in_order() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Local);
    remote.will_fail(&[(0, ErrorKind::Disconnected), (2, ErrorKind::Aborted)]);
    let batch = [event("r0", "a"), event("r1", "b"), event("r2", "a")];
    assert!(publish(&broker, &batch).await.is_ok());
    assert_eq!(local.batches(), [["r0", "r2"]]);
}

#[tokio::test]
async fn an_unknown_outcome_is_never_sent_elsewhere() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Local);
    let lost = (0, ErrorKind::Disconnected, RetryClass::Ambiguous);
    let behind = (1, ErrorKind::Aborted, RetryClass::Transient);
    for id in ["r", "b"] {
        remote.will(Script::Fail(vec![lost, behind]));
        let result = publish(&broker, &[event(id, "a"), event(id, "a")]).await;
        assert_eq!(kinds(&result), [(0, ErrorKind::Disconnected), (1, ErrorKind::Aborted)]);
        assert_eq!(result.error(0).unwrap().retry(), RetryClass::Ambiguous);
    }
    assert!(local.batches().is_empty());
    assert_eq!(broker.counters().remote_down_local, 0);
}

#[tokio::test]
async fn a_fallback_that_nobody_local_takes_is_the_error_of_the_remote_broker() {
    let remote = Scripted::new();
    let config = HybridConfig::default().with_on_remote_down(OnRemoteDown::Local);
    let broker = HybridBroker::with_config(memory(), remote.clone(), always(Route::Remote), config);
    remote.will_fail(&[(0, ErrorKind::Disconnected)]);
    let result = publish(&broker, &[event("1", "a")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Disconnected)]);
    assert!(result.error(0).unwrap().context("local fallback").is_some());
}

#[tokio::test]
async fn an_event_that_nobody_local_takes_does_not_come_back_when_the_remote_broker_is_down() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Local);
    local.will_fail(&[(0, ErrorKind::Unroutable)]);
    remote.will_fail(&[(0, ErrorKind::Disconnected)]);
    let result = publish(&broker, &[event("l", "a"), event("r", "a")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Disconnected), (1, ErrorKind::Aborted)]);
    assert_eq!((local.batches().len(), remote.batches().len()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_has_to_be_waited_for_is_treated_as_one_that_is_ready() {
    let (local, remote, broker) = hybrid(OnRemoteDown::Local);
    let answer = remote.will_wait();
    let batch = [event("r", "a")];
    let publishing = publish(&broker, &batch);
    let answering = async {
        let error = trunkline_core::Error::new(ErrorKind::Disconnected, "publish", "gone");
        answer.send(trunkline_core::BatchResult::failed(1, &error)).unwrap();
    };
    let (result, ()) = tokio::join!(publishing, answering);
    assert!(result.is_ok());
    assert_eq!(local.batches(), [["r"]]);
    assert_eq!(broker.counters().routed_remote, 1);
}
