//! The two groups and the broadcast subscriber of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline::{
    BrokerAdmin, Consumer, ConsumerHandle, DeadLetterFilter, DomainEvent, ErrorKind, Event,
    EventBus, EventId, Group, Handler, HandlerError, Result, RetryClass, StartAt, Typed,
};

use super::CONSUMERS;
use super::ledger::Ledger;
use super::scenario;

/// One handler: notes in the ledger that it ran.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    ledger: Arc<Ledger>,
    consumer: usize,
}

impl Seat {
    async fn handle_event(&self, event: &Event) -> Result<(), HandlerError> {
        // On a shared broker others publish too; what is not in the ledger is theirs.
        if let Some(visit) = self.ledger.enter(self.consumer, event) {
            // Lets others run meanwhile, so that two events of one key at a time would be seen.
            tokio::task::yield_now().await;
            visit.complete();
        }
        Ok(())
    }
}

impl Handler<Event> for Seat {
    async fn handle(&self, event: Event) -> Result<(), HandlerError> {
        self.handle_event(&event).await
    }
}

impl<T: DomainEvent> Handler<Typed<T>> for Seat {
    async fn handle(&self, event: Typed<T>) -> Result<(), HandlerError> {
        self.handle_event(event.event()).await
    }
}

/// A group, or the broadcast subscriber.
#[derive(Debug, Clone)]
pub(super) struct Party {
    /// The name, its own for this run.
    pub(super) name: String,
    /// The members; a broadcast subscriber is alone.
    pub(super) members: usize,
    /// The group, unless this is the broadcast subscriber.
    pub(super) group: Option<Group>,
}

/// The consumers of a run, subscribed.
#[derive(Debug)]
pub(super) struct Consumers {
    /// Who they are, in the order of the ledger.
    pub(super) parties: [Party; CONSUMERS],
    handles: Vec<ConsumerHandle>,
}

impl Consumers {
    /// Subscribes everybody to every topic, from now on.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub(super) async fn subscribe(
        bus: &EventBus,
        ledger: &Arc<Ledger>,
        concurrency: usize,
        typed: bool,
    ) -> Result<Self> {
        let run = EventId::generate().to_string();
        // The end of the id is its random part.
        let run = &run[run.len() - 12..];
        let group = |name: &str, members| {
            let name = format!("demo-{name}-{run}");
            Group::new(name.as_str()).map(|group| Party { name, members, group: Some(group) })
        };
        let audit = Party { name: format!("demo-audit-{run}"), members: 1, group: None };
        let parties = [group("billing", 1)?, group("shipping", 3)?, audit];
        let mut handles = Vec::new();
        for (number, party) in parties.iter().enumerate() {
            let seat = Seat { ledger: Arc::clone(ledger), consumer: number };
            for _member in 0..party.members {
                let consumer = match &party.group {
                    Some(_) => Consumer::group(&party.name),
                    None => Consumer::broadcast().named(&party.name),
                };
                let consumer =
                    consumer.topics(["#"]).start_at(StartAt::Latest).concurrency(concurrency);
                let consumer = match typed && party.group.is_some() {
                    true => scenario::handled_by(consumer, &seat),
                    false => consumer.on::<Event, _, _>(seat.clone()),
                };
                handles.push(bus.subscribe(consumer).await?);
            }
        }
        Ok(Self { parties, handles })
    }

    /// Events that are with a handler now, or whose acknowledgement is under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.handles.iter().map(|handle| handle.metrics().in_flight).sum()
    }

    /// Events that were given up so far.
    pub(super) fn given_up(&self) -> u64 {
        self.handles.iter().map(|handle| handle.metrics().dead_lettered).sum()
    }

    /// Notes in the ledger which events of this run are among the dead letters.
    ///
    /// # Errors
    /// What the broker says.
    pub(super) async fn note_dead_letters(&self, bus: &EventBus, ledger: &Ledger) -> Result<()> {
        let Some(admin) = bus.broker().admin() else { return Ok(()) };
        for letter in admin.dead_letters(&DeadLetterFilter::default()).await? {
            let party = self.parties.iter().position(|party| party.group == letter.group);
            if let Some(consumer) = party {
                ledger.dead_letter(consumer, &letter.event.attributes().identity());
            }
        }
        Ok(())
    }

    /// Events that still wait at the broker for a group of this run, or are out with a member.
    ///
    /// # Errors
    /// What the broker says.
    pub(super) async fn waiting(&self, bus: &EventBus) -> Result<u64> {
        let Some(admin) = bus.broker().admin() else { return Ok(0) };
        let groups = admin.groups().await?;
        let ours = groups.iter().filter(|info| {
            self.parties.iter().any(|party| party.group.as_ref() == Some(&info.name))
        });
        Ok(ours.map(|info| info.lag + info.in_flight).sum())
    }

    /// Lets running handlers finish, and deletes the groups; says what could not be done.
    pub(super) async fn dissolve(self, bus: &EventBus, deadline: Duration) -> Vec<String> {
        let mut troubles = Vec::new();
        for handle in &self.handles {
            if let Err(error) = handle.unsubscribe(deadline).await {
                troubles.push(format!("{} did not close cleanly: {error}", handle.name()));
            }
        }
        let Some(admin) = bus.broker().admin() else { return troubles };
        for group in self.parties.iter().filter_map(|party| party.group.as_ref()) {
            if let Err(error) = delete(admin, group, deadline).await {
                troubles.push(format!("group {group} was not deleted: {error}"));
            }
        }
        troubles
    }
}

/// Deletes a group. Its members have left, but a server may learn of that a little later, and it may
/// be away for the moment.
async fn delete(admin: &dyn BrokerAdmin, group: &Group, deadline: Duration) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let Err(error) = admin.delete_group(group).await else { return Ok(()) };
        let passes = match error.kind() {
            ErrorKind::NotFound => return Ok(()),
            ErrorKind::Conflict => true,
            _ => matches!(error.retry(), RetryClass::Transient | RetryClass::Ambiguous),
        };
        if !passes || began.elapsed() > deadline {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
