//! What is stored comes back as it was.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_core::{
    AttributeValue, Data, DomainEvent, Event, EventStore, ExpectedVersion, Kind, Priority, Topic,
};

use super::StoreProperty;
use super::events::{TOPIC, append_one, draft, whole_log, whole_stream};
use crate::failure::{Check, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(data_comes_back_byte_for_byte),
        property!(a_mebibyte_comes_back),
        property!(absent_data_is_not_empty_data),
        property!(every_attribute_comes_back),
        property!(free_attributes_keep_their_types_and_order),
        property!(text_of_any_language_comes_back),
        property!(a_typed_event_reads_back_as_its_type),
        property!(an_amended_event_comes_back_amended),
    ]
}

/// What comes back, by the stream and by the global order, has the attributes and data of `event`.
async fn ensure_comes_back<S: EventStore>(store: &S, event: Event) -> Check {
    let stream = event.id().to_string();
    let place = append_one(store, &stream, event.clone()).await?;
    let mut found = whole_stream(store, &stream).await?;
    let log = whole_log(store).await?;
    found.extend(log.into_iter().filter(|recorded| recorded.position == place.position));
    ensure_eq!(found.len(), 2, "the number of times that the event is found");
    for recorded in found {
        ensure_eq!(recorded.event.attributes(), event.attributes(), "the attributes");
        let (found, wanted) = (recorded.event.data()?, event.data()?);
        ensure_eq!(found.content_type, wanted.content_type, "the content type");
        let same = found.bytes == wanted.bytes;
        ensure!(same, "{:?} came back as {:?}", shown(&wanted), shown(&found));
    }
    Ok(())
}

/// Enough of the data to tell what is wrong with it.
fn shown(data: &Data) -> Option<(usize, &[u8])> {
    let bytes = data.bytes.as_deref()?;
    Some((bytes.len(), &bytes[..bytes.len().min(64)]))
}

fn with_data(data: Data) -> trunkline_core::Result<Event> {
    Event::from_data("Raw", TOPIC, data).build()
}

