//! Settlements that have to be on the server before they are Ok: retries and dead letters.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline};
use trunkline_core::{Audience, DeadLetter, Event, Group, Result, Verdict};

use crate::broker::Shared;
use crate::codec::{self, text_of};
use crate::consume::{Desk, Partition};
use crate::entry::{Held, Place};
use crate::error::fenced;
use crate::publish::millis;
use crate::scripts::Lua;

/// How the deliveries of one subscription are settled.
pub(crate) struct Settler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: Owner,
}

/// Who settles.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    Group(Group),
    /// A broadcast subscriber, by its name.
    Subscriber(String),
}

/// The field of an entry in its group's state.
pub(crate) fn state_field(place: Place) -> String {
    format!("{}{}", if place.is_retry { "r" } else { "m" }, place.id)
}

impl Settler {
    pub(crate) async fn settle(
        &self,
        desk: &Arc<Desk>,
        token: u64,
        back: Held,
        partition: Option<Arc<Partition>>,
        verdict: Verdict,
    ) -> Result<()> {
        match (&self.owner, verdict) {
            (Owner::Group(group), verdict) => {
                let partition = partition.ok_or_else(|| fenced("settle"))?;
                self.settle_in_group(desk, token, back, group, &partition, verdict).await
            }
            (Owner::Subscriber(_), Verdict::Retry { after, attempts }) => {
                retry_here(desk, token, Held { attempts, ..back }, after);
                Ok(())
            }
            (Owner::Subscriber(name), Verdict::Reject(letter)) => {
                self.reject_here(name, &back.event, &letter).await?;
                desk.finish(token, None);
                Ok(())
            }
            (Owner::Subscriber(_), Verdict::Ack) => {
                desk.finish(token, None);
                Ok(())
            }
        }
    }

    async fn settle_in_group(
        &self,
        desk: &Arc<Desk>,
        token: u64,
        back: Held,
        group: &Group,
        partition: &Partition,
        verdict: Verdict,
    ) -> Result<()> {
        match verdict {
            Verdict::Ack => {
                desk.update_and_tell(|book| book.ack(token));
            }
            Verdict::Retry { after, attempts } if after.is_zero() => {
                let mut call = Lua::Note.call(2);
                call.arg(&partition.companions.lease).arg(&partition.companions.state);
                call.arg(&partition.fence).arg(state_field(back.place)).arg(attempts);
                self.call("retry", call).await?;
                desk.finish(token, Some(Held { attempts, is_noted: true, ..back }));
            }
            Verdict::Retry { after, attempts } => {
                self.call("retry", self.delayed(group, partition, &back, after, attempts)).await?;
                self.shared.schedule_changed.notify_one();
                desk.finish(token, None);
            }
            Verdict::Reject(letter) => {
                self.call("dead-letter", self.rejected(group, partition, &back, &letter)).await?;
                desk.finish(token, None);
            }
        }
        Ok(())
    }

    /// Runs a fenced script.
    async fn call(&self, operation: &'static str, call: Cmd) -> Result<()> {
        let answer = self.shared.consume.one(operation, call).await?;
        if text_of(answer).as_deref() == Some("fenced") {
            return Err(fenced(operation));
        }
        Ok(())
    }

    fn delayed(
        &self,
        group: &Group,
        partition: &Partition,
        back: &Held,
        after: Duration,
        attempts: u32,
    ) -> Cmd {
        let companions = &partition.companions;
        let mut call = Lua::Retry.call(6);
        call.arg(&companions.lease).arg(source(partition, back.place)).arg(&companions.state);
        call.arg(&companions.delay).arg(format!("{}..body", companions.delay));
        call.arg(&self.shared.names.due);
        call.arg(&partition.fence).arg(group.as_str()).arg(back.place.id.to_string());
        call.arg(attempts).arg(millis(after)).arg(state_field(back.place));
        call.arg(if back.place.is_retry { "1" } else { "0" });
        call.arg(self.shared.unique("retry"));
        write_event(&mut call, &back.event);
        call
    }

    fn rejected(
        &self,
        group: &Group,
        partition: &Partition,
        back: &Held,
        letter: &DeadLetter,
    ) -> Cmd {
        let (names, companions) = (&self.shared.names, &partition.companions);
        let mut call = Lua::Reject.call(5);
        call.arg(&companions.lease).arg(source(partition, back.place)).arg(&companions.state);
        call.arg(names.letters_of(&partition.topic, Some(group))).arg(&names.letters);
        call.arg(&partition.fence).arg(group.as_str()).arg(back.place.id.to_string());
        call.arg(state_field(back.place)).arg(if back.place.is_retry { "1" } else { "0" });
        call.arg(partition.topic.as_str()).arg(partition.stream.as_str()).arg(json_of(letter));
        write_event(&mut call, &back.event);
        call
    }

    /// The dead letter of a broadcast subscriber: it has no pending entry.
    async fn reject_here(&self, name: &str, event: &Event, letter: &DeadLetter) -> Result<()> {
        let names = &self.shared.names;
        let letters = names.letters_of(event.topic(), None);
        let mut add = redis::cmd("XADD");
        add.arg(&letters).arg("*").arg("tl-topic").arg(event.topic().as_str());
        add.arg("tl-subscriber").arg(name).arg("tl-letter").arg(json_of(letter));
        write_event(&mut add, event);
        let mut pipe = Pipeline::with_capacity(2);
        pipe.cmd("SADD").arg(&names.letters).arg(&letters);
        pipe.add_command(add);
        self.shared.consume.all("dead-letter", &pipe).await.map(drop)
    }
}

fn source(partition: &Partition, place: Place) -> &str {
    if place.is_retry { &partition.companions.retry } else { &partition.stream }
}

/// The event anew, for when its entry is gone.
fn write_event(command: &mut Cmd, event: &Event) {
    let data = event.data().unwrap_or_default();
    codec::write(command, event, &data, Audience::Everyone, &[]);
}

fn json_of(letter: &DeadLetter) -> String {
    serde_json::to_string(letter).unwrap_or_default()
}

/// A broadcast subscriber keeps what it retries itself: it has the only copy that is its own.
fn retry_here(desk: &Arc<Desk>, token: u64, back: Held, after: Duration) {
    if after.is_zero() {
        return desk.finish(token, Some(back));
    }
    desk.finish(token, None);
    let desk = Arc::clone(desk);
    drop(tokio::spawn(async move {
        tokio::time::sleep(after).await;
        desk.update_and_tell(|book| book.add(back));
    }));
}
