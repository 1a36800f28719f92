//! What a payload goes through: nothing while it stays in this process, and serde once where it must.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper of a test fails the test where it panics"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tokio::sync::mpsc;
use trunkline_bus::{Consumer, EventBus};
use trunkline_core::{
    BatchResult, Broker, Capabilities, Codec, Decision, DomainEvent, ErrorKind, Event, EventStore,
    Health, Position, PublishOptions, Publishing, ReadAll, Result, Route, SubscribeOptions,
    Subscription, Topic, Typed,
};
use trunkline_hybrid::HybridBroker;
use trunkline_memory::{MemoryBroker, MemoryStore, MemoryStoreConfig};

const SOON: Duration = Duration::from_secs(10);

/// A value that must not meet serde.
struct Untouchable {
    witness: Arc<()>,
}

impl Serialize for Untouchable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a local event was encoded")
    }
}

impl<'de> Deserialize<'de> for Untouchable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a local event was decoded")
    }
}

impl DomainEvent for Untouchable {
    const TYPE: &'static str = "Untouchable";
    const TOPIC: Topic = Topic::from_static("untouchable");
}

/// A value that serde refuses.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("a file handle cannot travel"))
    }
}

impl<'de> Deserialize<'de> for Unencodable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("a file handle cannot travel"))
    }
}

impl DomainEvent for Unencodable {
    const TYPE: &'static str = "Unencodable";
    const TOPIC: Topic = Topic::from_static("unencodable");
}

/// A value that counts its encodings; `Counted` is what another program calls the same type.
struct Counting {
    encodings: Arc<AtomicUsize>,
}

#[derive(Serialize)]
struct Fields {
    number: u32,
}

impl Serialize for Counting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encodings.fetch_add(1, Ordering::SeqCst);
        Fields { number: 7 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counting {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("only its publisher has this type"))
    }
}

impl DomainEvent for Counting {
    const TYPE: &'static str = "Measured";
    const TOPIC: Topic = Topic::from_static("measured");
}

/// The type of [`Counting`] as its handlers know it.
#[derive(Debug, PartialEq)]
struct Measured {
    number: u32,
}

static DECODINGS: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("only handlers have this type"))
    }
}

impl<'de> Deserialize<'de> for Measured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            number: u32,
        }
        DECODINGS.fetch_add(1, Ordering::SeqCst);
        Fields::deserialize(deserializer).map(|Fields { number }| Self { number })
    }
}

impl DomainEvent for Measured {
    const TYPE: &'static str = "Measured";
    const TOPIC: Topic = Topic::from_static("measured");
}

/// A broker as remote ones are: only bytes travel, and one that has none refuses the event.
#[derive(Debug, Default, Clone)]
struct Wire(MemoryBroker);

#[async_trait]
impl Broker for Wire {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        Publishing::waiting(async move {
            let mut result = BatchResult::accepted();
            for (index, event) in events.iter().enumerate() {
                let sent = match event.data() {
                    Ok(data) => {
                        let copy = Event::from_parts(event.attributes().clone(), data);
                        self.0.publish(std::slice::from_ref(&copy), options).await.into_result()
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = sent {
                    result.fail(index, error);
                }
            }
            result
        })
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.0.subscribe(options).await
    }

    async fn health(&self) -> Health {
        self.0.health().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }
}

fn hybrid(route: Route) -> HybridBroker {
    let always = move |_: &_, _: &_| Decision::new(route, "always");
    HybridBroker::new(MemoryBroker::default(), Wire::default(), always)
}

fn memory_store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(MemoryStoreConfig::default()))
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(SOON, receiver.recv()).await;
    next.expect("an event comes soon").expect("the consumer lives")
}