async fn data_comes_back_byte_for_byte<S: EventStore>(store: Arc<S>) -> Check {
    let every_byte: Vec<u8> = (0..=255).collect();
    let cases = [
        Data::raw(every_byte, "application/octet-stream"),
        Data::raw(vec![0; 3], "application/octet-stream"),
        Data::raw(vec![0xFF, 0xFE], "text/plain"),
        Data::raw("text\nof\r\nlines", "text/plain; charset=utf-8"),
        Data::raw("<a/>", "application/xml"),
        Data::json("{ \"n\": 12345678901234567890123, \"x\": 1.10,\n \"e\": 1E400 }"),
        Data::json(r#"{"a":1,"a":2}"#),
        Data::json("not JSON at all"),
        Data::json("null"),
        Data { bytes: Some("untyped".into()), content_type: None },
    ];
    for data in cases {
        ensure_comes_back(&store, with_data(data)?).await?;
    }
    Ok(())
}

async fn a_mebibyte_comes_back<S: EventStore>(store: Arc<S>) -> Check {
    // No period that a page or a block would hide.
    let bytes: Vec<u8> =
        (0..1_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    ensure_comes_back(&store, with_data(Data::raw(bytes, "application/octet-stream"))?).await
}

async fn absent_data_is_not_empty_data<S: EventStore>(store: Arc<S>) -> Check {
    ensure_comes_back(&store, with_data(Data::none())?).await?;
    ensure_comes_back(&store, with_data(Data::json(""))?).await?;
    let absent_but_typed = Data { bytes: None, content_type: Some("text/plain".into()) };
    ensure_comes_back(&store, with_data(absent_but_typed)?).await
}

async fn every_attribute_comes_back<S: EventStore>(store: Arc<S>) -> Check {
    let nanoseconds = Timestamp::new(1_700_000_000, 123_456_789);
    let time = nanoseconds.unwrap_or_default();
    let cause = draft().build()?;
    let event = draft()
        .caused_by(cause.attributes())
        .source("urn:orders:1")
        .priority(Priority::Critical)
        .tenant("acme")
        .attribute("kind", Kind::Command.as_str())
        .attribute("time", AttributeValue::Timestamp(time))
        .attribute("expirytime", AttributeValue::Timestamp(Timestamp::MAX))
        .attribute("dataversion", 4)
        .attribute("subject", "order/7")
        .attribute("dataschema", "https://example.com/schema?v=4#top")
        .attribute("tracestate", "vendor=1,other=2")
        .attribute("userid", "u-1")
        .attribute("projectid", "apollo")
        .attribute("originid", "o-1")
        .build()?;
    ensure_comes_back(&store, event).await?;
    let bare = draft().build()?.amend(|attributes| {
        attributes.set_time(None);
        attributes.set_trace(None);
        attributes.set_key(None)
    })?;
    ensure_comes_back(&store, bare).await?;
    let foreign_trace = draft().id("1").attribute("traceparent", "not of W3C").build()?;
    ensure_comes_back(&store, foreign_trace).await
}

async fn free_attributes_keep_their_types_and_order<S: EventStore>(store: Arc<S>) -> Check {
    let binary = AttributeValue::Binary(vec![0, 1, 254, 255].into());
    let event = draft()
        .attribute("zulu", i32::MIN)
        .attribute("alpha", i32::MAX)
        .attribute("yes", true)
        .attribute("no", false)
        .attribute("textyes", "true")
        .attribute("textnumber", "17")
        .attribute("binary", binary)
        .attribute("binarytext", "AAH+/w==")
        .attribute("when", AttributeValue::Timestamp(Timestamp::UNIX_EPOCH))
        .attribute("whentext", "1970-01-01T00:00:00Z")
        .attribute("empty", "")
        .attribute("stream", "no stream of the store")
        .attribute("position", 7)
        .build()?;
    ensure_comes_back(&store, event).await
}

async fn text_of_any_language_comes_back<S: EventStore>(store: Arc<S>) -> Check {
    let texts = [
        "Ünïcödé",
        "日本語",
        "العربية",
        "🦀👩‍👩‍👧‍👦",
        "\"quoted\" \\ 'single'",
        "$1 ?1 :a @b",
        " padded ",
    ];
    for text in texts {
        let event = draft()
            .source(text)
            .key(text)
            .tenant(text)
            .correlation(text)
            .attribute("type", text)
            .attribute("subject", text)
            .attribute("free", text)
            .build()?;
        ensure_comes_back(&store, event).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OrderPlaced {
    order: u64,
    note: String,
}

impl DomainEvent for OrderPlaced {
    const TYPE: &'static str = "OrderPlaced";
    const TOPIC: Topic = TOPIC;
    const VERSION: u32 = 3;
}

async fn a_typed_event_reads_back_as_its_type<S: EventStore>(store: Arc<S>) -> Check {
    let placed = OrderPlaced { order: u64::MAX, note: "dès lundi".to_owned() };
    let event = Event::of(placed.clone())?;
    store.append("s", ExpectedVersion::Any, std::slice::from_ref(&event)).await?;
    for recorded in whole_stream(&store, "s").await? {
        ensure_eq!(*recorded.event.typed::<OrderPlaced>()?, placed, "the payload");
        ensure_eq!(recorded.event.attributes(), event.attributes(), "the attributes");
        ensure_eq!(recorded.event.data()?, event.data()?, "the data");
    }
    Ok(())
}

async fn an_amended_event_comes_back_amended<S: EventStore>(store: Arc<S>) -> Check {
    let typed = Event::of(OrderPlaced { order: 1, note: String::new() })?;
    let amended = typed.amend(|attributes| attributes.set_tenant(Some("acme".into())))?;
    ensure_comes_back(&store, amended).await
}
