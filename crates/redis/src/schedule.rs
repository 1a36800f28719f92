//! Publishes what was delayed, when it is due: any process of the deployment does it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::watch;
use trunkline_core::Result;

use crate::broker::Shared;
use crate::codec::{array_of, int_of, text_of};
use crate::scripts::Lua;

/// How often it is looked for what other processes have delayed; what this one delays, and what it has
/// seen there, it moves when it is due.
const INTERVAL: Duration = Duration::from_millis(500);
/// Entries that are moved at once.
const BATCH: usize = 100;

pub(crate) async fn run(shared: Weak<Shared>, mut closed: watch::Receiver<bool>) {
    let mut pause = INTERVAL;
    loop {
        let Some(alive) = shared.upgrade() else { return };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = alive.schedule_changed.notified() => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        pause = match move_due(&alive).await {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(%error, "what is due is moved later");
                INTERVAL
            }
        };
    }
}

/// Moves what is due; returns how long nothing is.
async fn move_due(shared: &Arc<Shared>) -> Result<Duration> {
    let mut call = Lua::Due.call(1);
    call.arg(&shared.names.due).arg(BATCH);
    let answer = shared.link.one("schedule", call).await?;
    let mut parts = array_of(answer).unwrap_or_default().into_iter();
    let keys = parts.next().and_then(array_of).unwrap_or_default();
    let keys: Vec<String> = keys.into_iter().filter_map(text_of).collect();
    let next = parts.next().as_ref().and_then(int_of).unwrap_or(-1);
    let mut pipe = Pipeline::with_capacity(keys.len());
    for key in &keys {
        if let Some(call) = move_call(shared, key) {
            pipe.add_command(call);
        }
    }
    shared.link.all("schedule", &pipe).await?;
    if !keys.is_empty() {
        return Ok(Duration::ZERO);
    }
    let next = u64::try_from(next).map_or(INTERVAL, Duration::from_millis);
    Ok(next.min(INTERVAL))
}

/// The command that moves what is due in a delay set to where it belongs.
fn move_call(shared: &Shared, delay: &str) -> Option<redis::Cmd> {
    let names = &shared.names;
    let (stream, group) = names.owner_of(delay, "delay")?;
    let (target, wake, name) = match &group {
        None => (stream.to_owned(), names.due.clone(), ""),
        Some(group) => {
            let retry = crate::names::Companions::of(stream, group).retry;
            (retry, names.wake(group), group.as_str())
        }
    };
    let mut call = Lua::Move.call(6);
    call.arg(delay).arg(format!("{delay}..body")).arg(target);
    call.arg(&names.due).arg(&names.scheduled).arg(wake).arg(BATCH).arg(name);
    Some(call)
}
