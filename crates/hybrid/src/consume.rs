//! Consuming: one subscription made of one on each side.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout};
use trunkline_core::{
    Broker, Delivery, Error, ErrorKind, OnFull, Result, SubscribeOptions, Subscription, Unsettled,
};

use crate::broker::{Inner, both};
use crate::echoes::{Echoes, Judgement};

/// How long a local subscription that was opened for nothing has to leave: nothing is out.
const UNDO_DEADLINE: Duration = Duration::from_secs(1);

/// How many batches of nothing but echoes are taken in one poll before other tasks get their turn.
const ECHO_ROUNDS: usize = 16;

/// Subscribes on both sides, the local one first; ready when both are.
pub(crate) async fn subscribe(
    hybrid: &Inner,
    options: SubscribeOptions,
) -> Result<Box<dyn Subscription>> {
    hybrid.check_open("subscribe")?;
    hybrid.capabilities.check_subscribe(&options)?;
    let mut there = options.clone();
    if !hybrid.remote.capabilities().buffer {
        (there.buffer, there.on_full) = (None, OnFull::default());
    }
    let broadcast = options.group.is_none();
    let local = hybrid.local.subscribe(options).await;
    let local = local.map_err(|error| error.with("side", "local"))?;
    // After the local subscription is ready and before the remote one is: see `Echoes::judge`.
    let echoes = broadcast.then(|| EchoFilter::new(&hybrid.echoes));
    let remote = match hybrid.remote.subscribe(there).await {
        Ok(remote) => remote,
        Err(error) => {
            if let Err(leaving) = local.close(UNDO_DEADLINE).await {
                tracing::warn!(error = %leaving, "the local side of a subscription left late");
            }
            return Err(error.with("side", "remote"));
        }
    };
    Ok(Box::new(HybridSubscription {
        echoes,
        local: Side { subscription: local, ended: false },
        remote: Side { subscription: remote, ended: false },
        remote_first: false,
        failure: None,
    }))
}

/// A consumer of both sides.
///
/// Both are polled, with alternating precedence; `prefetch` applies to each. It ends when both have
/// ended. When one fails, what was taken in the same poll is handed out first, then the error is
/// returned and the whole has ended: half a subscription would miss events in silence.
struct HybridSubscription {
    /// Only for a broadcast subscriber. Before the sides, so that what it holds goes back first.
    echoes: Option<EchoFilter>,
    local: Side,
    remote: Side,
    remote_first: bool,
    failure: Option<Error>,
}

struct Side {
    subscription: Box<dyn Subscription>,
    ended: bool,
}

