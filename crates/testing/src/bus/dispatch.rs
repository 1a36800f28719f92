//! Which handler an event goes to, in which form, and what becomes of one that none takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trunkline_bus::{EventBus, OnUnhandled};
use trunkline_core::{
    Broker, Data, DomainEvent, Event, FailureCause, StoredDeadLetter, Topic, Typed,
};

use super::stage::{Log, Step, log, publish, step};
use crate::broker::{BrokerProperty, GARBAGE, Need, SOON, Subject, eventually, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(data_that_does_not_decode_is_kept_raw_and_the_consumer_goes_on).needs(NEEDS),
        promise!(what_is_no_event_is_kept_raw_and_the_consumer_goes_on)
            .needs(&[Need::DeadLetters, Need::ForeignWriter]),
        promise!(a_version_that_nobody_takes_is_kept_raw_and_the_consumer_goes_on).needs(NEEDS),
        promise!(a_handler_takes_the_versions_it_says).needs(NEEDS),
        promise!(a_type_that_nobody_takes_is_acknowledged_and_counted).needs(NEEDS),
        promise!(a_type_that_nobody_takes_becomes_a_dead_letter_by_policy).needs(NEEDS),
        promise!(the_default_handler_takes_what_no_other_does).needs(NEEDS),
        promise!(another_rust_type_of_the_same_name_is_decoded_from_bytes).needs(NEEDS),
        promise!(a_handler_of_events_gets_data_and_attributes).needs(NEEDS),
    ]
}

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![promise!(a_value_stays_itself_on_the_local_path).needs(NEEDS)]
}

/// Subscribes a handler of steps that writes down their numbers.
async fn subscribe_steps<B: Broker>(
    subject: &Subject<B>,
    bus: &EventBus,
    topic: &Topic,
    log: Log<u64>,
) -> Check {
    let consumer = subject.consumer("g", topic)?.on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(consumer).await?;
    Ok(())
}

/// Publishes `odd` between two steps; the steps have to be handled and `odd` has to be kept raw.
async fn ensure_kept_raw<B: Broker>(
    subject: Subject<B>,
    odd: impl FnOnce(Topic) -> trunkline_core::Result<Event>,
    cause: FailureCause,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    subscribe_steps(&subject, &bus, &topic, log).await?;
    let odd = odd(topic.clone())?;
    let batch = [step(&topic, Some("k"), 1)?, odd.clone(), step(&topic, Some("k"), 2)?];
    publish(&bus, &batch).await?;
    ensure_eq!(seen.take(2).await?, [1, 2], "the steps handled");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_raw(&kept, &odd, cause)?;
    seen.nothing().await
}

fn ensure_raw(kept: &StoredDeadLetter, sent: &Event, cause: FailureCause) -> Check {
    ensure_eq!(kept.letter.cause, cause, "the cause");
    ensure_eq!(kept.event.data()?, sent.data()?, "the raw data");
    ensure_eq!(kept.event.attributes().identity(), sent.attributes().identity(), "the identity");
    ensure!(!kept.letter.error_text.is_empty(), "the dead letter does not say why");
    Ok(())
}

async fn data_that_does_not_decode_is_kept_raw_and_the_consumer_goes_on<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let broken = Data::json(&b"{\"number\": 1, \xff\xfe broken"[..]);
    let odd = |topic| Event::from_data("Step", topic, broken).key("k").build();
    ensure_kept_raw(subject, odd, FailureCause::Undecodable).await
}

async fn what_is_no_event_is_kept_raw_and_the_consumer_goes_on<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    subscribe_steps(&subject, &bus, &topic, log).await?;
    publish(&bus, &[step(&topic, Some("k"), 1)?]).await?;
    subject.hooks.write_raw(&topic, GARBAGE).await?;
    publish(&bus, &[step(&topic, Some("k"), 2)?]).await?;
    ensure_eq!(seen.take(2).await?, [1, 2], "the steps handled");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_eq!(kept.letter.cause, FailureCause::Undecodable, "the cause");
    ensure_eq!(kept.event.data()?.as_slice(), GARBAGE, "the raw bytes");
    ensure!(!kept.letter.error_text.is_empty(), "the dead letter does not say why");
    subject.settled("g").await?;
    seen.nothing().await
}

async fn a_version_that_nobody_takes_is_kept_raw_and_the_consumer_goes_on<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let odd = |topic| {
        let data = Data::json(r#"{"key":"k","number":7}"#);
        Event::from_data("Step", topic, data).key("k").attribute("dataversion", 9).build()
    };
    ensure_kept_raw(subject, odd, FailureCause::UnknownVersion).await
}

