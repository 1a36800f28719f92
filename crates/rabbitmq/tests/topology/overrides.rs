//! What one publish chooses for itself.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::BasicGetOptions;
use trunkline_core::{Audience, Broker as _, ErrorKind, PublishOptions};

use crate::{Place, SOON, Taker, broadcast, connect, event};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_goes_to_an_exchange_and_a_key_of_others() {
    let place = Place::new().await;
    place.exchange("theirs", ExchangeKind::Direct).await;
    place.queue("inbox", &[]).await;
    place.bind("inbox", "theirs", "Any key!").await;
    let broker = connect(place.config()).await;
    let moved = PublishOptions::default()
        .with_exchange(place.name("theirs"))
        .with_routing_key("Any key!")
        .with_header("x-tenant", "acme");
    broker.publish(&[event("orders", 7)], &moved).await.into_result().unwrap();
    let inbox = place.name("inbox").into();
    let got = place.hand.basic_get(inbox, BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!(got.data, b"7");
    assert_eq!(got.routing_key.as_str(), "Any key!");
    let headers = got.properties.headers().clone().unwrap();
    assert!(headers.contains_key("x-tenant") && headers.contains_key("ce-id"));

    let lost = moved.with_routing_key("another");
    let unroutable = broker.publish(&[event("orders", 8)], &lost).await.into_result();
    assert_eq!(unroutable.unwrap_err().kind(), ErrorKind::Unroutable);
    let nowhere = PublishOptions::default().with_exchange(place.name("nowhere"));
    let missing = broker.publish(&[event("orders", 9)], &nowhere).await.into_result();
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_that_cannot_be_honoured_together_are_refused_and_nothing_is_sent() {
    let place = Place::new().await;
    let broker = connect(place.config()).await;
    let mut listener = Taker::open(&broker, broadcast("#")).await;
    let late = PublishOptions::default().with_delay(Duration::from_millis(10));
    let only = PublishOptions::default().with_audience(Audience::BroadcastOnly);
    for options in [
        late.clone().with_routing_key("other"),
        late.with_exchange("amq.topic"),
        only.with_exchange("amq.topic"),
    ] {
        let refused = broker.publish(&[event("orders", 1)], &options).await.into_result();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{options:?}");
    }
    listener.nothing().await;
    listener.close().await;
    broker.close(SOON).await.unwrap();
}
