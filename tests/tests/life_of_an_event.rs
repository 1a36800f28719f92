//! What a tracing subscriber sees of one event from publish to settle, and that the documentation of
//! it says the same.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper of a test fails the test where it panics"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use trunkline_bus::{Consumer, Context, EventBus};
use trunkline_core::{Decision, Event, EventId, Result, Route, TraceParent, Typed};
use trunkline_hybrid::HybridBroker;
use trunkline_macros::DomainEvent;
use trunkline_memory::{MemoryBroker, MemoryStore, MemoryStoreConfig};

const SOON: Duration = Duration::from_secs(10);

/// Every span of one event, in the order in which they are opened, each with the one around it.
const LIFE: [(&str, Option<&str>); 7] = [
    ("trunkline.publish", None),
    ("trunkline.store", Some("trunkline.publish")),
    ("trunkline.send", Some("trunkline.publish")),
    ("trunkline.route", Some("trunkline.send")),
    ("trunkline.receive", None),
    ("trunkline.process", None),
    ("trunkline.settle", None),
];

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed", key = customer)]
struct OrderPlaced {
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.invoiced", key = customer)]
struct OrderInvoiced {
    customer: String,
}

/// A span as it was opened.
#[derive(Debug, Clone)]
struct Seen {
    name: &'static str,
    level: tracing::Level,
    /// Every field that it may have.
    known: BTreeSet<&'static str>,
    /// The fields that it has.
    fields: BTreeMap<&'static str, String>,
    /// The place of the span around it.
    parent: Option<usize>,
}

/// Keeps every span of ours, in the order in which they are opened.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

/// The place of a span in the log, kept at the span itself.
struct Place(usize);

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let metadata = attributes.metadata();
        if !metadata.name().starts_with("trunkline.") {
            return;
        }
        let span = context.span(id).expect("the span was just opened");
        let parent = span.parent().and_then(|parent| Some(parent.extensions().get::<Place>()?.0));
        let mut seen = Seen {
            name: metadata.name(),
            level: *metadata.level(),
            known: metadata.fields().iter().map(|field| field.name()).collect(),
            fields: BTreeMap::new(),
            parent,
        };
        attributes.record(&mut seen);
        let mut log = self.0.lock().unwrap();
        span.extensions_mut().insert(Place(log.len()));
        log.push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        let span = context.span(id).expect("the span is open");
        if let Some(Place(place)) = span.extensions().get() {
            values.record(&mut self.0.lock().unwrap()[*place]);
        }
    }
}

impl Log {
    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of one event: those that name it, and those inside one that does.
    fn of(&self, event: &EventId) -> Vec<Seen> {
        let all = self.all();
        let event = event.to_string();
        let names_it = |seen: &&Seen| {
            let mut around = Some(*seen);
            while let Some(span) = around {
                if let Some(id) = span.fields.get("id") {
                    return *id == event;
                }
                around = span.parent.map(|parent| &all[parent]);
            }
            false
        };
        all.iter().filter(names_it).cloned().collect()
    }

    fn name(&self, place: Option<usize>) -> Option<&'static str> {
        place.map(|place| self.0.lock().unwrap()[place].name)
    }
}

/// An event, what its handler published, and the spans of both.
struct Story {
    log: Log,
    placed: Event,
    invoiced: Event,
}

/// Publishes one event through middleware, store and hybrid to a handler that publishes another one.
async fn tell() -> Story {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let local = |_: &_, _: &_| Decision::new(Route::Local, "everything is local here");
    let hybrid = HybridBroker::new(MemoryBroker::default(), MemoryBroker::default(), local);
    let bus = EventBus::builder(hybrid)
        .middleware(|event: Event| -> Result<Event> {
            event.amend(|attributes| attributes.set_tenant(Some("acme".into())))
        })
        .store(MemoryStore::new(MemoryStoreConfig::default()))
        .start()
        .await
        .unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let heard = seen.clone();
    let billing =
        Consumer::group("billing").on(move |order: Typed<OrderPlaced>, context: Context| {
            heard.send(order.event().clone()).unwrap();
            let customer = order.customer.clone();
            async move { context.publish(OrderInvoiced { customer }).await.map(drop) }
        });
    let ledger = Consumer::group("ledger").on(move |invoice: Typed<OrderInvoiced>| {
        seen.send(invoice.event().clone()).unwrap();
        std::future::ready(())
    });
    bus.subscribe(billing).await.unwrap();
    bus.subscribe(ledger).await.unwrap();
    bus.publish(OrderPlaced { customer: "ann".to_owned() }).await.unwrap();
    let mut next = async || tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap();
    let (placed, invoiced) = (next().await, next().await);
    bus.close(SOON).await.unwrap();
    Story { log, placed, invoiced }
}

