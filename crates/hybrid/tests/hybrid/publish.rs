//! Events go where the strategy says, and results come back to their places.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use trunkline_core::{
    Audience, Broker, ErrorKind, Event, Group, PublishOptions, Publishing, RetryClass, Route,
};
use trunkline_hybrid::{FirstMatch, HybridBroker, HybridConfig, OnNoLocalSubscriber};

use crate::support::*;

fn hybrid() -> (Scripted, Scripted, HybridBroker) {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let broker = HybridBroker::new(local.clone(), remote.clone(), by_id);
    (local, remote, broker)
}

fn events(drawn: &[(&str, &str)]) -> Vec<Event> {
    drawn.iter().map(|(id, key)| event(id, key)).collect()
}

#[tokio::test]
async fn a_batch_that_goes_one_way_is_one_inner_batch_and_ready_at_once() {
    let (local, remote, broker) = hybrid();
    let options = PublishOptions::default();
    for batch in [events(&[("l1", "a"), ("l2", "b")]), events(&[("r1", "a"), ("r2", "b")])] {
        assert!(matches!(broker.publish(&batch, &options), Publishing::Ready(r) if r.is_ok()));
    }
    assert_eq!(local.batches(), [["l1", "l2"]]);
    assert_eq!(remote.batches(), [["r1", "r2"]]);
    let counters = broker.counters();
    assert_eq!((counters.routed_local, counters.routed_remote), (2, 2));
}

#[tokio::test]
async fn an_event_that_stays_local_is_not_copied() {
    let (local, _, broker) = hybrid();
    let batch = events(&[("l1", "a")]);
    assert!(publish(&broker, &batch).await.is_ok());
    assert!(local.published(0, 0).ptr_eq(&batch[0]));
}

#[tokio::test]
async fn an_empty_batch_is_accepted_and_sends_nothing() {
    let (_, remote, broker) = hybrid();
    assert!(publish(&broker, &[]).await.is_ok());
    assert!(remote.batches().is_empty());
    assert_eq!(broker.counters(), trunkline_hybrid::HybridCounters::default());
}

#[tokio::test]
async fn a_key_that_goes_both_ways_is_sent_in_order_and_other_keys_share_its_legs() {
    let (local, remote, broker) = hybrid();
    let batch =
        events(&[("l1", "a"), ("r2", "b"), ("r3", "a"), ("l4", "c"), ("l5", "a"), ("r6", "b")]);
    assert!(publish(&broker, &batch).await.is_ok());
    assert_eq!(local.batches(), [vec!["l1", "l4"], vec!["l5"]]);
    assert_eq!(remote.batches(), [["r2", "r3", "r6"]]);
}

#[tokio::test]
async fn failures_come_back_at_the_places_of_the_batch() {
    let (local, remote, broker) = hybrid();
    local.will_fail(&[(1, ErrorKind::Full)]);
    remote.will_fail(&[(0, ErrorKind::TooLarge)]);
    let batch = events(&[("l0", "a"), ("r1", "b"), ("l2", "c"), ("r3", "d")]);
    let result = publish(&broker, &batch).await;
    assert_eq!(kinds(&result), [(1, ErrorKind::TooLarge), (2, ErrorKind::Full)]);
    let counters = broker.counters();
    assert_eq!((counters.routed_local, counters.routed_remote), (1, 1));
}

#[tokio::test]
async fn an_event_that_fails_holds_later_ones_of_its_key_back_on_the_other_side_too() {
    let (local, remote, broker) = hybrid();
    local.will_fail(&[(0, ErrorKind::Full)]);
    let batch = events(&[("l0", "a"), ("r1", "a"), ("r2", "b"), ("b3", "a"), ("l4", "a")]);
    let result = publish(&broker, &batch).await;
    assert_eq!(
        kinds(&result),
        [
            (0, ErrorKind::Full),
            (1, ErrorKind::Aborted),
            (3, ErrorKind::Aborted),
            (4, ErrorKind::Aborted)
        ]
    );
    assert_eq!(local.batches(), [["l0"]]);
    assert_eq!(remote.batches(), [["r2"]]);
}

#[tokio::test]
async fn events_without_a_key_hold_nothing_back() {
    let (local, remote, broker) = hybrid();
    local.will_fail(&[(0, ErrorKind::Full)]);
    let result = publish(&broker, &events(&[("l0", ""), ("r1", "")])).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Full)]);
    assert_eq!(remote.batches(), [["r1"]]);
}

#[tokio::test]
async fn a_local_event_that_nobody_local_takes_goes_remote_and_is_counted() {
    let (local, remote) = (memory(), Scripted::new());
    let broker = HybridBroker::new(local, remote.clone(), always(Route::Local));
    let result = publish(&broker, &events(&[("1", "a"), ("2", "a"), ("3", "b")])).await;
    assert!(result.is_ok());
    assert_eq!(remote.batches(), [["1", "2", "3"]]);
    let counters = broker.counters();
    assert_eq!((counters.local_unroutable, counters.routed_local), (3, 3));
    let _subscription = broker.subscribe(broadcast()).await.unwrap();
    assert!(publish(&broker, &events(&[("4", "a")])).await.is_ok());
    assert_eq!(remote.batches().len(), 1, "somebody local takes it by now");
}

