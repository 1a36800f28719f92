//! What must hold where the server is sound: a clean close under load, a group that somebody deleted,
//! and secrets that an error must not show.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use trunkline_core::{Broker, Error, PublishOptions};

use super::load::publish_all;
use super::property::on_everybodys_server;
use super::{FaultProperty, Scene};
use crate::broker::{SOON, Subject, ack, eventually, keyed, number, patience, quiet, spread};
use crate::failure::{Check, Failure, ensure};
use crate::ground::PASSWORD;

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_everybodys_server!(a_close_under_load_loses_and_doubles_nothing_that_was_accepted),
        on_everybodys_server!(a_group_deleted_underneath_is_made_again),
        on_everybodys_server!(no_error_of_a_refused_connection_shows_its_password).once(),
        on_everybodys_server!(no_error_of_a_refused_login_shows_its_password).once(),
    ]
}

async fn a_close_under_load_loses_and_doubles_nothing_that_was_accepted<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let enough = scene.variation().later(800, 1_700);
    let (closing, reader) = (scene.process().await?, scene.process().await?);
    let topic = reader.topic("a")?;
    reader.declare("g", &topic).await?;
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let (subject, topic) = (closing.clone(), topic.clone());
        let accepted = Arc::clone(&accepted);
        publishers.spawn(async move {
            for round in 0_u64.. {
                let first = publisher * 1_000_000 + round * 10;
                let batch = spread(&topic, 40, first..first + 10)?;
                let result = subject.broker.publish(&batch, &PublishOptions::default()).await;
                let ok = (0..10).filter(|at| result.error(*at).is_none());
                let ok: Vec<u64> = ok.map(|at| first + at as u64).collect();
                accepted.lock().unwrap_or_else(PoisonError::into_inner).extend(ok);
                if !result.is_ok() {
                    break;
                }
            }
            Check::Ok(())
        });
    }
    let count = || accepted.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    let flows = || async { Ok(count() >= enough) };
    eventually(patience(), "the publishers are well under way", flows).await?;
    closing.broker.close(SOON).await?;
    while let Ok(Some(ended)) = timeout(SOON, publishers.join_next()).await {
        ended.map_err(|cause| Failure::new(format!("a publisher stopped: {cause}")))??;
    }
    ensure!(publishers.is_empty(), "a publish outlives the close of its broker");
    let wanted = accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut member, mut seen) = (reader.join("g", &topic).await?, BTreeSet::new());
    while !wanted.is_subset(&seen) {
        let delivery = member.next().await.map_err(|failure| {
            let lost = wanted.difference(&seen).count();
            Failure::new(format!("{lost} of {} accepted are lost: {failure}", wanted.len()))
        })?;
        let number = number(delivery.event())?;
        ensure!(seen.insert(number), "number {number} came twice");
        ack(delivery).await?;
    }
    // What the close made ambiguous may still come, but nothing may come again.
    while let Ok(next) = timeout(quiet(), member.next()).await {
        let delivery = next?;
        let number = number(delivery.event())?;
        ensure!(seen.insert(number), "number {number} came twice, the second time late");
        ack(delivery).await?;
    }
    Ok(())
}

async fn a_group_deleted_underneath_is_made_again<B: Broker>(scene: Scene<B>) -> Check {
    let subject = scene.process().await?;
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let before = scene.variation().later(10, 40);
    subject.publish(&keyed(&topic, "k", 0..before)?).await?;
    member.expect(0..before).await?;
    subject.hooks.remove_group(subject.group("g")?).await?;
    // What comes in between may be lost, or refused, where the broker keeps no history; afterwards
    // nothing is. With a history all that was accepted comes.
    let deadline = Instant::now() + patience();
    let mut next = before;
    let first = loop {
        let batch = keyed(&topic, "k", next..next + 1)?;
        let published = subject.broker.publish(&batch, &PublishOptions::default()).await;
        next += u64::from(published.is_ok());
        if let Ok(delivery) = timeout(Duration::from_millis(500), member.next()).await {
            let delivery = delivery?;
            let found = number(delivery.event())?;
            ack(delivery).await?;
            if found >= before {
                break found;
            }
        }
        let outcome = published.into_result();
        ensure!(Instant::now() < deadline, "the group was not made again; a publish: {outcome:?}");
    };
    let has_history = subject.expected.history;
    ensure!(
        !has_history || first == before,
        "number {before} was accepted, and {first} came first"
    );
    // Where it was made again from the beginning, its history comes again, in order.
    publish_all(&subject, &keyed(&topic, "k", next..next + 20)?).await?;
    let mut latest = first;
    while latest < next + 19 {
        let found = number(&member.event().await?)?;
        ensure!(found <= latest + 1, "number {found} came after {latest}");
        latest = latest.max(found);
    }
    member.drain().await?;
    subject.settled("g").await
}

