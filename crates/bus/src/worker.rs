//! A lane worker: takes one job after another, runs the handler, and settles.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::time::Instant;
use trunkline_core::{DeadLetter, Delivery, Error, ErrorKind, FailureCause, Revocation, Unsettled};

use crate::context::Context;
use crate::handler::{Handler, HandlerError, Incoming};
use crate::in_future;
use crate::lanes::{Finished, Job, Next, WorkerId};
use crate::policy::OnUnhandled;
use crate::runtime::Runtime;
use crate::span::{in_span, step};

/// The first wait before a dead letter that was refused is offered again; doubled up to the last.
const FIRST_SETTLE_RETRY: Duration = Duration::from_millis(50);
const LAST_SETTLE_RETRY: Duration = Duration::from_secs(5);

/// Handles the jobs of one pool until the consumer closes.
///
/// One such future is boxed for each worker; within it nothing is boxed per event.
pub(crate) async fn work<M: Incoming, H: Handler<M>>(
    runtime: Arc<Runtime>,
    worker: WorkerId,
    handler: Arc<H>,
) {
    let consumer = Arc::clone(&runtime.info);
    Context::scope_worker(consumer, work_on::<M, H>(runtime, worker, handler)).await;
}

/// A worker's time at its pool. A worker that dies early, cancelled or by a panic outside of its
/// handler, leaves neither its place nor its lane taken.
struct Shift<'a> {
    runtime: &'a Arc<Runtime>,
    worker: WorkerId,
    /// The job that the worker has not reported as done.
    last: Option<Finished>,
    is_over: bool,
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (behind, wanting) = self.runtime.lanes.bury(self.worker, self.last.take());
        drop(behind);
        wanting.into_iter().for_each(|pool| self.runtime.hire(pool));
    }
}

async fn work_on<M: Incoming, H: Handler<M>>(
    runtime: Arc<Runtime>,
    worker: WorkerId,
    handler: Arc<H>,
) {
    let lanes = &runtime.lanes;
    let mut shift = Shift { runtime: &runtime, worker, last: None, is_over: false };
    loop {
        let (next, hires) = poll_fn(|cx| lanes.poll_next(worker, &mut shift.last, cx)).await;
        hires.into_iter().flatten().for_each(|pool| runtime.hire(pool));
        let job = match next {
            Next::Job(job) => job,
            Next::Nothing => continue,
            Next::Closing => {
                shift.is_over = true;
                return;
            }
        };
        shift.last = Some(Finished { lane: job.lane });
        let outcome = run_job(&runtime, &*handler, job).await;
        Context::handled();
        if let Some((job, due)) = outcome {
            shift.last = Some(Finished { lane: None });
            lanes.postpone(job, due);
        }
        // Handlers that never wait would otherwise keep the thread for themselves.
        tokio::task::coop::consume_budget().await;
    }
}

/// Handles one job; it comes back when its next attempt is to be made later.
async fn run_job<M: Incoming, H: Handler<M>>(
    runtime: &Runtime,
    handler: &H,
    mut job: Job,
) -> Option<(Job, Instant)> {
    if let Some(cause) = job.fate {
        give_up_unhandled(runtime, job, cause).await;
        return None;
    }
    loop {
        let failure = match attempt(runtime, handler, &job.delivery, job.failed() + 1).await {
            Ended::Handled => {
                runtime.counters.handled.increment();
                acknowledge(runtime, job.delivery).await;
                return None;
            }
            Ended::Revoked => {
                runtime.counters.revoked.increment();
                tracing::warn!(
                    event = %job.delivery.event().id(),
                    consumer = runtime.info.name,
                    "the event is given up: another member may have it by now"
                );
                return None;
            }
            Ended::Failed(failure) => failure,
        };
        job.fail(Timestamp::now());
        runtime.counters.failed.increment();
        let attempts = runtime.settings.retry.attempts;
        if failure.is_final || job.failed() >= attempts {
            give_up(runtime, job, failure.cause, &failure.error).await;
            return None;
        }
        runtime.counters.retried.increment();
        tracing::warn!(
            event = %job.delivery.event().id(),
            consumer = runtime.info.name,
            attempt = job.failed(),
            attempts,
            error = text_of(&failure.error),
            "attempt failed"
        );
        let delay = runtime.settings.retry.delay(job.failed(), runtime.random());
        if !delay.is_zero() {
            return Some((job, in_future(delay)));
        }
    }
}

/// What has become of an attempt.
enum Ended {
    Handled,
    Failed(Failure),
    /// It was not begun, or cancelled: it counts as none.
    Revoked,
}

/// A failed attempt.
struct Failure {
    error: Error,
    cause: FailureCause,
    /// No further attempt can succeed.
    is_final: bool,
}

/// Runs the handler once: its error, its panic and its time limit are a failed attempt. It is cancelled
/// when another member may have the event; what cannot be cancelled goes on, and its key waits for it.
async fn attempt<M: Incoming, H: Handler<M>>(
    runtime: &Runtime,
    handler: &H,
    delivery: &Delivery,
    attempt: u32,
) -> Ended {
    if delivery.is_revoked() {
        return Ended::Revoked;
    }
    let event = delivery.event();
    Context::handling(event, attempt);
    let attributes = event.attributes();
    let span = step!(
            INFO,
        "trunkline.process",
        consumer = runtime.info.name,
        topic = %event.topic(),
        r#type = attributes.event_type(),
        id = %event.id(),
        attempt,
        trace = attributes.trace().map(tracing::field::display),
    );
    let handling = async {
        let message = M::from_event(event).map_err(|error| Failure {
            error,
            cause: FailureCause::Undecodable,
            is_final: true,
        })?;
        handler.handle(message).await.map_err(Failure::from)
    };
    let handling = in_span(span, handling);
    let limited = async {
        match runtime.settings.timeout {
            Some(limit) if H::CANCELLABLE => tokio::time::timeout(limit, handling)
                .await
                .unwrap_or_else(|_| Err(timed_out(runtime, limit))),
            _ => handling.await,
        }
    };
    // A handler that is cancelled may panic too, in what it drops: that is caught with the rest.
    let owned = AssertUnwindSafe(while_owned::<H, M, _>(delivery, limited)).catch_unwind();
    match owned.await {
        Ok(Some(Ok(()))) => Ended::Handled,
        Ok(Some(Err(failure))) => Ended::Failed(failure),
        Ok(None) => Ended::Revoked,
        Err(panic) => Ended::Failed(panicked(runtime, &*panic)),
    }
}

