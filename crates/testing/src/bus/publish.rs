//! The publish pipeline: causes, middleware, limits, and what a handler may publish.

use std::sync::Arc;

use tokio::time::timeout;
use trunkline_bus::{Context, EventBus, plain};
use trunkline_core::{Broker, Data, Error, ErrorKind, Event, OnFull, StartAt, Topic, Typed};

use super::stage::{Log, Step, log, publish, step, steps};
use crate::broker::{BrokerProperty, Need, PAUSE, SOON, Subject, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_typed_publish_reaches_the_handler_of_its_type).needs(NEEDS),
        promise!(what_a_handler_publishes_carries_its_cause).needs(NEEDS),
        promise!(what_a_plain_function_publishes_carries_its_cause).needs(NEEDS),
        promise!(a_task_that_a_handler_spawns_carries_the_cause_in_its_scope).needs(NEEDS),
        promise!(a_batch_keeps_its_order_and_says_what_failed).needs(NEEDS),
        promise!(middleware_sees_every_event_in_its_order_and_may_change_it).needs(NEEDS),
        promise!(what_middleware_refuses_goes_nowhere).needs(NEEDS),
        promise!(what_is_published_and_refused_is_counted).needs(NEEDS),
    ]
}

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![promise!(a_handler_that_fills_its_own_group_gets_full_and_no_deadlock).needs(NEEDS)]
}

async fn a_typed_publish_reaches_the_handler_of_its_type<B: Broker>(subject: Subject<B>) -> Check {
    let (log, mut seen) = log();
    let bus = subject.builder().source("/conformance").start().await?;
    let group = subject.group("g")?;
    // The topic is the type's own, and a shared server may have events of other runs.
    let consumer = trunkline_bus::Consumer::group(group.as_str()).start_at(StartAt::Latest);
    let consumer = consumer.on(move |step: Typed<Step>| {
        log.note((step.event().clone(), step.number));
        async {}
    });
    bus.subscribe(consumer).await?;
    let id = bus.publish(Step { key: Some("k".to_owned()), number: 7 }).await?;
    loop {
        let (event, number) = seen.next().await?;
        if event.id() != &id {
            continue;
        }
        ensure_eq!(number, 7, "the value");
        let attributes = event.attributes();
        ensure_eq!(attributes.event_type(), "Step", "the type");
        ensure_eq!(attributes.key(), Some("k"), "the key");
        ensure_eq!(attributes.source(), "/conformance", "the source");
        ensure_eq!(event.topic(), &<Step as trunkline_core::DomainEvent>::TOPIC, "the topic");
        bus.close(SOON).await?;
        subject.admin()?.delete_group(&group).await?;
        return Ok(());
    }
}

/// Publishes a first event, and takes the one that its handler published.
async fn ensure_caused<B: Broker>(
    subject: &Subject<B>,
    bus: &EventBus,
    topics: (&Topic, &Topic),
) -> Check {
    let (log, mut seen) = log();
    let consumer = subject.consumer("caused", topics.1)?.on(move |event: Event| {
        log.note(event);
        async {}
    });
    bus.subscribe(consumer).await?;
    let payload = Step { key: None, number: 1 };
    let story = Event::builder(payload).topic(topics.0.clone()).correlation("story-1").build()?;
    let plain = step(topics.0, None, 2)?;
    for (cause, correlation) in [(&story, "story-1".to_owned()), (&plain, plain.id().to_string())] {
        publish(bus, std::slice::from_ref(cause)).await?;
        let caused = seen.next().await?;
        let attributes = caused.attributes();
        ensure_eq!(attributes.causation(), Some(cause.id()), "the causation id");
        let found = attributes.correlation().map(ToString::to_string);
        ensure_eq!(found, Some(correlation), "the correlation id");
    }
    Ok(())
}