const USER: &str = "somebody";

/// The URL with this user and password, and perhaps another port.
fn with_login(url: &str, port: Option<u16>) -> Result<String, Failure> {
    let odd = || Failure::new("the server's URL has no `://` and port");
    let (scheme, rest) = url.split_once("://").ok_or_else(odd)?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (address, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let (host, known) = address.rsplit_once(':').ok_or_else(odd)?;
    let port = port.map_or_else(|| known.to_owned(), |port| port.to_string());
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    Ok(format!("{scheme}://{USER}:{PASSWORD}@{host}:{port}{path}"))
}

fn ensure_no_secret(text: &str, of: &str) -> Check {
    ensure!(!text.contains(PASSWORD), "the password is shown in {of}");
    Ok(())
}

/// Every text that an error can become.
fn ensure_quiet(error: &Error, of: &str) -> Check {
    ensure_no_secret(&format!("{error:?}"), of)?;
    ensure_no_secret(&error.to_string(), of)?;
    let mut source = error.source();
    while let Some(cause) = source {
        ensure_no_secret(&format!("{cause} {cause:?}"), of)?;
        source = cause.source();
    }
    Ok(())
}

/// Whether the broker cannot be made or cannot be used, no text of it shows the password.
async fn ensure_secret_kept<B: Broker>(scene: &Scene<B>, url: String) -> Check {
    let made = match timeout(patience(), scene.make_at(url)).await {
        Err(_) => {
            return Err(Failure::new("a broker that cannot connect is never made or refused"));
        }
        Ok(Err(error)) => return ensure_quiet(&error, "the error of making the broker"),
        Ok(Ok(broker)) => broker,
    };
    ensure_no_secret(&format!("{made:?}"), "the broker's debug output")?;
    let subject = Subject::from(made);
    let topic = subject.topic("a")?;
    let health = timeout(SOON, subject.broker.health()).await;
    ensure_no_secret(&format!("{health:?}"), "its health")?;
    let batch = keyed(&topic, "k", 0..1)?;
    let options = PublishOptions::default().with_timeout(Duration::from_secs(2));
    if let Ok(result) = timeout(patience(), subject.broker.publish(&batch, &options)).await
        && let Some(error) = result.error(0)
    {
        ensure_quiet(error, "the error of a publish")?;
    }
    let options = subject.member_of("g", &topic)?;
    if let Ok(Err(error)) = timeout(SOON, subject.broker.subscribe(options)).await {
        ensure_quiet(&error, "the error of a subscribe")?;
    }
    if let Err(error) = subject.broker.close(Duration::from_secs(2)).await {
        ensure_quiet(&error, "the error of a close")?;
    }
    Ok(())
}

async fn no_error_of_a_refused_connection_shows_its_password<B: Broker>(scene: Scene<B>) -> Check {
    let unable = |cause| Failure::new(format!("no port is free: {cause}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unable)?;
    let port = listener.local_addr().map_err(unable)?.port();
    drop(listener);
    ensure_secret_kept(&scene, with_login(scene.url(), Some(port))?).await
}

async fn no_error_of_a_refused_login_shows_its_password<B: Broker>(scene: Scene<B>) -> Check {
    ensure_secret_kept(&scene, with_login(scene.url(), None)?).await
}
