//! The member's side: this test binary, started again by a property.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use trunkline_bus::{Backoff, Consumer, Context, EventBus, Jitter, RetryPolicy};
use trunkline_core::{
    Broker, Delivery, Event, Group, Pattern, Result, SubscribeOptions, SubscriptionExt as _,
};

use super::orders::{Orders, Role, VARIABLE};
use crate::broker::{BrokerConditions, number};
use crate::failure::{Check, Failure};
use crate::fixture::Fixture;

type Service = Box<dyn Fn(Orders) -> BoxFuture<'static, Check> + Send + Sync>;

/// How this binary becomes a member, for each label of its suite.
#[derive(Default)]
pub(crate) struct Members(Vec<(String, Service)>);

impl Members {
    pub(crate) fn add<B, F, Fut>(&mut self, label: &str, factory: Arc<F>)
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        let service: Service = Box::new(move |orders| {
            let conditions = BrokerConditions {
                url: Some(orders.url.clone()),
                prefix: orders.prefix.clone(),
                ..BrokerConditions::default()
            };
            let making = factory(conditions);
            Box::pin(async move {
                // What the fixture would remove at its end belongs to the property that started us.
                let Fixture { subject, kept, .. } = making.await?;
                let ended = work(subject, &orders).await;
                drop(kept);
                ended
            })
        });
        self.0.push((label.to_owned(), service));
    }

    /// Works as a member when this process was started as one.
    pub(crate) fn serve(&self) -> Option<ExitCode> {
        let text = std::env::var(VARIABLE).ok()?;
        let ended = self.serve_as(&text);
        if let Err(failure) = &ended {
            say(&format!("failed {}", failure.to_string().replace('\n', " ")));
        }
        Some(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn serve_as(&self, text: &str) -> Check {
        let unread = |cause| Failure::new(format!("{VARIABLE} cannot be read: {cause}"));
        let orders: Orders = serde_json::from_str(text).map_err(unread)?;
        let known = self.0.iter().find(|(label, _)| *label == orders.label);
        let (_, service) =
            known.ok_or_else(|| Failure::new(format!("no label is `{}`", orders.label)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|cause| Failure::new(format!("the runtime does not start: {cause}")))?;
        end_with_parent();
        let ended = runtime.block_on(service(orders));
        runtime.shutdown_background();
        ended
    }
}

/// The parent holds the other end of the input: when that closes, it is gone.
fn end_with_parent() {
    std::thread::spawn(|| {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(if ended.is_ok() { 3 } else { 4 });
    });
}

/// Prints one line, so that the parent has it whatever happens to this process next.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that does not read any more is gone, and this process is about to end too.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn say_run(word: &str, event: &Event, attempt: u32) {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_micros());
    let key = event.attributes().key().unwrap_or("-");
    let number = number(event).unwrap_or(u64::MAX);
    say(&format!("{word} {} {key} {number} {attempt} {micros}", event.topic()));
}

async fn work<B: Broker>(broker: B, orders: &Orders) -> Check {
    match orders.role {
        Role::Bus => serve_bus(broker, orders).await,
        Role::Subscription => serve_subscription(broker, orders).await,
    }
}

async fn terminated() -> Check {
    let mut signal = signal(SignalKind::terminate())
        .map_err(|cause| Failure::new(format!("SIGTERM cannot be waited for: {cause}")))?;
    signal.recv().await;
    Ok(())
}

async fn serve_bus<B: Broker>(broker: B, orders: &Orders) -> Check {
    let bus = EventBus::builder(broker).start().await?;
    let retry = Duration::from_millis(orders.retry_ms);
    let policy = if orders.fails_first {
        RetryPolicy::attempts(2)
            .with_backoff(Backoff::Fixed, retry, retry)
            .with_jitter(Jitter::None)
    } else {
        RetryPolicy::attempts(1)
    };
    let shared = orders.clone();
    let consumer = Consumer::group(&orders.group)
        .topics(orders.topics.iter().map(String::as_str))
        .concurrency(orders.concurrency)
        .prefetch(orders.prefetch)
        .retry(policy)
        .on(move |event: Event, context: Context| {
            let orders = shared.clone();
            async move { handle(&event, context.attempt(), &orders).await }
        });
    bus.subscribe(consumer).await?;
    say("ready");
    terminated().await?;
    bus.close(Duration::from_millis(orders.close_ms)).await?;
    say("left");
    Ok(())
}

async fn handle(event: &Event, attempt: u32, orders: &Orders) -> Result<(), std::io::Error> {
    let is_held = number(event).is_ok_and(|number| orders.holds.contains(&number));
    // Listens before the parent knows that the event is held, so that it misses no word of it.
    let mut let_go = if is_held { Some(signal(SignalKind::user_defined1())?) } else { None };
    say_run("start", event, attempt);
    if let Some(let_go) = &mut let_go {
        let_go.recv().await;
    }
    tokio::time::sleep(Duration::from_millis(orders.handle_ms)).await;
    say_run("end", event, attempt);
    if orders.fails_first && attempt == 1 {
        return Err(std::io::Error::other("every first attempt fails"));
    }
    Ok(())
}

async fn serve_subscription<B: Broker>(broker: B, orders: &Orders) -> Check {
    let topics = orders.topics.iter().map(|topic| Pattern::new(topic.as_str()));
    let topics = topics.collect::<Result<Vec<_>>>()?;
    let options = SubscribeOptions::group(Group::new(orders.group.as_str())?, topics)
        .with_prefetch(orders.prefetch);
    say("joining");
    let mut subscription = broker.subscribe(options).await?;
    say("ready");
    let mut running = JoinSet::new();
    let mut stop = std::pin::pin!(terminated());
    let stopped = loop {
        tokio::select! {
            stopped = &mut stop => break stopped,
            next = subscription.next() => match next? {
                Some(delivery) => drop(running.spawn(settle_one(delivery, orders.clone()))),
                None => return Err(Failure::new("the subscription has ended by itself")),
            },
        }
    };
    stopped?;
    running.shutdown().await;
    let deadline = Duration::from_millis(orders.close_ms);
    subscription.close(deadline).await?;
    broker.close(deadline).await?;
    say("left");
    Ok(())
}

/// Handles a delivery and says what became of its acknowledgement.
async fn settle_one(delivery: Delivery, orders: Orders) {
    let attempt = delivery.attempts() + 1;
    let number = number(delivery.event()).unwrap_or(u64::MAX);
    let handled = handle(delivery.event(), attempt, &orders).await;
    let settled = if handled.is_ok() {
        delivery.ack().await
    } else {
        delivery.retry(Duration::from_millis(orders.retry_ms), attempt).await
    };
    match settled {
        Ok(()) => say(&format!("settled {number} ok")),
        Err(unsettled) => say(&format!("settled {number} {}", unsettled.error.kind())),
    }
}