async fn what_a_handler_publishes_carries_its_cause<B: Broker>(subject: Subject<B>) -> Check {
    let (from, to) = (subject.topic("from")?, subject.topic("to")?);
    let (bus, target) = (subject.bus().await?, to.clone());
    let consumer = subject.consumer("g", &from)?.on(move |_: Typed<Step>, context: Context| {
        let target = target.clone();
        async move {
            let event = Event::builder(Step { key: None, number: 0 }).topic(target).build()?;
            // The bus, and nothing else: the context is found by itself.
            context.bus()?.publish_event(&event).await
        }
    });
    bus.subscribe(consumer).await?;
    ensure_caused(&subject, &bus, (&from, &to)).await
}

async fn what_a_plain_function_publishes_carries_its_cause<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (from, to) = (subject.topic("from")?, subject.topic("to")?);
    let (bus, target) = (subject.bus().await?, to.clone());
    let handler = plain(move |_: Typed<Step>| -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::NotFound, "handle", "no context in the function");
        let context = Context::current().ok_or_else(missing)?;
        let event = Event::builder(Step { key: None, number: 0 }).topic(target.clone()).build()?;
        let bus = context.bus()?;
        tokio::runtime::Handle::current().block_on(bus.publish_event(&event))
    });
    bus.subscribe(subject.consumer("g", &from)?.on(handler)).await?;
    ensure_caused(&subject, &bus, (&from, &to)).await
}

async fn a_task_that_a_handler_spawns_carries_the_cause_in_its_scope<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (from, to) = (subject.topic("from")?, subject.topic("to")?);
    let (bus, target) = (subject.bus().await?, to.clone());
    let consumer = subject.consumer("g", &from)?.on(move |_: Typed<Step>, context: Context| {
        let target = target.clone();
        async move {
            let event = Event::builder(Step { key: None, number: 0 }).topic(target).build()?;
            let bus = context.bus()?;
            let work = context.scope(async move { bus.publish_event(&event).await });
            let spawned = tokio::spawn(work).await;
            spawned.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Backend, "spawn", "the task was cancelled"))
            })
        }
    });
    bus.subscribe(consumer).await?;
    ensure_caused(&subject, &bus, (&from, &to)).await
}

async fn a_handler_that_fills_its_own_group_gets_full_and_no_deadlock<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    // A wait for room would outlast the property.
    let bus = subject.builder().publish_timeout(SOON * 10).start().await?;
    let target = topic.clone();
    let consumer = subject.consumer("g", &topic)?.buffer(2, OnFull::Block).prefetch(1);
    let consumer = consumer.on(move |step: Typed<Step>, context: Context| {
        let (log, target) = (log.clone(), target.clone());
        async move {
            if step.number == 0 {
                log.note(fill(&context, &target).await);
            }
        }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    let outcome = seen.next().await?;
    ensure_eq!(outcome, Some(ErrorKind::Full), "what a handler got that fills its own group");
    // The group goes on: what was accepted is handled.
    subject.settled("g").await
}

/// Publishes until something fails, and says what.
async fn fill(context: &Context, topic: &Topic) -> Option<ErrorKind> {
    for number in 1..100 {
        let payload = Step { key: Some("k".to_owned()), number };
        let event = Event::builder(payload).topic(topic.clone()).build().ok()?;
        if let Err(error) = context.bus().ok()?.publish_event(&event).await {
            return Some(error.kind());
        }
    }
    None
}

async fn a_batch_keeps_its_order_and_says_what_failed<B: Broker>(subject: Subject<B>) -> Check {
    const LIMIT: usize = 1 << 10;
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let bus = subject.builder().max_event_bytes(LIMIT).start().await?;
    bus.subscribe(noting(&subject, &topic, log)?).await?;
    let large = Data::raw(vec![b'x'; LIMIT + 1], "text/plain");
    let mut batch = steps(&topic, "x", 0..5)?;
    batch.insert(2, Event::from_data("Step", topic.clone(), large).key("x").build()?);
    batch.push(step(&topic, Some("y"), 5)?);
    let result = bus.publish_many(&batch).await;
    let failed: Vec<_> = result.failures().map(|(place, error)| (place, error.kind())).collect();
    let aborted = ErrorKind::Aborted;
    let wanted = [(2, ErrorKind::TooLarge), (3, aborted), (4, aborted), (5, aborted)];
    ensure_eq!(failed, wanted, "what failed of the batch");
    let mut ran: Vec<u64> = seen.take(3).await?.iter().filter_map(number_of).collect();
    ran.sort_unstable();
    ensure_eq!(ran, [0, 1, 5], "what was handled");
    publish(&bus, &steps(&topic, "x", 6..200)?).await?;
    for wanted in 6..200 {
        ensure_eq!(number_of(&seen.next().await?), Some(wanted), "the next number");
    }
    seen.nothing().await
}

fn number_of(event: &Event) -> Option<u64> {
    event.typed::<Step>().ok().map(|step| step.number)
}

/// A consumer that writes every event down.
fn noting<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    log: Log<Event>,
) -> Result<trunkline_bus::Consumer, Failure> {
    Ok(subject.consumer("g", topic)?.on(move |event: Event| {
        log.note(event);
        async {}
    }))
}

