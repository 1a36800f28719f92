//! Data and attributes come out as they went in.

use std::collections::BTreeMap;

use trunkline_core::{Broker, Data, Event, Priority, Topic};

use super::{BrokerProperty, Subject, promise};
use crate::failure::{Check, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(binary_data_comes_out_byte_for_byte),
        promise!(a_mebibyte_comes_out_byte_for_byte),
        promise!(empty_data_and_no_data_stay_different),
        promise!(json_is_not_written_anew),
        promise!(every_attribute_comes_out_as_it_went_in),
        promise!(free_and_unicode_attributes_come_out_as_they_went_in),
        promise!(foreign_ids_come_out_as_they_went_in),
    ]
}

/// Sends an event through a group and a broadcast subscriber, and checks that both get just it.
async fn ensure_round_trip<B: Broker>(
    subject: &Subject<B>,
    make: impl FnOnce(Topic) -> trunkline_core::Result<Event>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let sent = make(topic)?;
    subject.publish_one(&sent).await?;
    for taker in [&mut member, &mut listener] {
        let got = taker.event().await?;
        ensure_eq!(got.data()?.bytes, sent.data()?.bytes, "the data");
        ensure_eq!(got.data()?.content_type, sent.data()?.content_type, "the content type");
        ensure_eq!(got.topic(), sent.topic(), "the topic");
        ensure_eq!(attributes_of(&got), attributes_of(&sent), "the attributes");
    }
    Ok(())
}

/// The attributes by name, as text: the wire of most brokers keeps no types.
fn attributes_of(event: &Event) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    event.attributes().visit(|name, value| {
        // A hybrid adds it, to know its own echo.
        if name != "originid" {
            found.insert(name.to_owned(), value.to_text().into_owned());
        }
    });
    found
}

async fn binary_data_comes_out_byte_for_byte<B: Broker>(subject: Subject<B>) -> Check {
    let every_byte: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let data = Data::raw(every_byte, "application/octet-stream");
    ensure_round_trip(&subject, |topic| Event::from_data("Binary", topic, data).build()).await
}

async fn a_mebibyte_comes_out_byte_for_byte<B: Broker>(subject: Subject<B>) -> Check {
    // No repeating pattern that a compression would hide a mistake behind.
    let mut state = 1_u32;
    let noise = (0..1 << 20).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let data = Data::raw(noise.collect::<Vec<u8>>(), "application/octet-stream");
    ensure_round_trip(&subject, |topic| Event::from_data("Large", topic, data).build()).await
}

async fn empty_data_and_no_data_stay_different<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let empty = Data::raw(Vec::new(), "text/plain");
    for (data, has_bytes) in [(empty, true), (Data::none(), false)] {
        let sent = Event::from_data("Empty", topic.clone(), data).build()?;
        subject.publish_one(&sent).await?;
        let got = member.event().await?;
        ensure_eq!(got.data()?.bytes.is_some(), has_bytes, "whether there is data");
        ensure_eq!(got.data()?.as_slice().len(), 0, "the length of the data");
    }
    Ok(())
}

async fn json_is_not_written_anew<B: Broker>(subject: Subject<B>) -> Check {
    // What a parser would change: spaces, the order of keys, the digits of numbers, escapes.
    let text = r#" { "z" : 1.0 , "a" : 1e2 , "n" : 12345678901234567890123 , "é" : "\u00e9" } "#;
    ensure_round_trip(&subject, |topic| Event::from_data("Json", topic, Data::json(text)).build())
        .await
}

async fn every_attribute_comes_out_as_it_went_in<B: Broker>(subject: Subject<B>) -> Check {
    let make = |topic| {
        Event::from_data("shop.OrderPlaced", topic, Data::json(r#"{"id":7}"#))
            .source("https://shop.example/orders?region=eu")
            .key("customer 17")
            .priority(Priority::High)
            .correlation("story-1")
            .tenant("tenant-1")
            .attribute("causationid", "cause-1")
            .attribute("subject", "order/7")
            .attribute("dataschema", "https://shop.example/schema/order")
            .attribute("dataversion", 3)
            .attribute("userid", "user-1")
            .attribute("projectid", "project-1")
            .attribute("kind", "command")
            .attribute("time", "2024-02-29T23:59:59.123456Z")
            .attribute("expirytime", "2124-02-29T23:59:59Z")
            .attribute("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .attribute("tracestate", "vendor=value")
            .build()
    };
    ensure_round_trip(&subject, make).await
}

async fn free_and_unicode_attributes_come_out_as_they_went_in<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let make = |topic| {
        Event::from_data("Unicode", topic, Data::json(r#""ü""#))
            .key("schlüssel-🔑")
            .tenant("Ångström & Søn")
            .attribute("subject", "日本語 “quoted” 100 %")
            .attribute("freetext", "a b=c; d%20e\"f")
            .attribute("freenumber", i32::MIN)
            .attribute("freeflag", true)
            .build()
    };
    ensure_round_trip(&subject, make).await
}

async fn foreign_ids_come_out_as_they_went_in<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    for id in ["order 17/b", "8A316501-E7DF-5A55-BDFA-64D1C8570655", "1"] {
        let data = Data::json("1");
        let sent = Event::from_data("Foreign", topic.clone(), data).id(id).build()?;
        subject.publish_one(&sent).await?;
        let got = member.event().await?;
        ensure_eq!(got.id().to_string(), id, "the id");
        ensure_eq!(got.attributes().identity(), sent.attributes().identity(), "the identity");
    }
    Ok(())
}
