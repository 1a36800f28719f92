//! The operations tools of both sides as one.

use async_trait::async_trait;
use smol_str::format_smolstr;
use trunkline_core::{
    BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Error, ErrorKind, EventId,
    Group, GroupInfo, GroupSpec, OnFull, Result, StoredDeadLetter, SubscribeOptions, TopicInfo,
};

use crate::broker::HybridBroker;

const LOCAL: &str = "local";
const REMOTE: &str = "remote";

impl HybridBroker {
    /// The tools of the local and of the remote broker.
    fn admins(&self) -> Result<(&dyn BrokerAdmin, &dyn BrokerAdmin)> {
        match (self.inner.local.admin(), self.inner.remote.admin()) {
            (Some(local), Some(remote)) => Ok((local, remote)),
            _ => {
                let message = "the hybrid broker has operations tools where both of its sides do";
                Err(Error::new(ErrorKind::Unsupported, "admin", message))
            }
        }
    }
}

/// A group is made, deleted and listed as one of both sides. Dead letters are listed together, their
/// names prefixed `local:` and `remote:`.
#[async_trait]
impl BrokerAdmin for HybridBroker {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let (local, remote) = self.admins()?;
        let mut topics = local.topics().await.map_err(on(LOCAL))?;
        topics.extend(remote.topics().await.map_err(on(REMOTE))?);
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            kept.events += if same { later.events } else { 0 };
            same
        });
        Ok(topics)
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let (local, remote) = self.admins()?;
        let mut groups = local.groups().await.map_err(on(LOCAL))?;
        groups.extend(remote.groups().await.map_err(on(REMOTE))?);
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                merge(kept, later);
            }
            same
        });
        Ok(groups)
    }

    async fn declare_group(&self, spec: GroupSpec) -> Result<()> {
        self.inner.check_open("declare group")?;
        let (local, remote) = self.admins()?;
        let mut options = SubscribeOptions::group(spec.name.clone(), spec.topics.iter().cloned());
        options.start = spec.start.clone();
        options.buffer = spec.buffer;
        options.on_full = spec.on_full;
        options.lanes = spec.lanes;
        self.inner.capabilities.check_subscribe(&options)?;
        let mut there = spec.clone();
        if !self.inner.remote.capabilities().buffer {
            (there.buffer, there.on_full) = (None, OnFull::default());
        }
        local.declare_group(spec).await.map_err(on(LOCAL))?;
        remote.declare_group(there).await.map_err(on(REMOTE))
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        let (local, remote) = self.admins()?;
        // The remote side first: it knows the members of other processes, and refuses for them.
        let there = remote.delete_group(group).await.map_err(on(REMOTE))?;
        let here = local.delete_group(group).await.map_err(on(LOCAL))?;
        Ok(here || there)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        let (local, remote) = self.admins()?;
        let here = local.dead_letters(filter).await.map_err(on(LOCAL))?;
        let there = remote.dead_letters(filter).await.map_err(on(REMOTE))?;
        let mut letters = merge_by_age(named(LOCAL, here), named(REMOTE, there));
        letters.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(letters)
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        let (local, remote) = self.admins()?;
        let inner = |name: &str| DeadLetterId(name.into());
        match id.0.split_once(':') {
            Some((LOCAL, name)) => local.settle_dead_letter(&inner(name), verdict).await,
            Some((REMOTE, name)) => remote.settle_dead_letter(&inner(name), verdict).await,
            _ => {
                let message = "the name of a dead letter of a hybrid broker begins with `local:` \
                               or `remote:`";
                Err(Error::new(ErrorKind::NotFound, "settle dead letter", message)
                    .with("found", &id.0))
            }
        }
    }

    async fn cancel(&self, id: &EventId) -> Result<bool> {
        let (local, remote) = self.admins()?;
        let here = local.cancel(id).await;
        let there = remote.cancel(id).await;
        match (here, there) {
            // One side has taken it back: that the other cannot cancel anything is no failure then.
            (Ok(true), Ok(_)) | (Ok(_), Ok(true)) => Ok(true),
            (Ok(true), Err(error)) | (Err(error), Ok(true)) => match error.kind() {
                ErrorKind::Unsupported => Ok(true),
                _ => Err(error),
            },
            (Ok(false), Ok(false)) => Ok(false),
            (Err(error), _) => Err(on(LOCAL)(error)),
            (_, Err(error)) => Err(on(REMOTE)(error)),
        }
    }
}

fn on(side: &'static str) -> impl Fn(Error) -> Error {
    move |error| error.with("side", side)
}

/// A member of a hybrid group joins both sides: the larger number counts each once.
fn merge(kept: &mut GroupInfo, later: &mut GroupInfo) {
    for topic in later.topics.drain(..) {
        if !kept.topics.contains(&topic) {
            kept.topics.push(topic);
        }
    }
    kept.members = kept.members.max(later.members);
    kept.lag += later.lag;
    kept.in_flight += later.in_flight;
    kept.dropped += later.dropped;
}

fn named(side: &'static str, mut letters: Vec<StoredDeadLetter>) -> Vec<StoredDeadLetter> {
    for letter in &mut letters {
        letter.id = DeadLetterId(format_smolstr!("{side}:{}", letter.id.0));
    }
    letters
}

/// Merges two lists by the time of the last failure; each keeps its own order.
fn merge_by_age(
    local: Vec<StoredDeadLetter>,
    remote: Vec<StoredDeadLetter>,
) -> Vec<StoredDeadLetter> {
    let mut merged = Vec::with_capacity(local.len() + remote.len());
    let (mut local, mut remote) = (local.into_iter().peekable(), remote.into_iter().peekable());
    while let (Some(here), Some(there)) = (local.peek(), remote.peek()) {
        let from_local = here.letter.last_failure <= there.letter.last_failure;
        merged.extend(if from_local { local.next() } else { remote.next() });
    }
    merged.extend(local.chain(remote));
    merged
}
