//! Confirm channels: each belongs to one task, which publishes, resends and tells how it ended.
//!
//! One task, because the driver allocates the tag of a publish and sends its frames in two steps: of a
//! channel that tasks share, one gets another's confirm.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::RabbitMqConfig;
use crate::job::{Failed, Job, Mark};
use crate::link::{Link, Live};
use crate::mutant::Mutant;
use crate::topology::Topology;

/// How often deadlines are looked at while something waits.
const TICK: Duration = Duration::from_millis(50);

type Confirming = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// One confirm channel and what waits for it.
pub(crate) struct Lane {
    config: Arc<RabbitMqConfig>,
    link: Arc<Link>,
    topology: Arc<Topology>,
    inbox: mpsc::Receiver<Job>,
    closing: watch::Receiver<bool>,
    /// Told the routing key of what is never confirmed.
    stuck: mpsc::UnboundedSender<ShortString>,
    waiting: VecDeque<Job>,
    refused: Vec<Job>,
    flight: BTreeMap<u64, Job>,
    returned: HashSet<Mark>,
    next: u64,
    /// When the server was last seen to take no publishes.
    blocked: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(
        config: Arc<RabbitMqConfig>,
        link: Arc<Link>,
        topology: Arc<Topology>,
        inbox: mpsc::Receiver<Job>,
        closing: watch::Receiver<bool>,
        stuck: mpsc::UnboundedSender<ShortString>,
    ) -> Self {
        Self {
            config,
            link,
            topology,
            inbox,
            closing,
            stuck,
            waiting: VecDeque::new(),
            refused: Vec::new(),
            flight: BTreeMap::new(),
            returned: HashSet::new(),
            next: 0,
            blocked: None,
        }
    }