async fn a_handler_takes_the_versions_it_says<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(consumer.versions(1..=3)).await?;
    let of_version = |version: i32| {
        let data = Data::json(format!(r#"{{"key":"k","number":{version}}}"#));
        let draft = Event::from_data("Step", topic.clone(), data).key("k");
        // A foreign event without a version is the first one.
        match version {
            0 => draft.build(),
            version => draft.attribute("dataversion", version).build(),
        }
    };
    let batch = (0..=4).map(of_version).collect::<trunkline_core::Result<Vec<_>>>()?;
    publish(&bus, &batch).await?;
    ensure_eq!(seen.take(4).await?, [0, 1, 2, 3], "the versions handled");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_raw(&kept, &batch[4], FailureCause::UnknownVersion)
}

fn unknown(topic: &Topic) -> Result<Event, Failure> {
    let data = Data::json(r#"{"what":"no idea"}"#);
    Ok(Event::from_data("Unheard", topic.clone(), data).key("k").build()?)
}

async fn a_type_that_nobody_takes_is_acknowledged_and_counted<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    subscribe_steps(&subject, &bus, &topic, log).await?;
    publish(&bus, &[unknown(&topic)?, step(&topic, Some("k"), 1)?]).await?;
    ensure_eq!(seen.next().await?, 1, "the step handled");
    subject.settled("g").await?;
    let consumers = bus.metrics().consumers;
    ensure_eq!(consumers.iter().map(|c| c.unhandled).sum::<u64>(), 1, "the unhandled, counted");
    ensure!(subject.letters("g").await?.is_empty(), "an unhandled type is a dead letter");
    Ok(())
}

async fn a_type_that_nobody_takes_becomes_a_dead_letter_by_policy<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.on_unhandled(OnUnhandled::DeadLetter);
    let consumer = consumer.on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(consumer).await?;
    let odd = unknown(&topic)?;
    publish(&bus, &[odd.clone(), step(&topic, Some("k"), 1)?]).await?;
    ensure_eq!(seen.next().await?, 1, "the step handled");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_raw(&kept, &odd, FailureCause::Unhandled)
}

async fn the_default_handler_takes_what_no_other_does<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let (typed, default) = (log.clone(), log);
    let consumer = subject
        .consumer("g", &topic)?
        .on(move |_: Typed<Step>| {
            typed.note("typed".to_owned());
            async {}
        })
        .on(move |event: Event| {
            default.note(event.attributes().event_type().to_owned());
            async {}
        });
    bus.subscribe(consumer).await?;
    publish(&bus, &[unknown(&topic)?, step(&topic, Some("k"), 1)?]).await?;
    ensure_eq!(seen.take(2).await?, ["Unheard", "typed"], "who took what");
    ensure!(subject.letters("g").await?.is_empty(), "something is a dead letter");
    Ok(())
}

/// What another service calls a `Step`.
#[derive(Debug, Serialize, Deserialize)]
struct ForeignStep {
    number: i64,
    #[serde(default)]
    remark: Option<String>,
}

impl DomainEvent for ForeignStep {
    const TYPE: &'static str = Step::TYPE;
    const TOPIC: Topic = Step::TOPIC;
}

async fn another_rust_type_of_the_same_name_is_decoded_from_bytes<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.on(move |step: Typed<ForeignStep>| {
        log.note((step.number, step.remark.clone()));
        async {}
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &[step(&topic, Some("k"), 42)?]).await?;
    ensure_eq!(seen.next().await?, (42, None), "the decoded step");
    Ok(())
}

async fn a_handler_of_events_gets_data_and_attributes<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.on(move |event: Event| {
        log.note(event);
        async {}
    });
    bus.subscribe(consumer).await?;
    let typed = step(&topic, Some("k"), 5)?;
    let raw = Data::raw(vec![0_u8, 255, 1], "image/png");
    let raw = Event::from_data("Image", topic, raw).key("k").tenant("tenant-1").build()?;
    publish(&bus, &[typed.clone(), raw.clone()]).await?;
    for sent in [typed, raw] {
        let got = seen.next().await?;
        ensure_eq!(got.data()?, sent.data()?, "the data");
        ensure_eq!(got.attributes().identity(), sent.attributes().identity(), "the identity");
        ensure_eq!(got.topic(), sent.topic(), "the topic");
    }
    Ok(())
}

/// A payload that counts every time that somebody writes or reads it.
struct Sealed {
    touched: Arc<AtomicUsize>,
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        self.touched.fetch_add(1, Ordering::SeqCst);
        Err(serde::ser::Error::custom("a local value is not to be encoded"))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a local value is not to be decoded"))
    }
}

impl DomainEvent for Sealed {
    const TYPE: &'static str = "Sealed";
    const TOPIC: Topic = Topic::from_static("trunkline-conformance.sealed");
}

/// Where a value is, to compare.
fn place_of(sealed: &Sealed) -> usize {
    std::ptr::from_ref(sealed).addr()
}

async fn a_value_stays_itself_on_the_local_path<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    for group in ["one", "two"] {
        let log = log.clone();
        let consumer = subject.consumer(group, &topic)?.on(move |sealed: Typed<Sealed>| {
            log.note(place_of(&sealed));
            async {}
        });
        bus.subscribe(consumer).await?;
    }
    let touched = Arc::new(AtomicUsize::new(0));
    let payload = Sealed { touched: Arc::clone(&touched) };
    let event = Event::builder(payload).topic(topic).key("k").build()?;
    bus.publish_event(&event).await?;
    let missing = || Failure::new("the event has lost its value");
    let place = place_of(event.value::<Sealed>().ok_or_else(missing)?);
    ensure_eq!(seen.take(2).await?, [place, place], "where the value is in memory");
    for group in ["one", "two"] {
        subject.settled(group).await?;
    }
    ensure_eq!(touched.load(Ordering::SeqCst), 0, "how often it was encoded");
    let handled =
        || async { Ok(bus.metrics().consumers.iter().all(|consumer| consumer.handled == 1)) };
    eventually(SOON, "both groups have handled it", handled).await
}
