//! How a property gets at the server behind the broker's back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use trunkline_core::{Group, Result, Topic};

use crate::failure::{Check, Failure};

type Hook<A, T> = Arc<dyn Fn(A) -> BoxFuture<'static, Result<T>> + Send + Sync>;
type RawWriter = Arc<dyn Fn(Topic, Vec<u8>) -> BoxFuture<'static, Result<()>> + Send + Sync>;
type Gate = Arc<
    dyn Fn(Topic, Group) -> BoxFuture<'static, Result<BoxFuture<'static, Result<()>>>>
        + Send
        + Sync,
>;
type Census = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<(String, u64)>>> + Send + Sync>;

/// The headers of one message as they are on the wire, by name.
pub type RawHeaders = Vec<(String, Vec<u8>)>;

/// Answers what a tap has caught.
pub(crate) type Caught = BoxFuture<'static, Result<RawHeaders>>;

/// Which partition a key falls into.
pub(crate) type OfKey = Arc<dyn Fn(&str) -> u32 + Send + Sync>;

/// What a backend's tests gave the suite beside their broker.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) takeover: Option<Duration>,
    pub(crate) ack_interval: Option<Duration>,
    pub(crate) partitions: Option<(u32, OfKey)>,
    pub(crate) retains_otherwise: bool,
    pub(crate) header_tap: Option<Hook<Topic, Caught>>,
    pub(crate) raw_writer: Option<RawWriter>,
    pub(crate) group_remover: Option<Hook<Group, ()>>,
    pub(crate) letter_refuser: Option<Gate>,
    pub(crate) census: Option<Census>,
}

fn absent(name: &str) -> Failure {
    Failure::new(format!("the factory's fixture lacks `{name}`, which this property needs"))
}

impl Hooks {
    /// How soon another member has what a killed one had.
    pub(crate) fn takeover(&self) -> Result<Duration, Failure> {
        self.takeover.ok_or_else(|| absent("with_takeover"))
    }

    /// How long after it was settled an acknowledgement is on its way to the server.
    pub(crate) fn ack_interval(&self) -> Result<Duration, Failure> {
        self.ack_interval.ok_or_else(|| absent("with_ack_interval"))
    }

    /// How many partitions a group's topic has, and which of them a key falls into.
    pub(crate) fn partitions(&self) -> Result<&(u32, OfKey), Failure> {
        self.partitions.as_ref().ok_or_else(|| absent("with_partitions"))
    }

    /// Begins to read what a topic carries.
    pub(crate) async fn tap(&self, topic: &Topic) -> Result<Caught, Failure> {
        let tap = self.header_tap.as_ref().ok_or_else(|| absent("with_header_tap"))?;
        Ok(tap(topic.clone()).await?)
    }

    /// Writes bytes that are no event.
    pub(crate) async fn write_raw(&self, topic: &Topic, bytes: &[u8]) -> Check {
        let write = self.raw_writer.as_ref().ok_or_else(|| absent("with_raw_writer"))?;
        Ok(write(topic.clone(), bytes.to_vec()).await?)
    }

    /// Deletes a group on the server.
    pub(crate) async fn remove_group(&self, group: Group) -> Check {
        let remove = self.group_remover.as_ref().ok_or_else(|| absent("with_group_remover"))?;
        Ok(remove(group).await?)
    }

    /// Makes the place of a topic's and group's dead letters refuse them, until what this answers is
    /// awaited.
    pub(crate) async fn refuse_letters(
        &self,
        topic: &Topic,
        group: Group,
    ) -> Result<BoxFuture<'static, Result<()>>, Failure> {
        let refuse = self.letter_refuser.as_ref().ok_or_else(|| absent("with_letter_refuser"))?;
        Ok(refuse(topic.clone(), group).await?)
    }

    /// What the server holds for the broker, by name.
    pub(crate) async fn census(&self) -> Result<Vec<(String, u64)>, Failure> {
        let count = self.census.as_ref().ok_or_else(|| absent("with_census"))?;
        let mut found = count().await?;
        found.sort();
        Ok(found)
    }
}
