//! Key lanes, as a twin has them: a fixed number of tasks, each handling its keys one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;
use trunkline_core::partition_of;

use super::{Load, Log, PREFETCH};

/// Key lanes that hand the token of each message back once it is handled.
#[derive(Debug)]
pub struct Lanes<P, T> {
    senders: Vec<mpsc::Sender<(P, T)>>,
    handled: mpsc::Receiver<T>,
    inside: usize,
}

impl<P, T> Lanes<P, T>
where
    P: AsRef<[u8]> + Send + 'static,
    T: Send + 'static,
{
    /// Starts `load.concurrency` lanes.
    #[must_use]
    pub fn start(load: Load, log: &Arc<Log>) -> Self {
        let (done, handled) = mpsc::channel(PREFETCH);
        let lane = |_| {
            let (sender, receiver) = mpsc::channel(PREFETCH);
            tokio::spawn(handle(receiver, done.clone(), load, Arc::clone(log)));
            sender
        };
        Self { senders: (0..load.concurrency).map(lane).collect(), handled, inside: 0 }
    }

    /// How many messages may still be pushed.
    #[must_use]
    pub fn room(&self) -> usize {
        PREFETCH - self.inside
    }

    /// How many messages are queued or being handled.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// Queues a message behind those of its key. There must be [`Lanes::room`].
    pub fn push(&mut self, key: &str, payload: P, token: T) {
        let lanes = u32::try_from(self.senders.len()).unwrap_or(u32::MAX);
        let lane = partition_of(key, lanes) as usize;
        // The room is less than one lane holds, and a lane ends only after its sender.
        if self.senders[lane].try_send((payload, token)).is_ok() {
            self.inside += 1;
        }
    }

    /// Waits for handled messages and appends their tokens to `out`.
    ///
    /// # Cancel safety
    /// Safe: a dropped call has taken nothing.
    pub async fn handled(&mut self, out: &mut Vec<T>) {
        self.inside -= self.handled.recv_many(out, PREFETCH).await;
    }

    /// [`Lanes::handled`] for a plain thread, and without waiting.
    pub fn try_handled(&mut self, out: &mut Vec<T>) {
        while let Ok(token) = self.handled.try_recv() {
            out.push(token);
            self.inside -= 1;
        }
    }
}

/// One lane.
async fn handle<P: AsRef<[u8]>, T>(
    mut queued: mpsc::Receiver<(P, T)>,
    done: mpsc::Sender<T>,
    load: Load,
    log: Arc<Log>,
) {
    while let Some((payload, token)) = queued.recv().await {
        log.take(payload.as_ref());
        if !load.work.is_zero() {
            tokio::time::sleep(load.work).await;
        }
        if done.send(token).await.is_err() {
            return;
        }
    }
}