/// Publishes one value to a group and a broadcast subscriber, and checks that both get that very one.
async fn assert_untouched(broker: impl Broker) {
    let bus = EventBus::builder(broker).start().await.unwrap();
    let (seen, mut values) = mpsc::unbounded_channel();
    for consumer in [Consumer::group("billing"), Consumer::broadcast()] {
        let seen = seen.clone();
        let consumer = consumer.on(move |value: Typed<Untouchable>| {
            let place = std::ptr::from_ref::<Untouchable>(&value).addr();
            let witness = Arc::clone(&value.witness);
            let seen = seen.clone();
            async move { seen.send((place, witness)).unwrap() }
        });
        bus.subscribe(consumer).await.unwrap();
    }
    let event = Event::of(Untouchable { witness: Arc::new(()) }).unwrap();
    let published = event.value::<Untouchable>().unwrap();
    bus.publish_event(&event).await.unwrap();
    for _ in 0..2 {
        let (place, witness) = next(&mut values).await;
        assert_eq!(place, std::ptr::from_ref(published).addr());
        assert!(Arc::ptr_eq(&witness, &published.witness));
    }
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_value_passes_the_memory_broker_without_serde() {
    assert_untouched(MemoryBroker::default()).await;
}

#[tokio::test]
async fn a_value_that_a_hybrid_keeps_local_passes_without_serde() {
    assert_untouched(hybrid(Route::Local)).await;
}

/// Publishes what cannot be encoded, and checks that nobody gets anything of it.
async fn assert_refused(bus: &EventBus) {
    for consumer in [Consumer::group("billing"), Consumer::broadcast()] {
        bus.subscribe(consumer.topics(["#"]).on(|_: Event| async {})).await.unwrap();
    }
    let error = bus.publish(Unencodable).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    assert!(!error.is_stored(), "{error}");
    bus.close(SOON).await.unwrap();
    let metrics = bus.metrics();
    assert_eq!((metrics.published, metrics.rejected, metrics.stored), (0, 1, 0));
    assert!(metrics.consumers.iter().all(|consumer| consumer.delivered == 0), "{metrics:?}");
}

#[tokio::test]
async fn what_a_store_cannot_encode_is_refused_before_it_is_accepted() {
    let store = memory_store();
    let bus = EventBus::builder(MemoryBroker::default()).store(Arc::clone(&store));
    assert_refused(&bus.start().await.unwrap()).await;
    let page = store.read_all(&ReadAll::after(Position::START)).await.unwrap();
    assert!(page.events.is_empty(), "{page:?}");
}

#[tokio::test]
async fn what_a_remote_broker_cannot_encode_is_refused_on_both_sides() {
    for route in [Route::Remote, Route::Both] {
        assert_refused(&EventBus::builder(hybrid(route)).start().await.unwrap()).await;
    }
}

#[tokio::test]
async fn encoding_happens_once_per_codec_and_decoding_once_for_all_handlers_of_another_type() {
    let store = memory_store();
    let bus = EventBus::builder(hybrid(Route::Local)).store(Arc::clone(&store));
    let bus = bus.start().await.unwrap();
    let (seen, mut numbers) = mpsc::unbounded_channel();
    for consumer in [Consumer::group("billing"), Consumer::group("audit"), Consumer::broadcast()] {
        let seen = seen.clone();
        let consumer = consumer.on(move |measured: Typed<Measured>| {
            let seen = seen.clone();
            async move { seen.send(measured.number).unwrap() }
        });
        bus.subscribe(consumer).await.unwrap();
    }
    let encodings = Arc::new(AtomicUsize::new(0));
    let event = Event::of(Counting { encodings: Arc::clone(&encodings) }).unwrap();
    bus.publish_event(&event).await.unwrap();
    for _ in 0..3 {
        assert_eq!(next(&mut numbers).await, 7);
    }
    bus.close(SOON).await.unwrap();
    // The store needed bytes and the handlers decoded them: the same ones.
    assert_eq!(encodings.load(Ordering::SeqCst), 1);
    assert_eq!(DECODINGS.load(Ordering::SeqCst), 1);
    let copy = event.amend(|attributes| attributes.set_tenant(Some("acme".into()))).unwrap();
    for event in [&event, &copy] {
        assert_eq!(event.data_in(Codec::Json).unwrap().as_slice(), br#"{"number":7}"#);
        event.data_in(Codec::MessagePack).unwrap();
    }
    assert_eq!(encodings.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_store_and_a_remote_broker_share_the_bytes_of_one_encoding() {
    let store = memory_store();
    let broker = hybrid(Route::Both);
    let bus = EventBus::builder(broker).store(Arc::clone(&store)).start().await.unwrap();
    let (seen, mut bytes) = mpsc::unbounded_channel();
    let consumer = Consumer::group("billing").topics(["measured"]).on(move |event: Event| {
        let seen = seen.clone();
        async move { seen.send(event.data().unwrap().bytes.unwrap()).unwrap() }
    });
    bus.subscribe(consumer).await.unwrap();
    let encodings = Arc::new(AtomicUsize::new(0));
    let event = Event::of(Counting { encodings: Arc::clone(&encodings) }).unwrap();
    bus.publish_event(&event).await.unwrap();
    let received = next(&mut bytes).await;
    bus.close(SOON).await.unwrap();
    let page = store.read_all(&ReadAll::after(Position::START)).await.unwrap();
    let stored = page.events[0].event.data().unwrap().bytes.unwrap();
    assert_eq!(encodings.load(Ordering::SeqCst), 1);
    assert_eq!((received.as_ptr(), received.len()), (stored.as_ptr(), stored.len()));
}
