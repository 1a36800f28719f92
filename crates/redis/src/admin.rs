//! The operations tools.

use async_trait::async_trait;
use redis::{Pipeline, Value};
use trunkline_core::{
    BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Error, ErrorKind, EventId,
    Group, GroupInfo, GroupSpec, Result, StoredDeadLetter, SubscribeOptions, TopicInfo,
};

use crate::broker::{RedisBroker, Shared};
use crate::codec::{array_of, bytes_of, int_of, text_of};
use crate::index::{GroupRecord, Index};
use crate::letters;
use crate::link::Link;
use crate::names::{Companions, delay_of};
use crate::scripts::Lua;

#[async_trait]
impl BrokerAdmin for RedisBroker {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let shared = &self.shared;
        shared.check_open("topics")?;
        let index = Index::load(&shared.link, &shared.names).await?;
        let mut pipe = Pipeline::new();
        for (topic, record) in &index.topics {
            for partition in 0..record.partitions {
                pipe.cmd("XLEN").arg(shared.names.stream(topic, partition).as_str());
            }
        }
        let mut lengths = shared.link.all("topics", &pipe).await?.into_iter();
        let info = index.topics.iter().map(|(topic, record)| {
            let here = lengths.by_ref().take(record.partitions as usize);
            TopicInfo { name: topic.clone(), events: here.map(|length| count(&length)).sum() }
        });
        Ok(info.collect())
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let shared = &self.shared;
        shared.check_open("groups")?;
        let index = Index::load(&shared.link, &shared.names).await?;
        let mut found = Vec::with_capacity(index.groups.len());
        for (name, record) in &index.groups {
            found.push(info_of(shared, &index, name, record).await?);
        }
        Ok(found)
    }

    async fn declare_group(&self, spec: GroupSpec) -> Result<()> {
        self.shared.check_open("declare group")?;
        let mut options = SubscribeOptions::group(spec.name.clone(), spec.topics.iter().cloned());
        options.start = spec.start.clone();
        options.buffer = spec.buffer;
        options.on_full = spec.on_full;
        options.lanes = spec.lanes;
        self.shared.capabilities.check_subscribe(&options)?;
        self.shared.declare(&spec).await.map(drop)
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        let shared = &self.shared;
        shared.check_open("delete group")?;
        let index = Index::load(&shared.link, &shared.names).await?;
        let Some(record) = index.groups.get(group) else { return Ok(false) };
        if live_members(shared, group).await? > 0 {
            let message = "the group has live members: close them first";
            let error = Error::new(ErrorKind::Conflict, "delete group", message);
            return Err(error.with("group", group));
        }
        let mut pipe = Pipeline::new();
        pipe.cmd("HDEL").arg(&shared.names.groups).arg(group.as_str());
        pipe.cmd("INCR").arg(&shared.names.version);
        pipe.cmd("XADD").arg(&shared.names.changes).arg("MAXLEN").arg("~").arg(64);
        pipe.arg("*").arg("deleted").arg(group.as_str());
        pipe.cmd("DEL").arg(shared.names.members(group)).arg(shared.names.wake(group));
        for (topic, known) in index.topics.iter().filter(|(topic, _)| record.takes(topic)) {
            for partition in 0..known.partitions {
                let stream = shared.names.stream(topic, partition);
                let extras = Companions::of(&stream, group);
                pipe.cmd("XGROUP").arg("DESTROY").arg(stream.as_str()).arg(group.as_str());
                pipe.cmd("DEL").arg(&extras.lease).arg(&extras.fence).arg(&extras.retry);
                pipe.arg(&extras.state).arg(&extras.delay).arg(format!("{}..body", extras.delay));
                pipe.cmd("ZREM").arg(&shared.names.due).arg(&extras.delay);
            }
        }
        // A stream that never was answers with an error, and there is nothing to destroy.
        let answers = shared.link.run(&pipe).await;
        answers.map_err(|e| crate::error::from_driver("delete group", e, true))?;
        Ok(true)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        self.shared.check_open("dead letters")?;
        letters::read(&self.shared, filter).await
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        self.shared.check_open("settle dead letter")?;
        letters::settle(&self.shared, id, verdict).await
    }

    async fn cancel(&self, id: &EventId) -> Result<bool> {
        self.shared.check_open("cancel")?;
        let mut call = Lua::Cancel.call(1);
        call.arg(&self.shared.names.scheduled).arg(id.to_string());
        let cancelled = self.shared.link.one("cancel", call).await?;
        Ok(int_of(&cancelled) == Some(1))
    }
}

