//! The server is killed and comes back with its data.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{try_join, try_join3};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use trunkline_bus::EventBus;
use trunkline_core::{Broker, Event, PublishOptions, RetryClass, Topic, Typed};

use super::load::{Flow, publish_all};
use super::property::on_its_own_server;
use super::{FaultProperty, Scene};
use crate::broker::{Need, Subject, Taker, ack, eventually, keyed, number, numbered, patience};
use crate::bus::stage::{Log, Seen, Step, log, spread_steps};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::server::LiveServer;

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_its_own_server!(what_was_accepted_survives_a_kill_of_the_server),
        on_its_own_server!(a_flow_goes_on_through_kills_of_the_server_in_order_without_loss),
        on_its_own_server!(a_bus_goes_on_through_a_kill_of_the_server_and_loses_nothing),
        on_its_own_server!(a_broadcast_subscriber_misses_nothing_through_a_kill_of_the_server),
        on_its_own_server!(a_group_without_members_keeps_what_waits_through_a_kill_of_the_server),
        on_its_own_server!(delayed_events_survive_a_kill_while_they_come_due).needs(&[Need::Delay]),
    ]
}

/// How long a dead server stays away: longer than a first try to connect again.
const AWAY: Duration = Duration::from_millis(300);

/// SIGKILL, and a start with the same data.
async fn kill_and_restart<B: Broker>(scene: &Scene<B>, server: &LiveServer) -> Check {
    server.kill().await?;
    sleep(scene.variation().span(AWAY)).await;
    Ok(server.restart().await?)
}

/// The numbers that were accepted, of publishers that take no refusal for an end.
#[derive(Default)]
struct Accepted {
    numbers: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    stop: AtomicBool,
    is_delayed: bool,
}

impl Accepted {
    /// As many of them as come due at one time or another, a few at every moment.
    const DELAYS: u64 = 40;

    /// What an event is published with: none comes due at the same moment as the next one.
    fn options(&self, number: u64) -> PublishOptions {
        let delay = Duration::from_millis(300 + 10 * (number % Self::DELAYS));
        let options = PublishOptions::default();
        if self.is_delayed { options.with_delay(delay) } else { options }
    }

    /// So many publishers at the same time.
    fn publishers<B: Broker>(
        self: &Arc<Self>,
        count: usize,
        subject: &Subject<B>,
        topic: &Topic,
    ) -> JoinSet<Check> {
        let publisher = |_| {
            let (accepted, subject, topic) = (Arc::clone(self), subject.clone(), topic.clone());
            async move { accepted.publish_on(&subject, &topic).await }
        };
        (0..count).map(publisher).collect()
    }

