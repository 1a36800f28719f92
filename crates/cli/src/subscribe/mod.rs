//! `trunkline subscribe`: prints events as they come.

mod output;

use std::future::poll_fn;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use trunkline::bytes::BytesMut;
use trunkline::jiff::Timestamp;
use trunkline::{DeadLetter, Delivery, Error, FailureCause, StartAt, Subscription};

use self::output::{Output, Written};
use crate::arguments::SubscribeOptions;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::session::{Purpose, Session, block_on, refuse, refuse_start};
use crate::terminal::{Chain, complain, harmless};

/// Events that are written and acknowledged together.
const BATCH: usize = 64;

/// Prints events until there were enough, the time is over, or somebody asks to stop.
pub(crate) fn run(options: &SubscribeOptions) -> Exit {
    block_on(subscribe(options))
}

async fn subscribe(options: &SubscribeOptions) -> Exit {
    let until = options.timeout.map(|limit| Instant::now() + limit);
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return refuse(Exit::Failed, &format!("cannot listen for Ctrl-C: {error}")),
    };
    let output = match Output::start() {
        Ok(output) => output,
        Err(error) => return refuse(Exit::Failed, &format!("cannot start a thread: {error}")),
    };
    let opening = Session::open(options.config.as_deref(), Purpose::Subscribe);
    let session = tokio::select! {
        opened = opening => match opened {
            Ok(session) => session,
            Err(exit) => return exit,
        },
        () = reached(until) => return Exit::TimeOver,
        () = interrupt.asked() => return interrupted(options),
    };
    let broker = session.bus.broker();
    let subscription = match broker.subscribe(wanted(options, &session)).await {
        Ok(subscription) => subscription,
        Err(error) => {
            let exit = refuse_start(&error);
            return session.close(exit).await;
        }
    };
    let mut run = Run { options, interrupt, output, until, printed: 0 };
    let (subscription, exit) = run.print_all(subscription).await;
    let exit = match subscription.close(session.close_timeout()).await {
        Ok(()) => exit,
        Err(error) => refuse(Exit::Failed, &format!("no clean close: {}", Chain(&error))),
    };
    session.close(exit).await
}

/// Without `--count` being stopped is how this ends; with it there was more to come.
fn interrupted(options: &SubscribeOptions) -> Exit {
    if options.count.is_some() { Exit::Interrupted } else { Exit::Fine }
}

/// What the broker is asked for, by the options and by the channel of these topics.
fn wanted(options: &SubscribeOptions, session: &Session) -> trunkline::SubscribeOptions {
    let patterns = [options.pattern.clone()];
    let mut wanted = match &options.group {
        Some(group) => trunkline::SubscribeOptions::group(group.clone(), patterns),
        None => trunkline::SubscribeOptions::broadcast(patterns),
    };
    wanted.start = match (options.from.clone(), &options.group) {
        (None, Some(_)) => StartAt::Beginning,
        (None, None) => StartAt::Latest,
        // Without a group the beginning is a time like any other: the first of all.
        (Some(StartAt::Beginning), None) => StartAt::Time(Timestamp::UNIX_EPOCH),
        (Some(start), _) => start,
    };
    let limit = options.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    // What is not printed goes back to the group: the less is taken ahead, the less has to.
    wanted.prefetch = wanted.prefetch.min(limit);
    let covers = |channel: &&trunkline::config::ChannelConfig| {
        channel.topics.iter().any(|topic| topic.covers(&options.pattern))
    };
    if let Some(channel) = session.config.channels.iter().find(covers) {
        wanted.order = channel.order;
        wanted.lanes = channel.lanes;
    }
    wanted
}

/// Waits until a time; for ever, where there is none.
async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

struct Run<'a> {
    options: &'a SubscribeOptions,
    interrupt: Interrupt,
    output: Output,
    until: Option<Instant>,
    printed: u64,
}

impl Run<'_> {
    /// Prints what comes; gives the subscription back to be closed.
    async fn print_all(
        &mut self,
        mut subscription: Box<dyn Subscription>,
    ) -> (Box<dyn Subscription>, Exit) {
        loop {
            let left = self.options.count.map_or(u64::MAX, |count| count - self.printed);
            if left == 0 {
                return (subscription, Exit::Fine);
            }
            let most = BATCH.min(usize::try_from(left).unwrap_or(BATCH));
            let mut deliveries = Vec::new();
            let polling = poll_fn(|cx| subscription.poll_deliveries(cx, most, &mut deliveries));
            let more = tokio::select! {
                biased;
                () = self.interrupt.asked() => return (subscription, interrupted(self.options)),
                () = reached(self.until) => return (subscription, Exit::TimeOver),
                more = polling => more,
            };
            let ended = match more {
                Ok(true) => self.print(deliveries).await,
                Ok(false) => {
                    Some(refuse(Exit::Failed, "the subscription has ended: the broker is closed"))
                }
                Err(error) => Some(refuse(Exit::Failed, &Chain(&error).to_string())),
            };
            if let Some(exit) = ended {
                return (subscription, exit);
            }
        }
    }

    /// Writes the events out, and then acknowledges them; why the run ends, if it does.
    async fn print(&mut self, deliveries: Vec<Delivery>) -> Option<Exit> {
        let mut text = BytesMut::new();
        let mut printed = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match output::line(&delivery, self.options.json) {
                Ok(line) => {
                    text.extend_from_slice(&line);
                    printed.push(delivery);
                }
                Err(defect) => reject(delivery, &defect).await,
            }
        }
        let writing = self.output.write(text.freeze());
        let written = tokio::select! {
            written = writing => written,
            // Whoever reads may have stopped reading; what is not written is not acknowledged.
            () = self.stopped_and_waited() => return Some(interrupted(self.options)),
        };
        match written {
            Written::Out => {}
            Written::NobodyReads => return Some(Exit::Fine),
            Written::Failed(error) => {
                let text = format!("cannot write to standard output: {error}");
                return Some(refuse(Exit::Failed, &text));
            }
        }
        self.printed += printed.len() as u64;
        for settled in join_all(printed.into_iter().map(Delivery::ack)).await {
            if let Err(unsettled) = settled {
                let id = harmless(&unsettled.delivery.event().id().to_string());
                let error = Chain(&unsettled.error);
                complain(&format!("warning: {id} may come again: not acknowledged: {error}"));
            }
        }
        None
    }

    async fn stopped_and_waited(&self) {
        /// How long a reader that is only slow is given to read what is under way.
        const GRACE: Duration = Duration::from_secs(2);
        self.interrupt.asked().await;
        tokio::time::sleep(GRACE).await;
    }
}

/// Moves what is no event to the dead letters, so that the rest is not held up by it.
async fn reject(delivery: Delivery, defect: &Error) {
    let topic = harmless(delivery.event().topic().as_str());
    complain(&format!(
        "undecodable: a message of {topic} goes to the dead letters: {}",
        Chain(defect)
    ));
    let now = Timestamp::now();
    let letter = DeadLetter {
        cause: FailureCause::Undecodable,
        attempts: 0,
        first_failure: now,
        last_failure: now,
        error_kind: defect.kind().to_string(),
        error_text: Chain(defect).to_string(),
    };
    if let Err(unsettled) = delivery.reject(letter).await {
        complain(&format!("warning: it stays where it is: {}", Chain(&unsettled.error)));
    }
}
