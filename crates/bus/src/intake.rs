//! The intake of one consumer: polls the broker's subscription and puts deliveries into lanes.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};
use trunkline_core::{Delivery, FailureCause, Order, Subscription};

use crate::lanes::Job;
use crate::runtime::Runtime;
use crate::span::step;

/// Deliveries taken at a time: enough that the locks on the way cost little per event.
const BATCH: usize = 256;

/// Runs until the consumer closes or the subscription ends, and gives the subscription back.
pub(crate) async fn take_in(
    runtime: Arc<Runtime>,
    mut subscription: Box<dyn Subscription>,
) -> Box<dyn Subscription> {
    let mut batch = Vec::new();
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    loop {
        let polled = poll_fn(|cx| {
            poll_alarm(&runtime, &mut alarm, cx);
            // Asked once the lanes know whom to wake: a close is either seen here or wakes this task.
            if runtime.is_closing() {
                return Poll::Ready(Ok(false));
            }
            subscription.poll_deliveries(cx, BATCH, &mut batch)
        });
        match polled.await {
            Ok(true) => {
                runtime.counters.delivered.add(batch.len() as u64);
                let jobs = batch.drain(..).map(|delivery| dispatch(&runtime, delivery));
                let wanting = runtime.lanes.admit(jobs);
                wanting.into_iter().for_each(|pool| runtime.hire(pool));
                tokio::task::coop::consume_budget().await;
            }
            Ok(false) => return subscription,
            Err(error) => {
                tracing::error!(
                    consumer = runtime.info.name,
                    error = %error,
                    "the subscription has ended"
                );
                return subscription;
            }
        }
    }
}

/// Starts what is due, and sets the alarm for what is due next.
fn poll_alarm(runtime: &Arc<Runtime>, alarm: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) {
    while let Some(due) = runtime.lanes.poll_postponed(cx, |pool| runtime.hire(pool)) {
        let sleep = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        if sleep.as_mut().poll(cx).is_pending() || due > Instant::now() {
            return;
        }
    }
}

/// Finds the handler of a delivery, and its lane.
fn dispatch(runtime: &Runtime, delivery: Delivery) -> Job {
    let event = delivery.event();
    let attributes = event.attributes();
    let span = step!(DEBUG, "trunkline.receive", consumer = runtime.info.name, id = %event.id());
    let _received = span.enter();
    let (pool, fate) = match delivery.defect() {
        Some(_) => (0, Some(FailureCause::Undecodable)),
        None => runtime.find_handler(attributes),
    };
    let lane = match runtime.settings.order {
        Order::PerKey if runtime.settings.lanes => attributes.lane_in_priority(),
        Order::PerKey => attributes.lane(),
        Order::None => None,
    };
    Job { delivery, lane, failures: None, pool, fate }
}
