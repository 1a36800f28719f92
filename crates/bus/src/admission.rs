//! How many publishes of a channel may be without an answer at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trunkline_core::{Error, ErrorKind, Event, OnFull, Pattern, Result, Topic};

use crate::channel::Channel;

/// How long a publish waits for its turn where nobody says: the limit of the memory broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a semaphore can count.
const MOST: usize = Semaphore::MAX_PERMITS;

/// Lets publishes in, as many at a time as their channels allow.
///
/// A broker with a server keeps no count of what its server has not confirmed yet; without a bound a
/// server that is slow or away would fill this process with waiting publishes.
#[derive(Debug)]
pub(crate) struct Admission {
    /// In the order of the channels, which decides among them; empty where none has a bound.
    gates: Vec<Gate>,
    patience: Duration,
}

#[derive(Debug)]
struct Gate {
    name: String,
    topics: Vec<Pattern>,
    on_full: OnFull,
    /// The bound and what is left of it; a channel without one still keeps later ones from its topics.
    room: Option<(usize, Arc<Semaphore>)>,
}

/// The turns of a batch; given back when they are dropped.
pub(crate) type Turns = Vec<OwnedSemaphorePermit>;

impl Admission {
    pub(crate) fn new(channels: &[Channel], patience: Option<Duration>) -> Self {
        let bounded = channels.iter().any(|channel| channel.unconfirmed.is_some());
        let gates = channels.iter().filter(|_| bounded).map(Gate::new).collect();
        Self { gates, patience: patience.unwrap_or(PATIENCE) }
    }

    /// Whether no channel has a bound.
    pub(crate) fn is_open(&self) -> bool {
        self.gates.is_empty()
    }

    /// Waits for the turns of all events, of more than the bound for as many as it allows.
    ///
    /// # Errors
    /// `Full` when the wait was too long, or at once where the channel says so.
    pub(crate) async fn enter(&self, events: &[Event]) -> Result<Turns> {
        let mut wanted = vec![0_usize; self.gates.len()];
        for event in events {
            if let Some(gate) = self.gate(event.topic()) {
                wanted[gate] += 1;
            }
        }
        let mut turns = Vec::new();
        // In the order of the channels, so that two batches never wait for each other.
        for (gate, wanted) in self.gates.iter().zip(wanted) {
            if wanted > 0
                && let Some((bound, room)) = &gate.room
            {
                turns.push(gate.enter(wanted.min(*bound), *bound, room, self.patience).await?);
            }
        }
        Ok(turns)
    }

    fn gate(&self, topic: &Topic) -> Option<usize> {
        self.gates.iter().position(|gate| gate.topics.iter().any(|own| own.matches(topic)))
    }
}

impl Gate {
    fn new(channel: &Channel) -> Self {
        let room = channel.unconfirmed.map(|bound| {
            let bound = bound.clamp(1, MOST);
            (bound, Arc::new(Semaphore::new(bound)))
        });
        Self {
            name: channel.name.clone(),
            topics: channel.topics.clone(),
            on_full: channel.on_full,
            room,
        }
    }

    async fn enter(
        &self,
        turns: usize,
        bound: usize,
        room: &Arc<Semaphore>,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit> {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(room).try_acquire_many_owned(turns) {
            return Ok(permit);
        }
        if self.on_full == OnFull::Error {
            return Err(self.full(bound));
        }
        let waiting = Arc::clone(room).acquire_many_owned(turns);
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.full(bound)),
        }
    }

    fn full(&self, bound: usize) -> Error {
        let message = format!(
            "channel `{}` has as many publishes without an answer as its buffer allows: the server \
             is slower than the publishers, or away",
            self.name
        );
        Error::new(ErrorKind::Full, "publish", message).with("buffer_size", bound)
    }
}