fn assert_fields(seen: &Seen, expected: &[(&'static str, &str)]) {
    let expected = expected.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    assert_eq!(seen.fields, expected, "{}", seen.name);
}

#[tokio::test]
async fn one_event_opens_these_spans_in_this_order_from_publish_to_settle() {
    let Story { log, placed, .. } = tell().await;
    let spans = log.of(placed.id());
    let life: Vec<_> = spans.iter().map(|seen| (seen.name, log.name(seen.parent))).collect();
    assert_eq!(life, LIFE);
    let id = placed.id().to_string();
    let trace = placed.attributes().trace().unwrap().to_string();
    let [publish, store, send, route, receive, process, settle] = spans.try_into().unwrap();
    let (of_type, topic) = (("type", "OrderPlaced"), ("topic", "orders.placed"));
    assert_fields(&publish, &[topic, of_type, ("id", &id), ("trace", &trace)]);
    assert_fields(&store, &[("stream", "orders.placed/ann")]);
    assert_fields(&send, &[("events", "1")]);
    let reason = ("reason", "everything is local here");
    assert_fields(&route, &[of_type, topic, ("route", "local"), reason]);
    assert_fields(&receive, &[("consumer", "billing"), ("id", &id)]);
    let by = [("consumer", "billing"), ("attempt", "1"), ("trace", trace.as_str())];
    assert_fields(&process, &[by[0], topic, of_type, ("id", &id), by[1], by[2]]);
    assert_fields(&settle, &[("verdict", "ack"), ("id", &id)]);
    assert_eq!(placed.attributes().tenant(), Some("acme"), "the middleware was not asked");
}

#[tokio::test]
async fn what_a_handler_publishes_stays_in_the_trace_of_what_it_handles() {
    let Story { log, placed, invoiced } = tell().await;
    let trace = |event: &Event| event.attributes().trace().unwrap();
    let (cause, effect) = (trace(&placed), trace(&invoiced));
    assert_eq!(cause.trace_id(), effect.trace_id());
    assert_ne!(cause.span_id(), effect.span_id());
    let spans = log.of(invoiced.id());
    assert_eq!(log.name(spans[0].parent), Some("trunkline.process"));
    let names = |life: &[Seen]| life.iter().map(|seen| seen.name).collect::<Vec<_>>();
    assert_eq!(names(&spans), LIFE.map(|(name, _)| name));
    for span in spans.iter().filter(|seen| seen.known.contains("trace")) {
        let carried: TraceParent = span.fields["trace"].parse().unwrap();
        assert_eq!(carried, effect, "{}", span.name);
    }
}

/// The documentation, and where its paths begin.
fn page() -> (String, PathBuf) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("tests/ lies in the workspace").to_owned();
    (std::fs::read_to_string(root.join("docs/life-of-an-event.md")).unwrap(), root)
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[tokio::test]
async fn the_documentation_lists_these_spans_with_their_fields_and_files() {
    let (page, root) = page();
    let rows = page.lines().filter(|line| line.starts_with("| `trunkline."));
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.split('|').map(str::trim).skip(1).collect()).collect();
    let names: Vec<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(names, LIFE.map(|(name, _)| name));
    let Story { log, placed, .. } = tell().await;
    for (row, seen) in rows.iter().zip(log.of(placed.id())) {
        let around = log.name(seen.parent);
        assert_eq!(quoted(row[1]).first().copied(), around, "what is around {}", seen.name);
        let fields: BTreeSet<_> = quoted(row[2]).into_iter().collect();
        assert_eq!(fields, seen.known, "the fields of {}", seen.name);
        assert_eq!(row[3].parse().ok(), Some(seen.level), "the level of {}", seen.name);
        for file in quoted(row[4]) {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains(seen.name), "{file} opens no {}", seen.name);
        }
    }
}

/// The files of the numbered steps under a heading.
fn steps<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = page.split_once(heading).expect("the page has this section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let numbered = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    numbered.filter_map(|line| quoted(line).first().copied()).collect()
}

#[test]
fn the_walk_is_at_most_five_files_in_memory_and_eight_through_hybrid() {
    let (page, root) = page();
    for (heading, most) in [("\n## In memory\n", 5), ("\n## Through hybrid\n", 8)] {
        let files = steps(&page, heading);
        assert!((1..=most).contains(&files.len()), "{heading}: {files:?}");
        for file in files {
            assert!(root.join(file).is_file(), "{file} is gone");
        }
    }
}