/// Middleware that appends a letter to the tenant.
fn append(letter: char) -> impl Fn(Event) -> trunkline_core::Result<Event> + Send + Sync + 'static {
    move |event| {
        event.amend(|attributes| {
            let tenant = format!("{}{letter}", attributes.tenant().unwrap_or_default());
            attributes.set_tenant(Some(tenant.into()))
        })
    }
}

async fn middleware_sees_every_event_in_its_order_and_may_change_it<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let builder = subject.builder().middleware(append('a')).middleware(append('b'));
    let bus = builder.middleware(append('c')).start().await?;
    bus.subscribe(noting(&subject, &topic, log)?).await?;
    bus.publish_event(&step(&topic, Some("k"), 0)?).await?;
    publish(&bus, &steps(&topic, "k", 1..3)?).await?;
    for wanted in 0..3 {
        let event = seen.next().await?;
        ensure_eq!(event.attributes().tenant(), Some("abc"), "the tenant of number {wanted}");
        ensure_eq!(number_of(&event), Some(wanted), "the value");
    }
    Ok(())
}

/// Middleware that refuses odd steps.
fn refuse_odd(event: Event) -> trunkline_core::Result<Event> {
    match number_of(&event) {
        Some(number) if number % 2 == 1 => {
            Err(Error::new(ErrorKind::Invalid, "publish", "odd numbers are refused"))
        }
        _ => Ok(event),
    }
}

async fn what_middleware_refuses_goes_nowhere<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let bus = subject.builder().middleware(refuse_odd).start().await?;
    bus.subscribe(noting(&subject, &topic, log)?).await?;
    match bus.publish_event(&step(&topic, None, 1)?).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of `{error}`"),
        Ok(()) => ensure!(false, "an event was published that middleware refused"),
    }
    let keyless = (2..6).map(|number| step(&topic, None, number));
    let result = bus.publish_many(&keyless.collect::<Result<Vec<_>, _>>()?).await;
    let failed: Vec<usize> = result.failures().map(|(place, _)| place).collect();
    ensure_eq!(failed, [1, 3], "what was refused of the batch");
    let mut ran: Vec<_> = seen.take(2).await?.iter().filter_map(number_of).collect();
    ran.sort_unstable();
    ensure_eq!(ran, [2, 4], "what was handled");
    seen.nothing().await
}

async fn what_is_published_and_refused_is_counted<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let bus = Arc::new(subject.builder().middleware(refuse_odd).start().await?);
    bus.subscribe(noting(&subject, &topic, log)?).await?;
    for number in 0..4 {
        let event = step(&topic, None, number)?;
        let published = timeout(SOON + PAUSE, bus.publish_event(&event)).await;
        ensure!(published.is_ok(), "a publish did not end");
    }
    seen.take(2).await?;
    bus.close(SOON).await?;
    let metrics = bus.metrics();
    ensure_eq!((metrics.published, metrics.rejected), (2, 2), "published and refused");
    let consumer = metrics.consumers.first().ok_or_else(|| Failure::new("no consumer counted"))?;
    ensure_eq!((consumer.delivered, consumer.handled), (2, 2), "delivered and handled");
    ensure_eq!(consumer.in_flight, 0, "running after close");
    Ok(())
}
