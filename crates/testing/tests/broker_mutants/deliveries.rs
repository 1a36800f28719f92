//! The subscription of a mutant, and how it settles.

#![expect(clippy::expect_used, reason = "a mutant that panics is found out, and the text says why")]

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use trunkline_core::{
    Attributes, BrokerPosition, Data, Delivery, Event, Result, Settle, Settling, Subscription,
    Unsettled, Verdict,
};

use crate::mutant::Fault;

type Subscribing = Pin<Box<dyn Future<Output = Result<Box<dyn Subscription>>> + Send>>;

/// A subscription over a sound one, which may be made too late.
pub(crate) struct Deliveries {
    fault: Fault,
    sound: Option<Box<dyn Subscription>>,
    /// Never locked: it only makes the future shareable.
    late: Option<Mutex<Subscribing>>,
    taken: Vec<Delivery>,
    ready: VecDeque<Delivery>,
    desk: Arc<Desk>,
}

/// The mutant's side of its deliveries.
struct Desk {
    fault: Fault,
    open: Mutex<(u64, HashMap<u64, Delivery>)>,
    left: AtomicBool,
}

impl Deliveries {
    pub(crate) fn of(fault: Fault, sound: Box<dyn Subscription>) -> Self {
        let desk = Desk { fault, open: Mutex::default(), left: AtomicBool::new(false) };
        Self {
            fault,
            sound: Some(sound),
            late: None,
            taken: Vec::new(),
            ready: VecDeque::new(),
            desk: Arc::new(desk),
        }
    }

    pub(crate) fn later(
        fault: Fault,
        subscribing: impl Future<Output = Result<Box<dyn Subscription>>> + Send + 'static,
    ) -> Self {
        let desk = Desk { fault, open: Mutex::default(), left: AtomicBool::new(false) };
        Self {
            fault,
            sound: None,
            late: Some(Mutex::new(Box::pin(subscribing))),
            taken: Vec::new(),
            ready: VecDeque::new(),
            desk: Arc::new(desk),
        }
    }