    /// Ends the publishers and answers what has to come.
    async fn all(&self, mut publishers: JoinSet<Check>) -> Result<BTreeSet<u64>, Failure> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = publishers.join_next().await {
            ended.map_err(|cause| Failure::new(format!("a publisher stopped: {cause}")))??;
        }
        Ok(self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn count(&self) -> u64 {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// One event after the other, each once.
    async fn publish_on<B: Broker>(&self, subject: &Subject<B>, topic: &Topic) -> Check {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let event = [numbered(topic, Some(&format!("key-{}", number % 40)), number)?];
            let result = subject.broker.publish(&event, &self.options(number)).await;
            if result.is_ok() {
                self.numbers.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
            } else {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

async fn what_was_accepted_survives_a_kill_of_the_server<B: Broker>(scene: Scene<B>) -> Check {
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let accepted = Arc::new(Accepted::default());
    let publishers = accepted.publishers(4, &subject, &topic);
    for kill in 0..scene.variation().kills() {
        let enough = accepted.count() + 100 + 70 * kill;
        let flows = || async { Ok(accepted.count() >= enough) };
        eventually(2 * patience(), "publishers get on", flows).await?;
        kill_and_restart(&scene, &server).await?;
    }
    let enough = accepted.count() + 100;
    let flows = || async { Ok(accepted.count() >= enough) };
    eventually(2 * patience(), "publishers get on after the restart", flows).await?;
    let mut missing = accepted.all(publishers).await?;
    take_all(&mut subject.join("g", &topic).await?, &mut missing).await
}

/// Takes until nothing is missing any more; what comes twice or was never accepted is no matter.
async fn take_all(taker: &mut Taker, missing: &mut BTreeSet<u64>) -> Check {
    let all = missing.len();
    while !missing.is_empty() {
        let delivery = taker.next().await.map_err(|failure| {
            let some: Vec<&u64> = missing.iter().take(10).collect();
            let count = missing.len();
            Failure::new(format!("{count} of {all} are lost, such as {some:?}: {failure}"))
        })?;
        missing.remove(&number(delivery.event())?);
        // A connection that broke meanwhile takes the acknowledgement with it: then it comes again.
        drop(ack(delivery).await);
    }
    Ok(())
}

/// The first runs of each key have to begin in the order of their numbers.
fn ensure_first_runs_ordered(ran: &[u64], keys: u64) -> Check {
    let mut seen = BTreeSet::new();
    let mut latest = vec![None; usize::try_from(keys).unwrap_or_default()];
    for number in ran.iter().filter(|number| seen.insert(**number)) {
        let latest = &mut latest[usize::try_from(number % keys).unwrap_or_default()];
        ensure!(*latest < Some(*number), "number {number} was begun after {latest:?} of its key");
        *latest = Some(*number);
    }
    Ok(())
}

/// Reads runs until `count` different numbers have been begun.
async fn until_all(seen: &mut Seen<u64>, ran: &mut Vec<u64>, count: u64) -> Check {
    let mut different: BTreeSet<u64> = ran.iter().copied().collect();
    while (different.len() as u64) < count {
        let number = seen.next().await.map_err(|failure| {
            let done = different.len();
            let first = (0..).find(|at| !different.contains(at)).unwrap_or_default();
            Failure::new(format!("{done} of {count} ran, number {first} did not: {failure}"))
        })?;
        different.insert(number);
        ran.push(number);
    }
    Ok(())
}

/// A handler in a process of its own that writes down what it begins.
async fn handling<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    log: Log<u64>,
) -> Result<EventBus, Failure> {
    let bus = subject.bus().await?;
    let consumer = subject.consumer("g", topic)?.concurrency(8).on(move |event: Event| {
        log.note(number(&event).unwrap_or(u64::MAX));
        async {}
    });
    bus.subscribe(consumer).await?;
    Ok(bus)
}

async fn a_flow_goes_on_through_kills_of_the_server_in_order_without_loss<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let kills = scene.variation().kills();
    let flow = Flow { keys: 40, count: 2_000 + 1_000 * kills, per_second: 500 };
    let server = scene.server()?;
    let (publisher, one, two) =
        (scene.process().await?, scene.process().await?, scene.process().await?);
    let topic = publisher.topic("a")?;
    let (log, mut seen) = log();
    let _members =
        [handling(&one, &topic, log.clone()).await?, handling(&two, &topic, log.clone()).await?];
    let mut ran = Vec::new();
    let killing = async {
        for kill in 0..kills {
            until_all(&mut seen, &mut ran, 700 + 1_000 * kill).await?;
            kill_and_restart(&scene, &server).await?;
        }
        until_all(&mut seen, &mut ran, flow.count).await
    };
    try_join(flow.publish(&publisher, &topic), killing).await?;
    ensure_first_runs_ordered(&ran, flow.keys)?;
    publisher.settled("g").await
}

async fn a_bus_goes_on_through_a_kill_of_the_server_and_loses_nothing<B: Broker>(
    scene: Scene<B>,
) -> Check {
    const KEYS: u64 = 20;
    const COUNT: u64 = 1_000;
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.concurrency(8).on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(consumer).await?;
    let publishing = async {
        for first in (0..COUNT).step_by(20) {
            publish_with_bus(&bus, &spread_steps(&topic, KEYS, first..first + 20)?).await?;
        }
        Ok(())
    };
    let mut ran = Vec::new();
    let killing = async {
        until_all(&mut seen, &mut ran, scene.variation().later(COUNT / 4, 230)).await?;
        kill_and_restart(&scene, &server).await?;
        until_all(&mut seen, &mut ran, COUNT).await
    };
    try_join(publishing, killing).await?;
    ensure_first_runs_ordered(&ran, KEYS)?;
    subject.settled("g").await?;
    ensure!(subject.letters("g").await?.is_empty(), "something became a dead letter");
    Ok(())
}

/// As a service does that must not lose: what may be tried again is, with the same ids.
async fn publish_with_bus(bus: &EventBus, events: &[Event]) -> Check {
    let deadline = Instant::now() + 3 * patience();
    let mut left = events.to_vec();
    while !left.is_empty() {
        let result = bus.publish_many(&left).await;
        let mut failed = Vec::new();
        for (place, error) in result.failures() {
            let may_help = matches!(error.retry(), RetryClass::Transient | RetryClass::Ambiguous);
            if !may_help || Instant::now() > deadline {
                return Err(error.duplicate().into());
            }
            failed.push(left[place].clone());
        }
        if !failed.is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
        left = failed;
    }
    Ok(())
}

/// A publisher that publishes one event after the other, each until it is accepted, and never stands still.
#[derive(Default)]
struct Stream {
    /// How many were accepted.
    accepted: AtomicU64,
    stop: AtomicBool,
    /// How many there are in all: known before the last one is published.
    all: OnceLock<u64>,
}

impl Stream {
    async fn publish<B: Broker>(&self, subject: &Subject<B>, topic: &Topic) -> Check {
        for number in 0.. {
            let is_last = self.stop.load(Ordering::SeqCst);
            if is_last {
                self.all.get_or_init(|| number + 1);
            }
            publish_all(subject, &keyed(topic, "k", number..number + 1)?).await?;
            self.accepted.store(number + 1, Ordering::SeqCst);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Kills the server while an event is on its way to it, and brings it back.
    async fn through_a_kill(&self, server: &LiveServer, away: Duration) -> Check {
        const MORE: u64 = 50;
        let enough = self.accepted.load(Ordering::SeqCst) + MORE;
        let flows = || async { Ok(self.accepted.load(Ordering::SeqCst) >= enough) };
        eventually(2 * patience(), "the publisher gets on", flows).await?;
        server.kill().await?;
        let before = self.accepted.load(Ordering::SeqCst);
        sleep(away).await;
        let meanwhile = self.accepted.load(Ordering::SeqCst) - before;
        // An answer may have been on its way when the server died; the next event has met its absence.
        ensure!(meanwhile <= 1, "{meanwhile} events were accepted by a server that was dead");
        server.restart().await?;
        let enough = before + 1 + MORE;
        let flows = || async { Ok(self.accepted.load(Ordering::SeqCst) >= enough) };
        eventually(2 * patience(), "what fell into the outage is accepted", flows).await
    }
}

async fn a_broadcast_subscriber_misses_nothing_through_a_kill_of_the_server<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let (subject, publisher) = (scene.process().await?, scene.process().await?);
    let (server, variation) = (scene.server()?, scene.variation());
    let topic = subject.topic("a")?;
    let mut listener = subject.listen(&topic).await?;
    let stream = Stream::default();
    let mut ran = Vec::new();
    let listening = async {
        let mut seen = BTreeSet::new();
        while stream.all.get().is_none_or(|all| (seen.len() as u64) < *all) {
            let delivery = listener.next().await.map_err(|failure| {
                let missed = (0..).find(|at| !seen.contains(at)).unwrap_or_default();
                Failure::new(format!("the first that was missed is number {missed}: {failure}"))
            })?;
            let number = number(delivery.event())?;
            seen.insert(number);
            ran.push(number);
            drop(ack(delivery).await);
        }
        Ok(())
    };
    let killing = async {
        for _ in 0..variation.kills() {
            stream.through_a_kill(&server, variation.span(AWAY)).await?;
        }
        stream.stop.store(true, Ordering::SeqCst);
        Ok(())
    };
    try_join3(stream.publish(&publisher, &topic), listening, killing).await?;
    ensure_first_runs_ordered(&ran, 1)
}

async fn a_group_without_members_keeps_what_waits_through_a_kill_of_the_server<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let (publisher, server) = (scene.process().await?, scene.server()?);
    let topic = publisher.topic("a")?;
    publisher.declare("g", &topic).await?;
    let waiting = scene.variation().later(100, 450);
    publish_all(&publisher, &keyed(&topic, "k", 0..waiting)?).await?;
    // At once: the server has had no time for anything but its promise.
    kill_and_restart(&scene, &server).await?;
    let all = waiting + 50;
    publish_all(&publisher, &keyed(&topic, "k", waiting..all)?).await?;
    let later = scene.process().await?;
    let mut member = later.join("g", &topic).await?;
    let mut found = Vec::new();
    while found.last() != Some(&(all - 1)) {
        found.push(number(&member.event().await?)?);
    }
    // A publish whose answer the kill took may have been made twice.
    found.dedup();
    ensure_eq!(found, (0..all).collect::<Vec<u64>>(), "what waited for a member");
    Ok(())
}

/// How many events wait for a group, where the server says so: one that comes back may leave it open.
async fn waiting<B: Broker>(subject: &Subject<B>, group: &str) -> Result<Option<u64>, Failure> {
    let group = subject.group(group)?;
    match subject.admin()?.groups().await {
        Err(error) if error.retry() == RetryClass::Transient => Ok(None),
        groups => Ok(groups?.iter().find(|info| info.name == group).map(|info| info.lag)),
    }
}

async fn delayed_events_survive_a_kill_while_they_come_due<B: Broker>(scene: Scene<B>) -> Check {
    /// How many are to come due between two kills.
    const DUE: u64 = 150;
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let accepted = Arc::new(Accepted { is_delayed: true, ..Accepted::default() });
    // Whenever the server dies, some wait to come due, some just do, and some have.
    let publishers = accepted.publishers(16, &subject, &topic);
    for kill in 0..2 + scene.variation().kills() {
        // More than had been accepted at the last kill, so that some of those since have come due.
        let enough = accepted.count() + DUE + 70 * kill;
        let deadline = Instant::now() + 2 * patience();
        while waiting(&subject, "g").await?.is_none_or(|waiting| waiting < enough) {
            ensure!(Instant::now() < deadline, "{enough} events have not come due");
            sleep(Duration::from_millis(20)).await;
        }
        kill_and_restart(&scene, &server).await?;
    }
    let mut missing = accepted.all(publishers).await?;
    take_all(&mut subject.join("g", &topic).await?, &mut missing).await
}
