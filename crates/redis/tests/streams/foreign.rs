//! Programs that know nothing of trunkline.

use trunkline_core::{
    Broker as _, BrokerExt as _, DeadLetter, DeadLetterFilter, FailureCause, Pattern,
    SubscribeOptions,
};

use crate::{Place, event, group_of, next, number};

fn add(place: &Place, stream: &str, fields: &[(&str, &str)]) -> redis::Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(place.key(stream)).arg("*");
    for (name, value) in fields {
        add.arg(*name).arg(*value);
    }
    add
}

const STRUCTURED: &str = r#"{"specversion":"1.0","id":"1","source":"/dapr","type":"t","data":7}"#;

#[tokio::test]
async fn a_stream_of_another_program_is_found_by_its_pattern_from_its_first_entry() {
    let place = Place::new().await;
    let broker = place.broker().await;
    let mut member = broker.subscribe(group_of(&["orders.#"])).await.unwrap();
    let fields = [
        ("ce_specversion", "1.0"),
        ("ce_id", "a1"),
        ("ce_source", "/shop"),
        ("ce_type", "Placed"),
        ("content-type", "application/json"),
        ("data", "41"),
    ];
    let _: String = place.run(&add(&place, "orders.placed", &fields)).await;
    let delivery = next(&mut member).await;
    assert_eq!((number(&delivery), delivery.event().topic().as_str()), (41, "orders.placed"));
    assert_eq!(delivery.event().id().to_string(), "a1");
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn a_lone_data_field_is_read_as_a_structured_event() {
    let place = Place::new().await;
    let broker = place.broker().await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    let mut listener =
        broker.subscribe(SubscribeOptions::broadcast([Pattern::new("a").unwrap()])).await.unwrap();
    let _: String = place.run(&add(&place, "a", &[("data", STRUCTURED)])).await;
    for taker in [&mut member, &mut listener] {
        let delivery = next(taker).await;
        assert_eq!((number(&delivery), delivery.event().attributes().source()), (7, "/dapr"));
        assert!(delivery.defect().is_none());
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_dead_letter_of_what_is_no_event_keeps_its_fields() {
    let place = Place::new().await;
    let broker = place.broker().await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    let _: String = place.run(&add(&place, "a", &[("name", "Ann"), ("age", "41")])).await;
    let delivery = next(&mut member).await;
    assert!(delivery.defect().is_some());
    let now = jiff::Timestamp::now();
    let letter = DeadLetter {
        cause: FailureCause::Undecodable,
        attempts: 0,
        first_failure: now,
        last_failure: now,
        error_kind: "decode".to_owned(),
        error_text: "no event".to_owned(),
    };
    delivery.reject(letter).await.unwrap();
    let mut range = redis::cmd("XRANGE");
    range.arg(format!("{{{}}}..dlq.g", place.key("a"))).arg("-").arg("+");
    let kept: Vec<(String, std::collections::HashMap<String, String>)> = place.run(&range).await;
    assert_eq!((kept[0].1["name"].as_str(), kept[0].1["age"].as_str()), ("Ann", "41"));
    let admin = broker.admin().unwrap();
    let letters = admin.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters[0].letter.cause, FailureCause::Undecodable);
}

#[tokio::test]
async fn what_is_written_is_plain_binary_mode() {
    let place = Place::new().await;
    let broker = place.broker().await;
    let published = event("a", Some("k"), 7);
    broker.publish_one(&published).await.unwrap();
    let partition = trunkline_core::partition_of("k", 8);
    let stream = if partition == 0 { "a".to_owned() } else { format!("a..{partition}") };
    let fields = place.entries(&stream).await.remove(0);
    assert_eq!(fields["ce_specversion"], "1.0");
    assert_eq!(fields["ce_id"], published.id().to_string());
    assert_eq!(fields["ce_partitionkey"], "k");
    assert_eq!(fields["content-type"], "application/json");
    assert_eq!(fields["data"], "7");
}
