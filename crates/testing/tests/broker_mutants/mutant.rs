//! A memory broker with one fault.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use trunkline_core::{
    Audience, BatchResult, Broker, BrokerAdmin, Capabilities, DeadLetterFilter, DeadLetterId,
    DeadLetterVerdict, Error, ErrorKind, Event, EventId, Group, GroupInfo, GroupSpec, Health,
    OnFull, Order, Pattern, PublishOptions, Publishing, Result, StartAt, StoredDeadLetter,
    SubscribeOptions, Subscription, TopicInfo,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};
use trunkline_testing::broker::BrokerConditions;

use crate::deliveries::Deliveries;

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // Publishing.
    AcceptsWhatNobodyTakes,
    AcceptsWhatIsTooLarge,
    SaysFullIsAccepted,
    EnqueuesWhereThereIsRoom,
    WaitsForItsOwnGroup,
    DeliversDelayedAtOnce,
    IgnoresOverrides,
    GoesOnAfterAFailure,
    TellsGroupsOfBroadcasts,
    AbortsTheWholeBatch,
    // Subscribing.
    GivesAKeyToEveryMember,
    IgnoresPrefetch,
    IgnoresLanes,
    IgnoresTheStart,
    MatchesTooMuch,
    DropsTheNewest,
    SubscribesLater,
    LeaksSubscriptions,
    // Deliveries.
    AcknowledgesOnReceipt,
    LosesWhatALeaverHas,
    ReversesDeliveries,
    DeliversAcknowledgedAgain,
    ForgetsAttempts,
    CountsDropsAsAttempts,
    RetriesAtTheBack,
    RetriesEarly,
    LosesDeadLetters,
    ForgetsWhyItWasRejected,
    LosesWhatTheFullLogRefuses,
    EmptiesAbsentData,
    ReadsDataAsText,
    ForgetsTheTenant,
    // Operations.
    SettlesALetterAgain,
    RedrivesToNobody,
    CancelsNothing,
    DeletesGroupsInUse,
    CountsNoLag,
    ListsForeignLetters,
    // The whole.
    ClaimsHistory,
    StaysOpen,
    StaysUp,
    ShowsItsPassword,
}

pub(crate) struct Mutant {
    sound: MemoryBroker,
    fault: Fault,
    capabilities: Capabilities,
    leaked: Mutex<Vec<Box<dyn Subscription>>>,
}

/// What the suite is told that a mutant can do.
pub(crate) fn pinned() -> Capabilities {
    MemoryBroker::default().capabilities().clone()
}

impl Mutant {
    pub(crate) fn new(fault: Fault, conditions: &BrokerConditions) -> Self {
        let mut config = MemoryConfig::default();
        config.buffer = conditions.buffer.unwrap_or(config.buffer);
        config.publish_timeout = conditions.publish_timeout.unwrap_or(config.publish_timeout);
        config.max_event_bytes = conditions.max_event_bytes.unwrap_or(config.max_event_bytes);
        config.max_dead_letters = conditions.max_dead_letters.unwrap_or(config.max_dead_letters);
        if fault == Fault::IgnoresTheStart {
            config.history = 10_000;
        }
        let mut capabilities = pinned();
        capabilities.history = fault == Fault::ClaimsHistory;
        let sound = MemoryBroker::new(config);
        Self { sound, fault, capabilities, leaked: Mutex::default() }
    }

    /// The options as this mutant takes them.
    fn publish_options(&self, options: &PublishOptions) -> PublishOptions {
        let mut options = options.clone();
        match self.fault {
            Fault::WaitsForItsOwnGroup => options.from_group = None,
            Fault::DeliversDelayedAtOnce => options.delay = None,
            Fault::IgnoresOverrides => options.wire = None,
            Fault::TellsGroupsOfBroadcasts => options.audience = Audience::Everyone,
            _ => {}
        }
        options
    }

    fn subscribe_options(&self, mut options: SubscribeOptions) -> SubscribeOptions {
        match self.fault {
            Fault::GivesAKeyToEveryMember => options.order = Order::None,
            Fault::IgnoresPrefetch => options.prefetch = 10_000,
            Fault::IgnoresTheStart => options.start = StartAt::Beginning,
            Fault::DropsTheNewest if options.on_full == OnFull::DropOldest => {
                options.on_full = OnFull::Error;
            }
            Fault::MatchesTooMuch => options.topics = options.topics.iter().map(widen).collect(),
            _ => {}
        }
        options
    }