    fn poll_sound(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(late) = &mut self.late {
            let late = late.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.sound = Some(ready!(late.as_mut().poll(cx))?);
            self.late = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Subscription for Deliveries {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        ready!(self.poll_sound(cx))?;
        if self.ready.is_empty() {
            let ahead = if self.fault == Fault::ReversesDeliveries { max.max(16) } else { max };
            let Some(sound) = &mut self.sound else { return Poll::Ready(Ok(false)) };
            if !ready!(sound.poll_deliveries(cx, ahead, &mut self.taken))? {
                return Poll::Ready(Ok(false));
            }
            if self.fault == Fault::ReversesDeliveries {
                self.taken.reverse();
            }
            self.ready.extend(self.taken.drain(..));
        }
        let count = max.min(self.ready.len());
        out.extend(self.ready.drain(..count).map(|sound| self.desk.hand_out(sound)));
        Poll::Ready(Ok(true))
    }

    async fn close(mut self: Box<Self>, deadline: Duration) -> Result<()> {
        self.desk.left.store(true, Ordering::SeqCst);
        match self.sound.take() {
            Some(sound) => sound.close(deadline).await,
            None => Ok(()),
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.desk.left.store(true, Ordering::SeqCst);
    }
}

/// Settles a delivery of the memory broker, which never has to wait.
fn settle_now(settling: impl Future<Output = Result<(), Unsettled>>) -> Result<(), Unsettled> {
    let mut settling = std::pin::pin!(settling);
    match settling.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the memory broker settles at once"),
    }
}

impl Desk {
    fn open(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<u64, Delivery>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(self: &Arc<Self>, sound: Delivery) -> Delivery {
        let event = self.spoil(sound.event());
        let attempts = if self.fault == Fault::ForgetsAttempts { 0 } else { sound.attempts() };
        let redeliveries = sound.redeliveries();
        let token = {
            let mut open = self.open();
            open.0 += 1;
            open.0
        };
        match self.fault {
            Fault::AcknowledgesOnReceipt => settle_now(sound.ack()).expect("an open broker"),
            _ => drop(self.open().1.insert(token, sound)),
        }
        let handle: Arc<dyn Settle> = Arc::<Self>::clone(self);
        Delivery::new(event, handle, token).with_counts(attempts, redeliveries)
    }

    fn spoil(&self, event: &Event) -> Event {
        let with_bytes = |bytes: fn(&Data) -> Vec<u8>| {
            let data = event.data().expect("the events of these properties encode");
            let bytes = Some(bytes(&data).into());
            Event::from_parts(event.attributes().clone(), Data { bytes, ..data })
        };
        match self.fault {
            Fault::EmptiesAbsentData => with_bytes(|data| data.as_slice().to_vec()),
            Fault::ReadsDataAsText => {
                with_bytes(|data| String::from_utf8_lossy(data.as_slice()).into_owned().into())
            }
            Fault::ForgetsTheTenant => {
                let forget = |attributes: &mut Attributes| attributes.set_tenant(None);
                event.amend(forget).expect("a tenant can be cleared")
            }
            _ => event.clone(),
        }
    }

    fn verdict(&self, sound: Delivery, verdict: Verdict) -> Result<(), Unsettled> {
        const SHORT: Duration = Duration::from_millis(1);
        match (self.fault, verdict) {
            (Fault::DeliversAcknowledgedAgain, Verdict::Ack) => {
                let attempts = sound.attempts();
                settle_now(sound.retry(SHORT, attempts))
            }
            (_, Verdict::Ack) => settle_now(sound.ack()),
            (Fault::RetriesAtTheBack, Verdict::Retry { after, attempts }) => {
                settle_now(sound.retry(after.max(SHORT), attempts))
            }
            (Fault::RetriesEarly, Verdict::Retry { after, attempts }) => {
                settle_now(sound.retry(after / 10, attempts))
            }
            (_, Verdict::Retry { after, attempts }) => settle_now(sound.retry(after, attempts)),
            (Fault::LosesDeadLetters, Verdict::Reject(_)) => settle_now(sound.ack()),
            (Fault::ForgetsWhyItWasRejected, Verdict::Reject(mut letter)) => {
                letter.error_text.clear();
                settle_now(sound.reject(*letter))
            }
            (Fault::LosesWhatTheFullLogRefuses, Verdict::Reject(letter)) => {
                match settle_now(sound.reject(*letter)) {
                    Err(refused) => settle_now(refused.delivery.ack()),
                    Ok(()) => Ok(()),
                }
            }
            (_, Verdict::Reject(letter)) => settle_now(sound.reject(*letter)),
        }
    }
}

impl Settle for Desk {
    fn settle(&self, token: u64, _event: &Event, verdict: Verdict) -> Settling {
        let sound = self.open().1.remove(&token);
        let Some(sound) = sound else { return Settling::Ready(Ok(())) };
        Settling::Ready(match self.verdict(sound, verdict) {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.open().1.insert(token, refused.delivery);
                Err(refused.error)
            }
        })
    }

    fn release(&self, token: u64, _event: Event, _attempts: u32, _redeliveries: u32) {
        let sound = self.open().1.remove(&token);
        let Some(sound) = sound else { return };
        let left = self.left.load(Ordering::SeqCst);
        let settled = match self.fault {
            Fault::LosesWhatALeaverHas if left => settle_now(sound.ack()),
            Fault::CountsDropsAsAttempts => {
                let attempts = sound.attempts() + 1;
                settle_now(sound.retry(Duration::ZERO, attempts))
            }
            // The sound broker takes it back.
            _ => return drop(sound),
        };
        settled.expect("an open broker");
    }

    fn position(&self, token: u64) -> Option<BrokerPosition> {
        self.open().1.get(&token)?.position()
    }
}
