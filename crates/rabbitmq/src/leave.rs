//! How a queue is left: what runs ends, acknowledgements land, and the channel closes.

use lapin::Channel;
use lapin::options::{BasicCancelOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_core::Result;

use crate::consume::Role;
use crate::error::driver;
use crate::mutant::Mutant;
use crate::queue::{ANSWER, Open, PAUSE, Runner};
use crate::tap::Tap;
use crate::topology::PASSIVE;

/// What a mutant that does not flush keeps back, however long: a close then always finds some.
const KEPT_BACK: usize = 64;

impl Runner {
    /// Starts nothing more, waits for what is out, and closes the channel when its acknowledgements
    /// have landed. True when they have.
    pub(crate) async fn drain(&self, open: Open, deadline: Option<Instant>) -> bool {
        let Open { channel, consumer, tap, .. } = open;
        tap.shut();
        self.seat.with_inbox(|inbox| inbox.forget(&tap));
        let config = &self.seat.shared.config;
        if Mutant::HandOverByCancel.is_on(config) {
            let cancelling = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
            drop(timeout(ANSWER, cancelling).await);
        }
        let is_idle = self.wait_for_idle(&tap, &channel, deadline).await;
        let landing = self.land(&tap, &channel);
        let has_landed = matches!(timeout(ANSWER, landing).await, Ok(Ok(())));
        // Of a channel that was gone before, nothing that was promised is missing.
        let had_nothing = !channel.status().connected() && !tap.due().0;
        tap.die();
        self.seat.with_inbox(|inbox| inbox.forget(&tap));
        let closed = timeout(ANSWER, channel.close(200, "handed over".into())).await;
        // Only now: a consumer that is dropped on an open channel is cancelled.
        drop(consumer);
        had_nothing || is_idle && has_landed && matches!(closed, Ok(Ok(())))
    }

    /// Sends acknowledgements; where somebody waits for one to land, all of them, and asks the queue.
    pub(crate) async fn send_acks(
        &self,
        tap: &Tap,
        channel: &Channel,
        landing: Vec<oneshot::Sender<()>>,
    ) -> lapin::Result<()> {
        let is_lazy = Mutant::NoFlushOnClose.is_on(&self.seat.shared.config);
        if is_lazy && landing.is_empty() && tap.unsent() < KEPT_BACK {
            return Ok(());
        }
        tap.flush(channel, !landing.is_empty()).await?;
        if landing.is_empty() {
            return Ok(());
        }
        let name = self.slot.queue.name.clone();
        channel.queue_declare(name, PASSIVE, FieldTable::default()).await?;
        for waiting in landing {
            if waiting.send(()).is_err() {
                tracing::trace!("who settled a delivery does not wait for it");
            }
        }
        Ok(())
    }

    /// Sends the last acknowledgements and waits until the queue has them.
    ///
    /// The server's quorum client has at most 32 commands on their way, keeps the rest until some are
    /// done, and drops what it keeps when the channel closes. An answer of the queue on this channel
    /// says that what was on its way has arrived. Where more may be kept, a message that is confirmed
    /// says that it has been done, and the next answer that what was kept has been sent since.
    async fn land(&self, tap: &Tap, channel: &Channel) -> Result<()> {
        const CERTAIN: usize = 16;
        let wrong = |cause| driver("close", cause);
        let shared = &self.seat.shared;
        if Mutant::NoFlushOnClose.is_on(&shared.config) {
            return Ok(());
        }
        tap.flush(channel, true).await.map_err(wrong)?;
        if Mutant::NoBarrier.is_on(&shared.config) {
            return Ok(());
        }
        let name = &self.slot.queue.name;
        let ask = || channel.queue_declare(name.clone(), PASSIVE, FieldTable::default());
        ask().await.map_err(wrong)?;
        let is_ours = self.seat.group().is_some_and(|group| shared.topology.owns(group));
        if tap.sent() > CERTAIN && is_ours {
            shared.probe(name.clone(), ANSWER).await?;
            ask().await.map_err(wrong)?;
        }
        Ok(())
    }

    /// False when the deadline passed first, or the channel ended.
    async fn wait_for_idle(&self, tap: &Tap, channel: &Channel, deadline: Option<Instant>) -> bool {
        let idle = async {
            loop {
                tokio::select! {
                    biased;
                    () = tap.idle() => return true,
                    () = tap.wake.notified() => {
                        if self.send_acks(tap, channel, tap.take_landing()).await.is_err() {
                            return false;
                        }
                    }
                    () = tokio::time::sleep(PAUSE) => {
                        if !channel.status().connected() {
                            return false;
                        }
                    }
                }
            }
        };
        match deadline {
            Some(deadline) => timeout_at(deadline, idle).await.unwrap_or(false),
            None => idle.await,
        }
    }

    /// Deletes the queue of a broadcast subscriber that leaves; true when there is nothing to delete
    /// or it is gone.
    pub(crate) async fn forget_queue(&self) -> bool {
        let Role::Listener(_) = &self.seat.role else { return true };
        let shared = &self.seat.shared;
        let deleting = async {
            // Without a connection it expires by itself.
            let live = shared.consume_link.now()?;
            let channel = live.channel("leave").await.ok()?;
            let name = self.slot.queue.name.clone();
            channel.queue_delete(name, QueueDeleteOptions::default()).await.ok()?;
            shared.leave(channel).await;
            Some(())
        };
        timeout(ANSWER, deleting).await.is_ok()
    }
}
