//! What a factory hands to a property.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use trunkline_core::{Group, Result, Topic};

use crate::failure::{Check, Failure};
use crate::hooks::{Hooks, RawHeaders};

/// A fresh subject, such as a store, and what must live as long as it does.
///
/// A broker on a server says beside it how the suite gets at the server behind its back: each hook is a
/// few lines over the plain driver. A property that needs a hook which is absent fails and names it.
pub struct Fixture<T> {
    pub(crate) subject: T,
    pub(crate) kept: Vec<Box<dyn Any + Send>>,
    pub(crate) hooks: Hooks,
    pub(crate) endings: Vec<BoxFuture<'static, Check>>,
}

impl<T> Fixture<T> {
    /// A subject that needs nothing else.
    #[must_use]
    pub fn new(subject: T) -> Self {
        Self { subject, kept: Vec::new(), hooks: Hooks::default(), endings: Vec::new() }
    }

    /// Keeps `thing`, such as a temporary folder, until the subject is dropped.
    #[must_use]
    pub fn keep(mut self, thing: impl Any + Send) -> Self {
        self.kept.push(Box::new(thing));
        self
    }

    /// Removes from the server what the property left there, after its broker was closed.
    #[must_use]
    pub fn at_end(mut self, ending: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        self.endings.push(Box::pin(async move { ending.await.map_err(Failure::from) }));
        self
    }

    /// States how soon another member has what a member had that was killed, at the latest.
    #[must_use]
    pub fn with_takeover(mut self, bound: Duration) -> Self {
        self.hooks.takeover = Some(bound);
        self
    }

    /// States how long after it was settled an acknowledgement is on its way to the server, at the latest.
    #[must_use]
    pub fn with_ack_interval(mut self, interval: Duration) -> Self {
        self.hooks.ack_interval = Some(interval);
        self
    }

    /// States into how many partitions a group's topic is divided, and which of them a key falls into.
    #[must_use]
    pub fn with_partitions(
        mut self,
        count: u32,
        of_key: impl Fn(&str) -> u32 + Send + Sync + 'static,
    ) -> Self {
        self.hooks.partitions = Some((count, std::sync::Arc::new(of_key)));
        self
    }

    /// States that the broker keeps what was taken by another measure than a count, so that
    /// [`BrokerConditions::retained`](crate::broker::BrokerConditions) cannot be had.
    #[must_use]
    pub fn without_retention_by_count(mut self) -> Self {
        self.hooks.retains_otherwise = true;
        self
    }

    /// Reads what a topic (its logical name) carries, as a foreign program would.
    ///
    /// The outer future is ready when nothing that is published from then on is missed; the inner one
    /// answers the headers of the first message that came since.
    #[must_use]
    pub fn with_header_tap<F, Fut, Caught>(mut self, tap: F) -> Self
    where
        F: Fn(Topic) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Caught>> + Send + 'static,
        Caught: Future<Output = Result<RawHeaders>> + Send + 'static,
    {
        self.hooks.header_tap = Some(std::sync::Arc::new(move |topic| {
            let tapping = tap(topic);
            Box::pin(async move { Ok(Box::pin(tapping.await?) as BoxFuture<'static, _>) })
        }));
        self
    }

    /// Writes bytes that are no event to a topic (its logical name), as a foreign program could.
    #[must_use]
    pub fn with_raw_writer<F, Fut>(mut self, write: F) -> Self
    where
        F: Fn(Topic, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.raw_writer =
            Some(std::sync::Arc::new(move |topic, bytes| Box::pin(write(topic, bytes))));
        self
    }

    /// Deletes a group, or its queues, on the server behind the broker's back.
    #[must_use]
    pub fn with_group_remover<F, Fut>(mut self, remove: F) -> Self
    where
        F: Fn(Group) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.group_remover = Some(std::sync::Arc::new(move |group| Box::pin(remove(group))));
        self
    }

    /// Makes the place where the dead letters of a topic and group are kept refuse them, before there
    /// are any; what this answers heals it again.
    #[must_use]
    pub fn with_letter_refuser<F, Fut, Heal>(mut self, refuse: F) -> Self
    where
        F: Fn(Topic, Group) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Heal>> + Send + 'static,
        Heal: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.letter_refuser = Some(std::sync::Arc::new(move |topic, group| {
            let refusing = refuse(topic, group);
            Box::pin(async move { Ok(Box::pin(refusing.await?) as BoxFuture<'static, _>) })
        }));
        self
    }

    /// Counts what the server holds for this broker's prefix, by name: queues, keys, consumers.
    #[must_use]
    pub fn with_census<F, Fut>(mut self, count: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(String, u64)>>> + Send + 'static,
    {
        self.hooks.census = Some(std::sync::Arc::new(move || Box::pin(count())));
        self
    }

    /// The same, about a subject made of this one and the hooks.
    pub(crate) fn map<U>(self, change: impl FnOnce(T, Hooks) -> U) -> Fixture<U> {
        let Self { subject, kept, hooks, endings } = self;
        Fixture { subject: change(subject, hooks.clone()), kept, hooks, endings }
    }
}

impl<T: fmt::Debug> fmt::Debug for Fixture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("subject", &self.subject).finish_non_exhaustive()
    }
}