/// Runs the handling, and drops it when the delivery is revoked before it ends. That is asked only of
/// handlers that wait for something, so that the others pay nothing for it.
async fn while_owned<H: Handler<M>, M, F: Future>(
    delivery: &Delivery,
    handling: F,
) -> Option<F::Output> {
    let mut handling = pin!(handling);
    let mut revocation: Option<Option<Revocation>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if !H::CANCELLABLE {
            return Poll::Pending;
        }
        match revocation.get_or_insert_with(|| delivery.revoked()) {
            Some(revoked) => revoked.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

impl From<HandlerError> for Failure {
    fn from(error: HandlerError) -> Self {
        let is_final = error.is_permanent();
        Self { error: error.into_error(), cause: FailureCause::Failed, is_final }
    }
}

fn panicked(runtime: &Runtime, panic: &(dyn std::any::Any + Send)) -> Failure {
    runtime.counters.panicked.increment();
    let message = format!("the handler panicked: {}", panic_text(panic));
    let error = Error::new(ErrorKind::HandlerPanicked, "handle", message);
    Failure { error, cause: FailureCause::Failed, is_final: false }
}

fn timed_out(runtime: &Runtime, limit: Duration) -> Failure {
    runtime.counters.timed_out.increment();
    let message = format!("the handler ran longer than its limit of {limit:?}");
    let error = Error::new(ErrorKind::TimedOut, "handle", message);
    Failure { error, cause: FailureCause::Failed, is_final: false }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

async fn acknowledge(runtime: &Runtime, delivery: Delivery) {
    let id = delivery.event().id();
    let span = step!(DEBUG, "trunkline.settle", verdict = "ack", %id);
    let outcome =
        if span.is_disabled() { delivery.ack().await } else { in_span(span, delivery.ack()).await };
    if let Err(Unsettled { error, delivery }) = outcome {
        runtime.counters.settle_failed.increment();
        tracing::warn!(
            event = %delivery.event().id(),
            consumer = runtime.info.name,
            error = %Chain(&error),
            "the acknowledgement was refused; the event may be handled again"
        );
    }
}

/// Settles an event that no handler takes.
async fn give_up_unhandled(runtime: &Runtime, job: Job, cause: FailureCause) {
    let attributes = job.delivery.event().attributes();
    let message = match cause {
        FailureCause::Unhandled => {
            runtime.counters.unhandled.increment();
            if runtime.settings.on_unhandled == OnUnhandled::Ack {
                return acknowledge(runtime, job.delivery).await;
            }
            format!("no handler takes the type `{}`", attributes.event_type())
        }
        FailureCause::UnknownVersion => format!(
            "no handler of the type `{}` takes its version {}",
            attributes.event_type(),
            attributes.version().unwrap_or(1)
        ),
        _ => "the message is no event".to_owned(),
    };
    let mut error = Error::new(ErrorKind::Decode, "dispatch", message);
    if let Some(defect) = job.delivery.defect() {
        error = error.because(defect.duplicate());
    }
    give_up(runtime, job, cause, &error).await;
}

/// Moves an event to the dead letters, however often that has to be tried: until it is accepted
/// there the original stays unacknowledged, and its key waits.
async fn give_up(runtime: &Runtime, job: Job, cause: FailureCause, error: &Error) {
    let now = Timestamp::now();
    let letter = DeadLetter {
        cause,
        attempts: job.failed(),
        first_failure: job.failures.as_ref().map_or(now, |failures| failures.first),
        last_failure: now,
        error_kind: error.kind().to_string(),
        error_text: text_of(error),
    };
    tracing::error!(
        event = %job.delivery.event().id(),
        consumer = runtime.info.name,
        attempts = letter.attempts,
        error = letter.error_text,
        "the event goes to the dead letters"
    );
    let mut delivery = job.delivery;
    let mut wait = FIRST_SETTLE_RETRY;
    loop {
        let id = delivery.event().id();
        let span = step!(DEBUG, "trunkline.settle", verdict = "dead_letter", %id);
        let refused = match in_span(span, delivery.reject(letter.clone())).await {
            Ok(()) => {
                runtime.counters.dead_lettered.increment();
                return;
            }
            Err(refused) => refused,
        };
        runtime.counters.settle_failed.increment();
        tracing::error!(error = %Chain(&refused.error), "the dead letter was not accepted");
        if refused.error.kind() == ErrorKind::Fenced || runtime.is_closing() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_SETTLE_RETRY);
        delivery = refused.delivery;
    }
}

/// An error with its causes, which a handler may have made: what panics in its text is caught.
fn text_of(error: &Error) -> String {
    let written = std::panic::catch_unwind(AssertUnwindSafe(|| Chain(error).to_string()));
    written.unwrap_or_else(|_| "the text of the handler's error panicked".to_owned())
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