#[tokio::test]
async fn a_local_event_that_nobody_local_takes_is_an_error_where_configured() {
    let remote = Scripted::new();
    let config = HybridConfig::default().with_on_no_local_subscriber(OnNoLocalSubscriber::Error);
    let broker = HybridBroker::with_config(memory(), remote.clone(), always(Route::Local), config);
    let result = publish(&broker, &events(&[("1", "a")])).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Unroutable)]);
    assert!(remote.batches().is_empty());
    assert_eq!(broker.counters().local_unroutable, 0);
}

#[tokio::test]
async fn the_options_of_a_publish_reach_the_broker() {
    let (local, remote, broker) = hybrid();
    let options = PublishOptions::default()
        .with_delay(Duration::from_secs(5))
        .with_timeout(Duration::from_millis(7))
        .with_audience(Audience::BroadcastOnly)
        .with_from_group(Group::from_static("billing"));
    let batch = events(&[("l", "a"), ("r", "b"), ("b", "c")]);
    assert!(broker.publish(&batch, &options).await.is_ok());
    for side in [&local, &remote] {
        let state = side.state();
        assert_eq!(state.published.len(), 2);
        assert!(state.published.iter().all(|(_, seen)| *seen == options));
    }
}

#[tokio::test]
async fn the_origin_of_an_earlier_hop_does_not_travel_on() {
    let (_, remote, broker) = hybrid();
    let from_elsewhere = |id| {
        event(id, "a").amend(|attributes| attributes.set_origin(Some("elsewhere".into()))).unwrap()
    };
    assert!(publish(&broker, &[from_elsewhere("r1")]).await.is_ok());
    assert_eq!(remote.published(0, 0).attributes().origin(), None);
    assert!(publish(&broker, &[from_elsewhere("b2")]).await.is_ok());
    assert_ne!(remote.published(1, 0).attributes().origin(), Some("elsewhere"));
}

#[tokio::test(start_paused = true)]
async fn a_strategy_by_health_learns_that_the_remote_broker_is_back() {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let strategy = FirstMatch::otherwise(Route::Remote)
        .after(trunkline_hybrid::while_remote_down(Route::Local));
    let broker = HybridBroker::new(local.clone(), remote.clone(), strategy);
    remote.will_fail(&[(0, ErrorKind::Disconnected)]);
    remote.state().health = trunkline_core::Health::down("as told");
    let result = publish(&broker, &[event("1", "a")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::Disconnected)]);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(publish(&broker, &[event("2", "a")]).await.is_ok());
    remote.state().health = trunkline_core::Health::up();
    assert!(publish(&broker, &[event("3", "a")]).await.is_ok());
    assert_eq!(local.batches(), [["2"], ["3"]], "it is asked once a second, not for every event");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(publish(&broker, &[event("4", "a")]).await.is_ok());
    assert_eq!(remote.batches(), [["1"], ["4"]]);
}

#[tokio::test]
async fn explaining_a_decision_sends_and_counts_nothing() {
    let (local, remote, broker) = hybrid();
    for (id, route) in [("l", Route::Local), ("r", Route::Remote), ("b", Route::Both)] {
        let decision = broker.explain(event(id, "a").attributes());
        assert_eq!((decision.route, &*decision.reason), (route, "the first letter of the id"));
    }
    assert!(local.batches().is_empty() && remote.batches().is_empty());
    assert_eq!(broker.counters(), trunkline_hybrid::HybridCounters::default());
}

#[tokio::test]
async fn an_unknown_outcome_comes_back_as_it_is() {
    let (_, remote, broker) = hybrid();
    remote.will_fail(&[(0, ErrorKind::TimedOut)]);
    let result = publish(&broker, &events(&[("r", "a")])).await;
    assert_eq!(result.into_result().unwrap_err().retry(), RetryClass::Ambiguous);
}

/// Collects the fields of spans named `trunkline.route`.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<String, String>>>);

impl Visit for Spans {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.lock().unwrap().insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Spans {
    fn on_new_span(
        &self,
        span: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: Context<'_, S>,
    ) {
        assert_eq!(span.metadata().name(), "trunkline.route");
        span.record(&mut self.clone());
    }

    fn on_record(
        &self,
        _: &tracing::span::Id,
        values: &tracing::span::Record<'_>,
        _: Context<'_, S>,
    ) {
        values.record(&mut self.clone());
    }
}

#[tokio::test]
async fn a_decision_is_a_span_with_type_topic_route_and_reason() {
    let (_, _, broker) = hybrid();
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let batch = events(&[("r1", "a")]);
    let options = PublishOptions::default();
    let publishing =
        tracing::subscriber::with_default(subscriber, || broker.publish(&batch, &options));
    assert!(publishing.await.is_ok());
    let fields = spans.0.lock().unwrap().clone();
    let expected = [
        ("reason", "the first letter of the id"),
        ("route", "remote"),
        ("topic", "orders.placed"),
        ("type", "orders.placed"),
    ];
    assert!(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
}