fn count(value: &Value) -> u64 {
    int_of(value).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

async fn live_members(shared: &Shared, group: &Group) -> Result<usize> {
    let mut call = Lua::Presence.call(2);
    call.arg(shared.names.members(group)).arg(&shared.names.version).arg("").arg(0);
    let answer = array_of(shared.link.one("groups", call).await?).unwrap_or_default();
    Ok(answer.first().map_or(0, |members| usize::try_from(count(members)).unwrap_or(usize::MAX)))
}

async fn info_of(
    shared: &Shared,
    index: &Index,
    group: &Group,
    record: &GroupRecord,
) -> Result<GroupInfo> {
    let mut info = GroupInfo {
        name: group.clone(),
        topics: record.patterns(),
        members: live_members(shared, group).await?,
        lag: 0,
        in_flight: 0,
        dropped: 0,
    };
    let mut pipe = Pipeline::new();
    let mut streams = Vec::new();
    for (topic, known) in index.topics.iter().filter(|(topic, _)| record.takes(topic)) {
        for partition in 0..known.partitions {
            let stream = shared.names.stream(topic, partition).to_string();
            let extras = Companions::of(&stream, group);
            pipe.cmd("XINFO").arg("GROUPS").arg(&stream);
            pipe.cmd("XINFO").arg("GROUPS").arg(&extras.retry);
            pipe.cmd("ZCARD").arg(&extras.delay);
            pipe.cmd("ZCARD").arg(delay_of(&stream));
            streams.push((stream, extras.retry));
        }
    }
    let answers = shared.link.run(&pipe).await;
    let answers = answers.map_err(|e| crate::error::from_driver("groups", e, true))?;
    let mut answers = answers.into_iter();
    for (stream, retry) in streams {
        for stream in [stream, retry] {
            // A stream that never was answers with an error, and holds nothing.
            let progress = answers.next().and_then(|answer| progress_of(answer, group));
            if let Some(progress) = progress {
                info.in_flight += progress.pending;
                info.lag += match progress.lag {
                    Some(lag) => lag,
                    None => count_after(&shared.link, &stream, &progress.delivered).await?,
                };
            }
        }
        let delayed = answers.by_ref().take(2);
        info.lag += delayed.map(|delayed| count(&delayed)).sum::<u64>();
    }
    Ok(info)
}

/// How far a group is on one stream.
struct Progress {
    pending: u64,
    /// Absent where the server cannot tell.
    lag: Option<u64>,
    delivered: String,
}

fn progress_of(answer: Value, group: &Group) -> Option<Progress> {
    for entry in array_of(answer)? {
        let mut progress = Progress { pending: 0, lag: None, delivered: "0-0".to_owned() };
        let mut is_it = false;
        let mut parts = array_of(entry)?.into_iter();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            match bytes_of(name)?.as_slice() {
                b"name" => is_it = text_of(value).as_deref() == Some(group.as_str()),
                b"pending" => progress.pending = count(&value),
                b"lag" => progress.lag = int_of(&value).map(|_| count(&value)),
                b"last-delivered-id" => progress.delivered = text_of(value).unwrap_or_default(),
                _ => {}
            }
        }
        if is_it {
            return Some(progress);
        }
    }
    None
}

/// Counts the entries after an id, where the server cannot tell: after a deletion, or for a group that
/// began in the middle.
async fn count_after(link: &Link, stream: &str, id: &str) -> Result<u64> {
    const PAGE: usize = 1_000;
    let mut counted = 0;
    let mut after = id.to_owned();
    loop {
        let mut range = redis::cmd("XRANGE");
        range.arg(stream).arg(format!("({after}")).arg("+").arg("COUNT").arg(PAGE);
        let page = array_of(link.one("groups", range).await?).unwrap_or_default();
        counted += page.len() as u64;
        let Some(last) = page.into_iter().next_back() else { return Ok(counted) };
        let id = array_of(last).and_then(|mut entry| text_of(entry.swap_remove(0)));
        let Some(id) = id else { return Ok(counted) };
        after = id;
    }
}