    async fn publish_as_it_does(&self, events: &[Event], options: &PublishOptions) -> BatchResult {
        let options = self.publish_options(options);
        if self.fault == Fault::GoesOnAfterAFailure {
            let mut result = BatchResult::accepted();
            for (place, event) in events.iter().enumerate() {
                let one = self.sound.publish(std::slice::from_ref(event), &options).await;
                if let Err(error) = one.into_result() {
                    result.fail(place, error);
                }
            }
            return result;
        }
        let result = self.sound.publish(events, &options).await;
        self.spoil(events, &options, result).await
    }

    async fn spoil(
        &self,
        events: &[Event],
        options: &PublishOptions,
        result: BatchResult,
    ) -> BatchResult {
        let forgiven = match self.fault {
            Fault::AcceptsWhatNobodyTakes => ErrorKind::Unroutable,
            Fault::AcceptsWhatIsTooLarge => ErrorKind::TooLarge,
            Fault::SaysFullIsAccepted => ErrorKind::Full,
            Fault::DropsTheNewest => ErrorKind::Full,
            Fault::EnqueuesWhereThereIsRoom if !result.is_ok() => {
                let rest = options.clone().with_audience(Audience::BroadcastOnly);
                for (place, _) in result.failures() {
                    drop(self.sound.publish(&events[place..=place], &rest).await);
                }
                return result;
            }
            Fault::AbortsTheWholeBatch if !result.is_ok() => {
                let error = Error::new(ErrorKind::Aborted, "publish", "something else failed");
                return BatchResult::failed(events.len(), &error);
            }
            _ => return result,
        };
        let mut spoilt = BatchResult::accepted();
        let failures = result.into_failures().into_iter();
        failures
            .filter(|(_, error)| error.kind() != forgiven)
            .for_each(|(place, error)| spoilt.fail(place, error));
        spoilt
    }
}

/// `a.b` becomes `a.*`: too wide.
fn widen(pattern: &Pattern) -> Pattern {
    let wider = pattern.as_str().rsplit_once('.').map(|(head, _)| format!("{head}.*"));
    wider.and_then(|wider| Pattern::new(wider).ok()).unwrap_or_else(|| pattern.clone())
}

#[async_trait]
impl Broker for Mutant {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        Publishing::waiting(self.publish_as_it_does(events, options))
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.sound.capabilities().check_subscribe(&options)?;
        let options = self.subscribe_options(options);
        if self.fault == Fault::LeaksSubscriptions {
            let leaked = self.sound.subscribe(options.clone()).await?;
            self.leaked.lock().unwrap_or_else(PoisonError::into_inner).push(leaked);
        }
        let broker = self.sound.clone();
        let subscribing = async move { broker.subscribe(options).await };
        if self.fault == Fault::SubscribesLater {
            return Ok(Box::new(Deliveries::later(self.fault, subscribing)));
        }
        Ok(Box::new(Deliveries::of(self.fault, subscribing.await?)))
    }

    async fn health(&self) -> Health {
        match self.fault {
            Fault::StaysUp => Health::up(),
            _ => self.sound.health().await,
        }
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        match self.fault {
            Fault::StaysOpen => Ok(()),
            _ => self.sound.close(deadline).await,
        }
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        Some(self)
    }
}

#[async_trait]
impl BrokerAdmin for Mutant {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.sound.topics().await
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let mut groups = self.sound.groups().await?;
        if self.fault == Fault::CountsNoLag {
            groups.iter_mut().for_each(|group| group.lag = 0);
        }
        Ok(groups)
    }

    async fn declare_group(&self, mut spec: GroupSpec) -> Result<()> {
        match self.fault {
            Fault::GivesAKeyToEveryMember => spec.order = Order::None,
            Fault::IgnoresLanes => spec.lanes = false,
            Fault::IgnoresTheStart => spec.start = StartAt::Beginning,
            _ => {}
        }
        self.sound.declare_group(spec).await
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        match self.sound.delete_group(group).await {
            Err(_) if self.fault == Fault::DeletesGroupsInUse => Ok(true),
            outcome => outcome,
        }
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        let mut filter = filter.clone();
        if self.fault == Fault::ListsForeignLetters {
            filter.group = None;
        }
        self.sound.dead_letters(&filter).await
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        let verdict = match self.fault {
            Fault::RedrivesToNobody => DeadLetterVerdict::Discard,
            _ => verdict,
        };
        match self.sound.settle_dead_letter(id, verdict).await {
            Err(_) if self.fault == Fault::SettlesALetterAgain => Ok(()),
            outcome => outcome,
        }
    }

    async fn cancel(&self, id: &EventId) -> Result<bool> {
        match self.fault {
            Fault::CancelsNothing => Ok(true),
            _ => self.sound.cancel(id).await,
        }
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self.fault {
            Fault::ShowsItsPassword => "amqp://guest:secret@localhost/",
            _ => "amqp://localhost/",
        };
        f.debug_struct("Mutant").field("url", &url).finish_non_exhaustive()
    }
}
