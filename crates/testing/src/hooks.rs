//! How a property gets at the server behind the broker's back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use trunkline_core::{Group, Result, Topic};

use crate::failure::{Check, Failure};

type Hook<A, T> = Arc<dyn Fn(A) -> BoxFuture<'static, Result<T>> + Send + Sync>;
type RawWriter = Arc<dyn Fn(Topic, Vec<u8>) -> BoxFuture<'static, Result<()>> + Send + Sync>;
type Census = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<(String, u64)>>> + Send + Sync>;

/// What a backend's tests gave the suite beside their broker.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) takeover: Option<Duration>,
    pub(crate) raw_writer: Option<RawWriter>,
    pub(crate) group_remover: Option<Hook<Group, ()>>,
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

    /// What the server holds for the broker, by name.
    pub(crate) async fn census(&self) -> Result<Vec<(String, u64)>, Failure> {
        let count = self.census.as_ref().ok_or_else(|| absent("with_census"))?;
        let mut found = count().await?;
        found.sort();
        Ok(found)
    }
}
