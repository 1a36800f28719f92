//! The server is away or stands still for a while.

use std::time::Duration;

use futures_util::future::{join, try_join};
use tokio::time::{Instant, sleep, timeout};
use trunkline_core::{Broker, HealthStatus, PublishOptions};

use super::load::publish_all;
use super::property::on_its_own_server;
use super::{FaultProperty, Scene};
use crate::broker::{SOON, Subject, eventually, keyed, numbered, patience};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_its_own_server!(an_outage_shows_in_health_and_reconnects_are_counted),
        on_its_own_server!(a_server_that_stands_still_keeps_nobody_beyond_the_deadline),
        on_its_own_server!(close_ends_within_its_deadline_while_the_server_is_away),
        on_its_own_server!(close_ends_within_its_deadline_while_the_server_stands_still),
    ]
}

/// How long a close may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// How late a deadline may be noticed on a machine that is busy, with servers that die and start again.
const LATE: Duration = Duration::from_secs(5);

/// How long a dead server stays away: longer than several tries to connect.
const AWAY: Duration = Duration::from_secs(2);

async fn status<B: Broker>(subject: &Subject<B>) -> Result<HealthStatus, Failure> {
    let asked = timeout(LATE, subject.broker.health()).await;
    let slow = |_| Failure::new(format!("health has not answered within {LATE:?}"));
    Ok(asked.map_err(slow)?.status)
}

async fn an_outage_shows_in_health_and_reconnects_are_counted<B: Broker>(scene: Scene<B>) -> Check {
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 0)?).await?;
    member.expect([0]).await?;
    // What is acknowledged a moment before the kill may come again.
    subject.settled("g").await?;
    ensure_eq!(status(&subject).await?, HealthStatus::Up, "the health before");
    let before = subject.broker.health().await.reconnects;
    server.kill().await?;
    let away = || async { Ok(status(&subject).await? > HealthStatus::Up) };
    eventually(SOON, "health tells of the outage", away).await?;
    // Sooner or later than a further try to connect.
    sleep(scene.variation().span(AWAY)).await;
    server.restart().await?;
    let back = || async { Ok(status(&subject).await? == HealthStatus::Up) };
    eventually(patience(), "health is up again", back).await?;
    let counted = || async { Ok(subject.broker.health().await.reconnects > before) };
    eventually(SOON, "a reconnect is counted", counted).await?;
    publish_all(&subject, &keyed(&topic, "k", 1..2)?).await?;
    member.expect([1]).await
}

async fn a_server_that_stands_still_keeps_nobody_beyond_the_deadline<B: Broker>(
    scene: Scene<B>,
) -> Check {
    // Shorter and longer than a publish waits.
    let still = scene.variation().span(Duration::from_secs(5));
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    member.expect(0..10).await?;
    server.pause().await?;
    let standing = async {
        let begun = Instant::now();
        while begun.elapsed() < still {
            // It says it without the server, which goes on only after the last answer.
            status(&subject).await?;
            sleep(Duration::from_millis(200)).await;
        }
        Ok(server.resume().await?)
    };
    // Refused in time or accepted afterwards, but never forgotten.
    let publishing = async {
        let batch = keyed(&topic, "k", 10..20)?;
        let published = timeout(still + patience(), publish_all(&subject, &batch)).await;
        published.map_err(|_late| Failure::new("a publish never ended"))?
    };
    try_join(standing, publishing).await?;
    let mut latest = 9;
    while latest < 19 {
        let found = crate::broker::number(&member.event().await?)?;
        ensure!(found <= latest + 1, "number {found} came after {latest}");
        latest = latest.max(found);
    }
    // What was published twice, because an answer took too long, still comes.
    member.drain().await?;
    subject.settled("g").await
}

/// Closes a broker with work in its hands, and says how long that took.
async fn close_amid_work<B: Broker>(subject: &Subject<B>, deadline: Duration) -> Check {
    let begun = Instant::now();
    let closing = timeout(deadline + LATE, subject.broker.close(deadline)).await;
    let taken = begun.elapsed();
    ensure!(closing.is_ok(), "close has not ended {LATE:?} after its deadline of {deadline:?}");
    ensure!(taken <= deadline + LATE, "close took {taken:?} with a deadline of {deadline:?}");
    Ok(())
}

async fn close_ends_within_its_deadline_while_the_server_is_away<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    let held = member.take(3).await?;
    server.kill().await?;
    let (batch, options) = (keyed(&topic, "k", 10..20)?, PublishOptions::default());
    let deadline = scene.variation().span(DEADLINE);
    let publishing = timeout(deadline + 2 * LATE, subject.broker.publish(&batch, &options));
    // The publish is begun before the close.
    let (told, closed) = join(publishing, close_amid_work(&subject, deadline)).await;
    drop(held);
    server.restart().await?;
    closed?;
    let late = |_| Failure::new("a publish outlives the close of its broker");
    let result = told.map_err(late)?;
    ensure!(!result.is_ok(), "a publish to a dead server was accepted");
    Ok(())
}

async fn close_ends_within_its_deadline_while_the_server_stands_still<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let (subject, server) = (scene.process().await?, scene.server()?);
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    let held = member.take(3).await?;
    server.pause().await?;
    let closed = close_amid_work(&subject, scene.variation().span(DEADLINE)).await;
    drop(held);
    server.resume().await?;
    closed
}
