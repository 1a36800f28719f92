//! The broker that a property is put to, under names of its own run.

use std::fmt;
use std::sync::Arc;

use trunkline_core::{
    Broker, BrokerAdmin, Capabilities, DeadLetterFilter, Durability, Event, EventId, Group,
    GroupInfo, GroupSpec, Pattern, PublishOptions, RetryClass, StoredDeadLetter, SubscribeOptions,
    Topic,
};

use super::{Taker, eventually, patience};
use crate::failure::{Check, Failure, ensure};
use crate::hooks::Hooks;

/// A broker, its pinned capabilities, and a prefix that no other run shares.
pub struct Subject<B> {
    pub(crate) broker: Arc<B>,
    pub(crate) expected: Capabilities,
    pub(crate) hooks: Hooks,
    run: String,
}

impl<B> Clone for Subject<B> {
    fn clone(&self) -> Self {
        Self {
            broker: Arc::clone(&self.broker),
            expected: self.expected.clone(),
            hooks: self.hooks.clone(),
            run: self.run.clone(),
        }
    }
}

impl<B: Broker> Subject<B> {
    /// A subject whose broker must declare the capabilities `expected`.
    #[must_use]
    pub fn new(broker: B, expected: Capabilities) -> Self {
        Self::of(Arc::new(broker), expected, Hooks::default())
    }

    pub(crate) fn of(broker: Arc<B>, expected: Capabilities, hooks: Hooks) -> Self {
        Self { broker, expected, hooks, run: format!("t-{}", EventId::generate()) }
    }

    /// The same topics and groups as `other` has, over a broker of its own.
    pub(crate) fn beside(mut self, other: &Self) -> Self {
        self.run.clone_from(&other.run);
        self
    }

    /// Whether the broker lives in this process: nothing of it takes the time of a network.
    pub(crate) fn is_in_process(&self) -> bool {
        self.expected.durability == Durability::Process
    }
}

/// A broker that is taken at its word: its capabilities are pinned as it declares them.
impl<B: Broker> From<B> for Subject<B> {
    fn from(broker: B) -> Self {
        let expected = broker.capabilities().clone();
        Self::new(broker, expected)
    }
}

impl<B: Broker> Subject<B> {
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, Failure> {
        Ok(Topic::new(format!("{}.{name}", self.run))?)
    }

    pub(crate) fn pattern(&self, name: &str) -> Result<Pattern, Failure> {
        Ok(Pattern::new(format!("{}.{name}", self.run))?)
    }

    pub(crate) fn group(&self, name: &str) -> Result<Group, Failure> {
        Ok(Group::new(format!("{}.{name}", self.run))?)
    }

    /// Whether the topic is one of this run.
    pub(crate) fn owns(&self, topic: &Topic) -> bool {
        topic.as_str().starts_with(&self.run)
    }

    pub(crate) fn admin(&self) -> Result<&dyn BrokerAdmin, Failure> {
        let missing = || Failure::new("the broker has no operations tools");
        self.broker.admin().ok_or_else(missing)
    }

    /// Publishes events that all have to be accepted.
    pub(crate) async fn publish(&self, events: &[Event]) -> Check {
        self.publish_with(events, &PublishOptions::default()).await
    }

    pub(crate) async fn publish_with(&self, events: &[Event], options: &PublishOptions) -> Check {
        Ok(self.broker.publish(events, options).await.into_result()?)
    }

    pub(crate) async fn publish_one(&self, event: &Event) -> Check {
        self.publish(std::slice::from_ref(event)).await
    }

    /// Options to join a group of this run on one topic.
    pub(crate) fn member_of(
        &self,
        group: &str,
        topic: &Topic,
    ) -> Result<SubscribeOptions, Failure> {
        Ok(SubscribeOptions::group(self.group(group)?, [Pattern::from(topic.clone())]))
    }

    pub(crate) async fn join(&self, group: &str, topic: &Topic) -> Result<Taker, Failure> {
        self.subscribe(self.member_of(group, topic)?).await
    }

    pub(crate) async fn listen(&self, topic: &Topic) -> Result<Taker, Failure> {
        self.subscribe(SubscribeOptions::broadcast([Pattern::from(topic.clone())])).await
    }

    pub(crate) async fn subscribe(&self, options: SubscribeOptions) -> Result<Taker, Failure> {
        Ok(Taker::new(self.broker.subscribe(options).await?))
    }

    pub(crate) async fn declare(&self, group: &str, topic: &Topic) -> Check {
        let spec = GroupSpec::new(self.group(group)?, [Pattern::from(topic.clone())]);
        Ok(self.admin()?.declare_group(spec).await?)
    }

    /// What the broker says about a group of this run.
    pub(crate) async fn info(&self, group: &str) -> Result<Option<GroupInfo>, Failure> {
        let group = self.group(group)?;
        let groups = self.admin()?.groups().await?;
        Ok(groups.into_iter().find(|info| info.name == group))
    }

    /// Waits until nothing waits for a group and nothing of it is out.
    pub(crate) async fn settled(&self, group: &str) -> Check {
        let group = &self.group(group)?;
        let is_settled =
            |info: &GroupInfo| info.name == *group && info.lag == 0 && info.in_flight == 0;
        let empty = || async {
            match self.admin()?.groups().await {
                // A server that comes back may leave a question unanswered.
                Err(error) if error.retry() == RetryClass::Transient => Ok(false),
                groups => Ok(groups?.iter().any(is_settled)),
            }
        };
        eventually(patience(), "the group has nothing left", empty).await
    }

    pub(crate) async fn letters(&self, group: &str) -> Result<Vec<StoredDeadLetter>, Failure> {
        let filter = DeadLetterFilter { group: Some(self.group(group)?), ..Default::default() };
        Ok(self.admin()?.dead_letters(&filter).await?)
    }

    /// Waits until a group has so many dead letters, and reads them.
    pub(crate) async fn wait_for_letters(
        &self,
        group: &str,
        count: usize,
    ) -> Result<Vec<StoredDeadLetter>, Failure> {
        let there = || async { Ok(self.letters(group).await?.len() >= count) };
        eventually(patience(), "the dead letters are there", there).await?;
        let letters = self.letters(group).await?;
        ensure!(letters.len() == count, "{} dead letters where {count} are right", letters.len());
        Ok(letters)
    }
}

impl<B> fmt::Debug for Subject<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("run", &self.run).finish_non_exhaustive()
    }
}