impl Side {
    /// Appends what there is now; nothing when there is nothing, and notes the end.
    fn take(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Result<Taken> {
        if self.ended {
            return Ok(Taken::Nothing);
        }
        match self.subscription.poll_deliveries(cx, max, out) {
            Poll::Ready(Ok(true)) => Ok(Taken::Some),
            Poll::Ready(Ok(false)) => {
                self.ended = true;
                Ok(Taken::Nothing)
            }
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Err(error)
            }
            Poll::Pending => Ok(Taken::Nothing),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Taken {
    Some,
    Nothing,
}

impl HybridSubscription {
    fn take_local(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        let taken = self.local.take(cx, max, out);
        taken.map(|_| ()).map_err(|error| error.with("side", "local"))
    }

    fn take_remote(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        let taken = match &mut self.echoes {
            None => self.remote.take(cx, max, out).map(|_| ()),
            Some(echoes) => echoes.take(&mut self.remote, cx, max, out),
        };
        taken.map_err(|error| error.with("side", "remote"))
    }

    fn take_both(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        let full = out.len().saturating_add(max);
        self.remote_first = !self.remote_first;
        for remote in [self.remote_first, !self.remote_first] {
            let room = full.saturating_sub(out.len());
            match remote {
                _ if room == 0 => {}
                true => self.take_remote(cx, room, out)?,
                false => self.take_local(cx, room, out)?,
            }
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        let holds = self.echoes.as_ref().is_some_and(|echoes| !echoes.held.is_empty());
        self.local.ended && self.remote.ended && !holds
    }

    fn end(&mut self) {
        (self.local.ended, self.remote.ended) = (true, true);
        if let Some(echoes) = &mut self.echoes {
            echoes.held.clear();
        }
    }
}

#[async_trait]
impl Subscription for HybridSubscription {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        let before = out.len();
        if let Some(echoes) = &mut self.echoes {
            echoes.drive(cx);
        }
        let taken = self.take_both(cx, max, out);
        let found = out.len() > before;
        match taken {
            Err(error) if found => {
                self.end();
                self.failure = Some(error);
                Poll::Ready(Ok(true))
            }
            Err(error) => {
                self.end();
                Poll::Ready(Err(error))
            }
            Ok(()) if found => Poll::Ready(Ok(true)),
            Ok(()) if self.has_ended() => Poll::Ready(Ok(false)),
            Ok(()) => Poll::Pending,
        }
    }

    async fn close(self: Box<Self>, deadline: Duration) -> Result<()> {
        let Self { echoes, local, remote, .. } = *self;
        let begun = Instant::now();
        let dropped = match echoes {
            Some(echoes) => echoes.finish(deadline).await,
            None => Ok(()),
        };
        let left = deadline.saturating_sub(begun.elapsed());
        let (local, remote) =
            join(local.subscription.close(left), remote.subscription.close(left)).await;
        both(local, remote).and(dropped)
    }
}

impl fmt::Debug for HybridSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridSubscription")
            .field("local_ended", &self.local.ended)
            .field("remote_ended", &self.remote.ended)
            .finish_non_exhaustive()
    }
}

type Ack = Pin<Box<dyn Future<Output = Result<(), Unsettled>> + Send>>;

/// Keeps the remote copies of what was received locally away from a broadcast subscriber.
struct EchoFilter {
    echoes: Arc<Echoes>,
    since: u64,
    /// Remote deliveries that are not judged yet, in order; the first may wait for its local copy, and
    /// nothing overtakes it, so that the order of the remote broker is kept.
    held: VecDeque<Delivery>,
    incoming: Vec<Delivery>,
    /// Acknowledgements of echoes under way. Never locked: it only makes the futures shareable.
    acks: Mutex<FuturesUnordered<Ack>>,
}

impl EchoFilter {
    fn new(echoes: &Arc<Echoes>) -> Self {
        Self {
            echoes: Arc::clone(echoes),
            since: echoes.join(),
            held: VecDeque::new(),
            incoming: Vec::new(),
            acks: Mutex::default(),
        }
    }

    /// Appends up to `max` deliveries that are no echoes.
    fn take(
        &mut self,
        remote: &mut Side,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        let (before, full) = (out.len(), out.len() + max);
        for _ in 0..ECHO_ROUNDS {
            self.judge(cx, full, out);
            if !self.held.is_empty() || out.len() > before {
                return Ok(());
            }
            if remote.take(cx, max, &mut self.incoming)? == Taken::Nothing {
                return Ok(());
            }
            self.held.extend(self.incoming.drain(..));
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Judges what is held until one has to wait or `out` is full.
    fn judge(&mut self, cx: &mut Context<'_>, full: usize, out: &mut Vec<Delivery>) {
        while out.len() < full
            && let Some(delivery) = self.held.pop_front()
        {
            let attributes = delivery.event().attributes();
            match self.echoes.judge(attributes, self.since, cx.waker()) {
                Judgement::Deliver => out.push(delivery),
                Judgement::Drop => {
                    self.echoes.dropped.add(1);
                    self.acks_mut().push(Box::pin(delivery.ack()));
                    self.drive(cx);
                }
                Judgement::Wait => return self.held.push_front(delivery),
            }
        }
    }

    /// Takes the acknowledgements of echoes further.
    fn drive(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(outcome)) = self.acks_mut().poll_next_unpin(cx) {
            note_ack(outcome);
        }
    }

    fn acks_mut(&mut self) -> &mut FuturesUnordered<Ack> {
        self.acks.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what is held and lets the acknowledgements land.
    async fn finish(mut self, deadline: Duration) -> Result<()> {
        self.held.clear();
        let mut acks = self.acks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let landing = async {
            while let Some(outcome) = acks.next().await {
                note_ack(outcome);
            }
        };
        timeout(deadline, landing).await.map_err(|elapsed| {
            let message = "the remote copies of local events were not acknowledged in time";
            Error::new(ErrorKind::TimedOut, "close", message).because(elapsed)
        })
    }
}

/// A failed acknowledgement gives the delivery back; when it comes again it is an echo again.
fn note_ack(outcome: Result<(), Unsettled>) {
    if let Err(unsettled) = outcome {
        tracing::debug!(error = %unsettled.error, "the remote copy of a local event comes again");
    }
}
