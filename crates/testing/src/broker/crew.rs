//! Several subscriptions that acknowledge all they get.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::Event;

use super::{Taker, ack, number, patience, quiet};
use crate::failure::{Check, Failure, ensure};

/// What a member got: the event, and which member it was.
pub(crate) type Got = (usize, Event);

/// Members that take and acknowledge on tasks of their own until this is dropped.
pub(crate) struct Crew {
    got: UnboundedReceiver<Result<Got, Failure>>,
    members: JoinSet<()>,
    report: UnboundedSender<Result<Got, Failure>>,
}

impl Crew {
    pub(crate) fn new(members: impl IntoIterator<Item = Taker>) -> Self {
        let (report, got) = unbounded_channel();
        let mut crew = Self { got, members: JoinSet::new(), report };
        members.into_iter().for_each(|member| crew.add(member));
        crew
    }

    /// Adds a member; its number is how many there were.
    pub(crate) fn add(&mut self, mut member: Taker) {
        let (place, report) = (self.members.len(), self.report.clone());
        self.members.spawn(async move {
            loop {
                let got = take_one(&mut member).await;
                let stop = !matches!(got, Ok(Some(_)));
                let told = match got {
                    Ok(Some(event)) => report.send(Ok((place, event))),
                    Ok(None) => Ok(()),
                    Err(failure) => report.send(Err(failure)),
                };
                if stop || told.is_err() {
                    return;
                }
            }
        });
    }

    /// What the next one of them got.
    pub(crate) async fn next(&mut self) -> Result<Got, Failure> {
        let limit = patience();
        match timeout(limit, self.got.recv()).await {
            Ok(Some(got)) => got,
            Ok(None) => Err(Failure::new("every member has stopped")),
            Err(_) => Err(Failure::new(format!("no member got anything within {limit:?}"))),
        }
    }

    /// What they got next, `count` events in all.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<Got>, Failure> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let next = self.next().await;
            taken.push(next.map_err(|failure| {
                Failure::new(format!("{} of {count} came, and then: {failure}", taken.len()))
            })?);
        }
        Ok(taken)
    }

    /// Fails when one of them gets anything within a moment.
    pub(crate) async fn nothing(&mut self) -> Check {
        self.nothing_for(quiet()).await
    }

    /// Fails when one of them gets anything within `pause`.
    pub(crate) async fn nothing_for(&mut self, pause: Duration) -> Check {
        let Ok(Some(got)) = timeout(pause, self.got.recv()).await else { return Ok(()) };
        let (member, event) = got?;
        ensure!(false, "member {member} got number {}, and nothing should come", number(&event)?);
        Ok(())
    }
}

async fn take_one(member: &mut Taker) -> Result<Option<Event>, Failure> {
    let Some(mut taken) = member.some(1).await? else { return Ok(None) };
    let Some(delivery) = taken.pop() else { return Ok(None) };
    let event = delivery.event().clone();
    ack(delivery).await?;
    Ok(Some(event))
}
