//! Groups, broadcast and channels, as consumers of a bus see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Barrier;
use trunkline_bus::{Channel, Consumer};
use trunkline_core::{Broker, ErrorKind, Event, Pattern, Priority, Typed};

use super::stage::{Step, log, publish, spread_steps, step, steps};
use crate::broker::{BrokerProperty, Need, Subject, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(members_of_a_group_work_at_the_same_time_and_handle_each_event_once).needs(NEEDS),
        promise!(every_group_handles_every_event).needs(NEEDS),
        promise!(every_broadcast_consumer_handles_every_event).needs(NEEDS),
        promise!(consumers_of_one_group_must_handle_the_same_types).needs(NEEDS),
        promise!(a_consumer_without_handlers_or_topics_is_refused).needs(NEEDS),
        promise!(the_consumers_of_a_channel_are_durable_from_the_start).needs(NEEDS),
        promise!(a_consumer_takes_the_settings_of_its_channel).needs(NEEDS),
        promise!(a_channel_that_needs_what_the_broker_lacks_fails_at_the_start),
        promise!(with_lanes_more_urgent_events_are_handled_first)
            .needs(&[Need::DeadLetters, Need::PriorityLanes]),
    ]
}

async fn members_of_a_group_work_at_the_same_time_and_handle_each_event_once<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (barrier, (log, mut seen)) = (Arc::new(Barrier::new(2)), log());
    let buses = [subject.bus().await?, subject.bus().await?];
    for (member, bus) in buses.iter().enumerate() {
        let (barrier, log) = (Arc::clone(&barrier), log.clone());
        let fresh = Arc::new(AtomicBool::new(true));
        let consumer = subject.consumer("g", &topic)?.prefetch(2).on(move |step: Typed<Step>| {
            let (barrier, log, fresh) = (Arc::clone(&barrier), log.clone(), Arc::clone(&fresh));
            async move {
                // The first run of each member waits for the first of the other.
                if fresh.swap(false, Ordering::SeqCst) {
                    barrier.wait().await;
                }
                log.note((member, step.number));
            }
        });
        bus.subscribe(consumer).await?;
    }
    publish(&buses[0], &spread_steps(&topic, 20, 0..20)?).await?;
    let ran = seen.take(20).await?;
    let mut numbers: Vec<u64> = ran.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    ensure_eq!(numbers, (0..20).collect::<Vec<u64>>(), "the numbers that ran");
    seen.nothing().await
}

async fn every_group_handles_every_event<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    for group in ["one", "two", "three"] {
        let log = log.clone();
        let consumer = subject.consumer(group, &topic)?.on(move |step: Typed<Step>| {
            log.note((group, step.number));
            async {}
        });
        bus.subscribe(consumer).await?;
    }
    publish(&bus, &steps(&topic, "k", 0..30)?).await?;
    let ran = seen.take(90).await?;
    for wanted in ["one", "two", "three"] {
        let of_group = ran.iter().filter(|(group, _)| *group == wanted);
        let numbers: Vec<u64> = of_group.map(|(_, number)| *number).collect();
        ensure_eq!(numbers, (0..30).collect::<Vec<u64>>(), "the runs of group {wanted}");
    }
    seen.nothing().await
}

async fn every_broadcast_consumer_handles_every_event<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let buses = [subject.bus().await?, subject.bus().await?];
    for place in 0..4 {
        let log = log.clone();
        let consumer = subject.listener(&topic).named(format!("listener {place}"));
        let consumer = consumer.on(move |step: Typed<Step>| {
            log.note((place, step.number));
            async {}
        });
        buses[place % 2].subscribe(consumer).await?;
    }
    publish(&buses[0], &steps(&topic, "k", 0..30)?).await?;
    let ran = seen.take(120).await?;
    for wanted in 0..4 {
        let of_place = ran.iter().filter(|(place, _)| *place == wanted);
        let numbers: Vec<u64> = of_place.map(|(_, number)| *number).collect();
        ensure_eq!(numbers, (0..30).collect::<Vec<u64>>(), "the runs of listener {wanted}");
    }
    seen.nothing().await
}

async fn consumers_of_one_group_must_handle_the_same_types<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let steps = || Ok::<_, Failure>(subject.consumer("g", &topic)?.on(|_: Typed<Step>| async {}));
    bus.subscribe(steps()?).await?;
    bus.subscribe(steps()?).await?;
    let other = subject.consumer("g", &topic)?.on(|_: Event| async {});
    match bus.subscribe(other).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of `{error}`"),
        Ok(_) => ensure!(false, "a second member that handles other types was accepted"),
    }
    Ok(())
}