    /// Works until the broker is closed and everything has its outcome.
    pub(crate) async fn run(mut self) {
        while let Some((live, channel)) = self.connect().await {
            let is_over = self.pump(&live, &channel).await;
            self.take_back();
            if is_over {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flight.is_empty() && self.refused.is_empty()
    }

    /// Whether nothing will come any more.
    fn is_drained(&self) -> bool {
        self.inbox.is_closed() && self.inbox.is_empty()
    }

    /// Everything without an outcome is sent again, in the order in which it was sent first.
    fn take_back(&mut self) {
        self.returned.clear();
        let flight = std::mem::take(&mut self.flight);
        let mut again: VecDeque<Job> = flight.into_values().collect();
        again.iter_mut().for_each(|job| job.safe_at = None);
        again.extend(self.refused.drain(..));
        again.append(&mut self.waiting);
        // What its caller has given up must not come after what the caller does next.
        again.retain(|job| !job.reply.is_closed());
        self.waiting = again;
    }

    /// A channel in confirm mode; what waits too long meanwhile ends. None when all is over.
    async fn connect(&mut self) -> Option<(Live, Channel)> {
        let (config, link, topology) =
            (Arc::clone(&self.config), Arc::clone(&self.link), Arc::clone(&self.topology));
        let mut opening = std::pin::pin!(open(&config, &link, &topology));
        loop {
            if self.waiting.is_empty() && self.is_drained() {
                return None;
            }
            let has_room = self.waiting.len() < self.config.confirm_window && !self.is_drained();
            tokio::select! {
                opened = &mut opening => return Some(opened),
                job = self.inbox.recv(), if has_room => self.waiting.extend(job),
                _ = self.closing.changed(), if !self.inbox.is_closed() => self.inbox.close(),
                () = tokio::time::sleep(TICK), if !self.waiting.is_empty() => self.expire(),
            }
        }
    }

    /// Publishes and collects until the channel is of no use any more; true when all is over.
    async fn pump(&mut self, live: &Live, channel: &Channel) -> bool {
        let mut confirms: FuturesUnordered<Confirming> = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if live.connection.status().blocked() {
                self.hold();
            } else if !self.send_waiting(channel, &mut confirms).await {
                return false;
            }
            if self.is_idle() && self.is_drained() {
                return true;
            }
            let has_room = self.flight.len().max(self.waiting.len()) < self.config.confirm_window;
            tokio::select! {
                biased;
                Some(done) = confirms.next() => {
                    if !self.collect(done, &mut confirms).await {
                        return false;
                    }
                }
                job = self.inbox.recv(), if has_room && !self.is_drained() => {
                    self.waiting.extend(job);
                    while let Ok(job) = self.inbox.try_recv() {
                        self.waiting.push_back(job);
                        if self.waiting.len() >= self.config.confirm_window {
                            break;
                        }
                    }
                }
                _ = self.closing.changed(), if !self.inbox.is_closed() => self.inbox.close(),
                _ = tick.tick(), if !self.is_idle() => {
                    if !live.is_up() || !channel.status().connected() || self.is_stuck(live) {
                        return false;
                    }
                    self.expire();
                    self.try_again();
                }
            }
        }
    }

    /// Keeps what waits: the driver would queue it without bound, and send it long after its caller has
    /// given it up.
    fn hold(&mut self) {
        self.blocked = Some(Instant::now());
        self.waiting.iter_mut().for_each(Job::hold);
    }

    /// False when the channel is gone.
    async fn send_waiting(
        &mut self,
        channel: &Channel,
        confirms: &mut FuturesUnordered<Confirming>,
    ) -> bool {
        while self.flight.len() < self.config.confirm_window {
            let Some(mut job) = self.waiting.pop_front() else { return true };
            if job.reply.is_closed() {
                continue;
            }
            self.next += 1;
            let number = self.next;
            let mut confirming = confirming(channel.clone(), number, &job, self.is_mandatory(&job));
            // The first poll hands the frames over, in this order; the rest is waiting.
            let first = std::future::poll_fn(|cx| Poll::Ready(confirming.as_mut().poll(cx))).await;
            job.send();
            self.flight.insert(number, job);
            match first {
                Poll::Pending => confirms.push(confirming),
                // Seldom, but a thread that was kept waiting finds the answer there.
                Poll::Ready(done) => {
                    if !self.collect(done, confirms).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn is_mandatory(&self, job: &Job) -> bool {
        job.mandatory && !Mutant::NoMandatory.is_on(&self.config)
    }

    /// Settles what is confirmed. False when the channel is gone.
    ///
    /// The driver gives a returned message to whichever confirm comes next, so that who was returned
    /// is known only when all that is there has been looked at.
    async fn collect(
        &mut self,
        first: (u64, lapin::Result<Confirmation>),
        confirms: &mut FuturesUnordered<Confirming>,
    ) -> bool {
        let mut done = vec![first];
        let mut looked = 0;
        while looked < done.len() {
            looked = done.len();
            let ready = std::future::poll_fn(|cx| {
                let mut ready = Vec::new();
                while let Poll::Ready(Some(next)) = confirms.poll_next_unpin(cx) {
                    ready.push(next);
                }
                Poll::Ready(ready)
            });
            done.extend(ready.await);
        }
        for (_, outcome) in &done {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) =
                outcome
            {
                let id = message.properties.message_id().as_ref().map(ShortString::to_string);
                self.returned.insert((id.unwrap_or_default(), message.routing_key.to_string()));
            }
        }
        let mut is_usable = true;
        for (number, outcome) in done {
            is_usable &= self.settle(number, outcome);
        }
        is_usable
    }

    /// False when the channel is gone; the job is then kept, to be sent again.
    fn settle(&mut self, number: u64, outcome: lapin::Result<Confirmation>) -> bool {
        let Some(mut job) = self.flight.remove(&number) else { return true };
        match outcome {
            Ok(Confirmation::Ack(_)) => {
                let is_returned = job.mandatory && !self.returned.is_empty();
                if is_returned && self.returned.remove(&job.mark()) {
                    job.end(Err(Failed::Unroutable));
                } else if let Some(until) =
                    self.topology.young.until(&job.exchange, &job.routing_key)
                {
                    job.safe_at = Some(until);
                    self.flight.insert(number, job);
                } else {
                    job.end(Ok(()));
                }
                true
            }
            Ok(Confirmation::Nack(_)) => {
                job.refuse();
                self.refused.push(job);
                true
            }
            Ok(Confirmation::NotRequested) => {
                tracing::error!("a confirm channel of RabbitMQ is not in confirm mode");
                self.flight.insert(number, job);
                false
            }
            Err(cause) => {
                tracing::debug!(%cause, "a confirm channel ended");
                self.flight.insert(number, job);
                false
            }
        }
    }

    /// Sends again what was refused a while ago.
    fn try_again(&mut self) {
        let now = Instant::now();
        let refused = std::mem::take(&mut self.refused);
        let (due, later): (Vec<Job>, Vec<Job>) =
            refused.into_iter().partition(|job| job.is_due(now));
        self.waiting.extend(due);
        self.refused = later;
    }

    /// Ends what has waited too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let is_over = |job: &Job| job.deadline <= now || job.safe_at.is_some_and(|at| at <= now);
        let over = self.flight.iter().filter(|(_, job)| is_over(job));
        let late: Vec<u64> = over.map(|(number, _)| *number).collect();
        for number in late {
            if let Some(job) = self.flight.remove(&number) {
                job.expire();
            }
        }
        let (late, kept): (VecDeque<Job>, VecDeque<Job>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|job| job.deadline <= now);
        self.waiting = kept;
        late.into_iter().for_each(Job::expire);
        let (late, kept): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut self.refused).into_iter().partition(|job| job.deadline <= now);
        self.refused = kept;
        late.into_iter().for_each(Job::expire);
    }

    /// Whether something was never confirmed on a connection that works: a queue behind it is dead,
    /// as a quorum queue can be whose server was killed when it was young.
    fn is_stuck(&self, live: &Live) -> bool {
        if live.connection.status().blocked() {
            return false;
        }
        let limit =
            (self.config.publish_timeout / 3).clamp(Duration::from_secs(1), Duration::from_secs(5));
        let oldest = self.flight.values().find(|job| job.safe_at.is_none());
        // What was on its way when the server took nothing has its time from then on.
        let is_late =
            |job: &&Job| job.sent.max(self.blocked).is_some_and(|at| at.elapsed() > limit);
        let Some(job) = oldest.filter(is_late) else { return false };
        tracing::warn!(routing_key = %job.routing_key, "RabbitMQ does not confirm: its queues are checked");
        // The broker that checks is gone only when this lane is about to end too.
        drop(self.stuck.send(job.routing_key.clone()));
        true
    }
}

fn confirming(channel: Channel, number: u64, job: &Job, mandatory: bool) -> Confirming {
    let (exchange, routing_key) = (job.exchange.clone(), job.routing_key.clone());
    let (body, properties) = (job.body.clone(), job.properties.clone());
    Box::pin(async move {
        let options = BasicPublishOptions { mandatory, immediate: false };
        let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
        match sent {
            Ok(confirm) => (number, confirm.await),
            Err(cause) => (number, Err(cause)),
        }
    })
}

/// Opens a confirm channel on a connection that works, however long that takes.
async fn open(config: &RabbitMqConfig, link: &Link, topology: &Topology) -> (Live, Channel) {
    loop {
        let within = Instant::now() + config.connect_timeout;
        let Ok(live) = link.live(within, "publish").await else { continue };
        let opened = async {
            let channel = live.channel("publish").await?;
            topology.declare_base(&channel).await?;
            let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
            selected.map_err(|cause| crate::error::driver("publish", cause))?;
            Ok::<_, trunkline_core::Error>(channel)
        };
        match opened.await {
            Ok(channel) => return (live, channel),
            Err(error) => {
                tracing::debug!(%error, "a confirm channel does not open");
                tokio::time::sleep(TICK).await;
            }
        }
    }
}
