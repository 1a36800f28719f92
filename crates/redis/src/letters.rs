//! Dead letters: read, sent back, discarded.

use redis::Pipeline;
use smol_str::format_smolstr;
use trunkline_core::{
    DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Error, ErrorKind, Group, Result,
    StoredDeadLetter, Topic,
};

use crate::broker::Shared;
use crate::codec::{self, EntryId, Fields, array_of, entry_of, int_of, text_of};
use crate::names::Companions;
use crate::scripts::Lua;

/// Letters read at once.
const PAGE: usize = 1_000;

/// Reads dead letters, oldest first.
pub(crate) async fn read(
    shared: &Shared,
    filter: &DeadLetterFilter,
) -> Result<Vec<StoredDeadLetter>> {
    let mut members = redis::cmd("SMEMBERS");
    members.arg(&shared.names.letters);
    let keys = array_of(shared.link.one("dead letters", members).await?).unwrap_or_default();
    let mut found: Vec<(EntryId, StoredDeadLetter)> = Vec::new();
    for key in keys.into_iter().filter_map(text_of) {
        if may_hold(shared, &key, filter) {
            read_stream(shared, &key, filter, &mut found).await?;
        }
    }
    found.sort_by_key(|(id, _)| *id);
    let letters = found.into_iter().map(|(_, letter)| letter);
    Ok(letters.take(filter.limit.unwrap_or(usize::MAX)).collect())
}

/// Whether the name of a stream of dead letters is one that the filter lets through.
fn may_hold(shared: &Shared, key: &str, filter: &DeadLetterFilter) -> bool {
    let Some((topic, group)) = parts_of(shared, key) else { return false };
    filter.topic.as_ref().is_none_or(|wanted| *wanted == topic)
        && filter.group.as_ref().is_none_or(|wanted| group.as_ref() == Some(wanted))
}

/// The topic and the group of a stream of dead letters.
fn parts_of(shared: &Shared, key: &str) -> Option<(Topic, Option<Group>)> {
    let (stream, group) = shared.names.owner_of(key, "dlq")?;
    Some((shared.names.topic_of(stream)?, group))
}

async fn read_stream(
    shared: &Shared,
    key: &str,
    filter: &DeadLetterFilter,
    found: &mut Vec<(EntryId, StoredDeadLetter)>,
) -> Result<()> {
    let Some((topic, group)) = parts_of(shared, key) else { return Ok(()) };
    let mut left = filter.limit.unwrap_or(usize::MAX);
    let mut start = "-".to_owned();
    while left > 0 {
        let mut range = redis::cmd("XRANGE");
        range.arg(key).arg(&start).arg("+").arg("COUNT").arg(left.min(PAGE));
        let answer = shared.link.one("dead letters", range).await?;
        let page: Vec<_> =
            array_of(answer).unwrap_or_default().into_iter().filter_map(entry_of).collect();
        let Some((last, _)) = page.last() else { break };
        start = format!("({last}");
        left -= page.len();
        for (id, fields) in page {
            if let Some(letter) = stored(&topic, group.as_ref(), id, fields) {
                found.push((id, letter));
            }
        }
    }
    Ok(())
}

fn stored(
    topic: &Topic,
    group: Option<&Group>,
    id: EntryId,
    fields: Fields,
) -> Option<StoredDeadLetter> {
    let letter =
        value_of(&fields, "tl-letter").and_then(|json| serde_json::from_slice(json).ok())?;
    let fields = fields.into_iter().filter(|(name, _)| !name.starts_with(b"tl-")).collect();
    let name = format_smolstr!("{topic}/{}/{id}", group.map_or("", Group::as_str));
    Some(StoredDeadLetter {
        id: DeadLetterId(name),
        group: group.cloned(),
        event: codec::read(fields, topic).event,
        letter,
    })
}

fn value_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let mut pairs = fields.iter();
    pairs.find(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.as_slice())
}

/// Sends a dead letter back, or forgets it.
pub(crate) async fn settle(
    shared: &Shared,
    id: &DeadLetterId,
    verdict: DeadLetterVerdict,
) -> Result<()> {
    let (topic, group, id) = parse(id).ok_or_else(gone)?;
    let letters = shared.names.letters_of(&topic, group.as_ref());
    let call = match verdict {
        DeadLetterVerdict::Discard => {
            let mut forget = redis::cmd("XDEL");
            forget.arg(&letters).arg(id.to_string());
            forget
        }
        DeadLetterVerdict::Redrive => {
            let target = target_of(shared, &letters, &topic, group.as_ref(), id).await?;
            let wake = group.as_ref().map_or_else(|| letters.clone(), |g| shared.names.wake(g));
            let mut call = Lua::Redrive.call(3);
            call.arg(&letters).arg(target).arg(wake).arg(id.to_string());
            call.arg(group.as_ref().map_or("", Group::as_str));
            call
        }
    };
    let settled = shared.link.one("settle dead letter", call).await?;
    if int_of(&settled) == Some(1) { Ok(()) } else { Err(gone()) }
}

/// The stream that a letter goes back through.
async fn target_of(
    shared: &Shared,
    letters: &str,
    topic: &Topic,
    group: Option<&Group>,
    id: EntryId,
) -> Result<String> {
    let id = id.to_string();
    let mut pipe = Pipeline::with_capacity(2);
    pipe.cmd("XRANGE").arg(letters).arg(&id).arg(&id);
    match group {
        Some(group) => pipe.cmd("HEXISTS").arg(&shared.names.groups).arg(group.as_str()),
        None => pipe.cmd("EXISTS").arg(&shared.names.subscribers),
    };
    let mut answers = shared.link.all("settle dead letter", &pipe).await?.into_iter();
    let entry = answers.next().and_then(array_of).and_then(|found| found.into_iter().next());
    let (_, fields) = entry.and_then(entry_of).ok_or_else(gone)?;
    let text =
        |name| value_of(&fields, name).and_then(|value| String::from_utf8(value.to_vec()).ok());
    let is_there = answers.next().as_ref().and_then(int_of) == Some(1);
    match group {
        Some(group) if is_there => {
            let stream =
                text("tl-stream").unwrap_or_else(|| shared.names.stream(topic, 0).to_string());
            Ok(Companions::of(&stream, group).retry)
        }
        Some(_) => Err(consumer_gone()),
        None => {
            let name = text("tl-subscriber").ok_or_else(gone)?;
            let mut score = redis::cmd("ZSCORE");
            score.arg(&shared.names.subscribers).arg(&name);
            match shared.link.one("settle dead letter", score).await? {
                redis::Value::Nil => Err(consumer_gone()),
                _ => Ok(shared.names.inbox(&name)),
            }
        }
    }
}

fn parse(id: &DeadLetterId) -> Option<(Topic, Option<Group>, EntryId)> {
    let mut parts = id.0.split('/');
    let topic = Topic::new(parts.next()?).ok()?;
    let group = match parts.next()? {
        "" => None,
        name => Some(Group::new(name).ok()?),
    };
    Some((topic, group, EntryId::parse(parts.next()?.as_bytes())?))
}

fn gone() -> Error {
    let message = "there is no such dead letter: it was redriven or discarded before";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}

fn consumer_gone() -> Error {
    let message = "the group or subscriber that gave the event up is gone: discard the dead letter, or \
                   make the group again";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}
