//! Members of a group share events and keep the order of a key; a broadcast subscriber sees every
//! event; an event whose handler keeps failing goes to the dead letters.
//!
//! Run it: `cargo run -p example-02-groups-and-broadcast`

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline::{DeadLetterFilter, prelude::*};

const SOON: Duration = Duration::from_secs(5);

#[derive(Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "parcels.moved", key = parcel)]
struct ParcelMoved {
    parcel: String,
    step: u32,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments.asked")]
struct PaymentAsked {
    cents: u64,
}

/// A handler as a type: it reports under its name what it handles.
struct Report(&'static str, mpsc::UnboundedSender<(&'static str, ParcelMoved)>);

impl Handler<Typed<ParcelMoved>> for Report {
    async fn handle(&self, moved: Typed<ParcelMoved>) -> Result<(), HandlerError> {
        let Self(name, reports) = self;
        Ok(reports.send((name, ParcelMoved::clone(&moved)))?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let bus = EventBus::in_memory().await?;
    let (to, mut reports) = mpsc::unbounded_channel();
    let report = |name| Report(name, to.clone());

    // Two members: each event goes to one of them, and a parcel's events never overlap.
    bus.subscribe(Consumer::group("packers").on(report("packers"))).await?;
    bus.subscribe(Consumer::group("packers").on(report("packers"))).await?;
    bus.subscribe(Consumer::group("counters").on(report("counters"))).await?;
    bus.subscribe(Consumer::broadcast().on(report("screen"))).await?;

    for step in 1..=4 {
        for parcel in ["blue", "red"] {
            bus.publish(ParcelMoved { parcel: parcel.to_owned(), step }).await?;
        }
    }
    let mut steps: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for _ in 0..8 * 3 {
        let Some((name, moved)) = reports.recv().await else { break };
        steps.entry((name, moved.parcel)).or_default().push(moved.step);
    }
    for ((name, parcel), steps) in steps {
        println!("{name}: {parcel} parcel, steps {steps:?}");
    }

    let (tried, mut attempts) = mpsc::unbounded_channel();
    let decline = move |_: Typed<PaymentAsked>, context: Context| {
        let sent = tried.send(context.attempt());
        async move {
            sent?;
            Err::<(), _>(HandlerError::new("card declined"))
        }
    };
    let cashiers = Consumer::group("cashiers").retry(RetryPolicy::attempts(3)).on(decline);
    let cashiers = bus.subscribe(cashiers).await?;
    bus.publish(PaymentAsked { cents: 999 }).await?;
    while attempts.recv().await.is_some_and(|attempt| attempt < 3) {}
    // Leaving lets the last attempt end and its event reach the dead letters.
    cashiers.unsubscribe(SOON).await?;
    let Some(admin) = bus.broker().admin() else { return Ok(()) };
    for dead in admin.dead_letters(&DeadLetterFilter::default()).await? {
        let (kind, letter) = (dead.event.attributes().event_type(), dead.letter);
        println!("dead: {kind} after {} attempts: {}", letter.attempts, letter.error_text);
    }
    bus.close(SOON).await
}