async fn a_consumer_without_handlers_or_topics_is_refused<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let group = subject.group("g")?;
    let consumers = [
        subject.consumer("g", &topic)?,
        Consumer::group(group.as_str()).on(|_: Event| async {}),
        Consumer::group("not a group!").topics(["a"]).on(|_: Event| async {}),
        Consumer::broadcast().topics(["not a topic!"]).on(|_: Event| async {}),
        subject.consumer("g", &topic)?.concurrency(0).on(|_: Event| async {}),
    ];
    for consumer in consumers {
        let what = format!("{consumer:?}");
        match bus.subscribe(consumer).await {
            Err(error) => ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of `{error}`"),
            Ok(_) => ensure!(false, "this was accepted: {what}"),
        }
    }
    Ok(())
}

/// A channel of one topic of this run.
fn channel<B: Broker>(subject: &Subject<B>, topic: &str) -> Result<Channel, Failure> {
    Ok(Channel::new("steps", [Pattern::from(subject.topic(topic)?)]))
}

async fn the_consumers_of_a_channel_are_durable_from_the_start<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut steps_channel = channel(&subject, "a")?;
    steps_channel.consumers = vec![subject.group("one")?, subject.group("two")?];
    let bus = subject.builder().channel(steps_channel).start().await?;
    publish(&bus, &steps(&topic, "k", 0..10)?).await?;
    for group in ["one", "two"] {
        let (log, mut seen) = log();
        let consumer = subject.consumer(group, &topic)?.on(move |step: Typed<Step>| {
            log.note(step.number);
            async {}
        });
        bus.subscribe(consumer).await?;
        ensure_eq!(seen.take(10).await?, (0..10).collect::<Vec<u64>>(), "the runs of {group}");
        seen.nothing().await?;
    }
    Ok(())
}

async fn a_consumer_takes_the_settings_of_its_channel<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut parallel = channel(&subject, "a")?;
    parallel.concurrency = 4;
    let bus = subject.builder().channel(parallel).start().await?;
    let (barrier, (log, mut seen)) = (Arc::new(Barrier::new(4)), log());
    let consumer = subject.consumer("g", &topic)?.on(move |step: Typed<Step>| {
        let (barrier, log) = (Arc::clone(&barrier), log.clone());
        async move {
            // Opens only when four run at once.
            barrier.wait().await;
            log.note(step.number);
        }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &spread_steps(&topic, 4, 0..4)?).await?;
    seen.take(4).await.map(drop)
}

async fn a_channel_that_needs_what_the_broker_lacks_fails_at_the_start<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let mut lanes = channel(&subject, "a")?;
    lanes.lanes = true;
    let mut drops = channel(&subject, "a")?;
    drops.on_full = trunkline_core::OnFull::DropOldest;
    let has = &subject.expected;
    for (has, channel) in [(has.priority_lanes, lanes), (has.drop_oldest, drops)] {
        let started = subject.builder().channel(channel).start().await;
        match (has, started) {
            (true, started) => drop(started?),
            (false, Ok(_)) => ensure!(false, "the bus started without what its channel needs"),
            (false, Err(error)) => {
                ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of `{error}`");
                let text = error.to_string();
                let names = text.contains("steps") && text.contains(subject.expected.name);
                ensure!(names, "`{text}` does not name both the channel and the broker");
            }
        }
    }
    Ok(())
}

async fn with_lanes_more_urgent_events_are_handled_first<B: Broker>(subject: Subject<B>) -> Check {
    const LOW: u64 = 100;
    const COUNT: usize = 110;
    let topic = subject.topic("a")?;
    let mut urgent = channel(&subject, "a")?;
    urgent.lanes = true;
    urgent.consumers = vec![subject.group("g")?];
    let bus = subject.builder().channel(urgent).start().await?;
    let mut batch = Vec::new();
    for number in 0..COUNT as u64 {
        let priority = if number < LOW { Priority::Low } else { Priority::Critical };
        // Keys of their own: what waits behind its key does not overtake another.
        let key = format!("key-{number}");
        batch.push(step(&topic, Some(&key), number)?.amend(|attributes| {
            attributes.set_priority(priority);
            Ok(())
        })?);
    }
    publish(&bus, &batch).await?;
    let (log, mut seen) = log();
    let consumer = subject.consumer("g", &topic)?.prefetch(4).on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(consumer).await?;
    let ran = seen.take(COUNT).await?;
    let last_urgent = ran.iter().rposition(|number| *number >= LOW).unwrap_or(COUNT);
    // Which of two events comes first that wait in different places of a server is nobody's promise.
    ensure!(last_urgent < COUNT / 2, "the critical ones were through after {last_urgent} events");
    Ok(())
}
