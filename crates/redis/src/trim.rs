//! Keeps streams at their length, and never removes what somebody still has to take.

use std::collections::{HashMap, VecDeque};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Pipeline, Value};
use smol_str::SmolStr;
use tokio::sync::watch;
use trunkline_core::Result;

use crate::broker::Shared;
use crate::codec::EntryId;
use crate::index::Stream;
use crate::lock;
use crate::names::readers_of;
use crate::scripts::Lua;

/// How often the streams that this process has published to are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where a stream was when it was looked at before: its last entry was its n-th.
#[derive(Debug, Default)]
struct Marks(VecDeque<(u64, EntryId)>);

pub(crate) async fn run(shared: Weak<Shared>, mut closed: watch::Receiver<bool>) {
    let mut marks: HashMap<SmolStr, Marks> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        let Some(length) = shared.config.max_stream_length else { return };
        if let Err(error) = trim(&shared, length, &mut marks).await {
            tracing::debug!(%error, "streams are trimmed later");
        }
    }
}

async fn trim(shared: &Shared, length: u64, marks: &mut HashMap<SmolStr, Marks>) -> Result<()> {
    let routes = lock(&shared.routes).all();
    let streams = routes.iter().flat_map(|route| &route.streams);
    let streams: Vec<&Stream> =
        streams.filter(|stream| stream.is_touched.swap(false, Ordering::Relaxed)).collect();
    if streams.is_empty() {
        return Ok(());
    }
    let mut pipe = Pipeline::with_capacity(streams.len());
    for stream in &streams {
        pipe.cmd("XINFO").arg("STREAM").arg(stream.name.as_str());
    }
    let answers = shared.link.run(&pipe).await;
    let answers = answers.map_err(|e| crate::error::from_driver("trim", e, true))?;
    let mut pipe = Pipeline::new();
    for (stream, answer) in streams.iter().zip(answers) {
        let Some(state) = State::of(answer) else { continue };
        let marks = marks.entry(stream.name.clone()).or_default();
        let cut = marks.cut(&state, length);
        if state.length <= length {
            continue;
        }
        let mut call = Lua::Trim.call(3);
        call.arg(stream.name.as_str()).arg(readers_of(&stream.name));
        call.arg(&shared.names.subscribers);
        call.arg(cut.map_or_else(String::new, |id| id.to_string())).arg(length);
        pipe.add_command(call);
        // What could not go yet is looked at again, whether or not more is published.
        stream.is_touched.store(true, Ordering::Relaxed);
    }
    shared.link.all("trim", &pipe).await.map(drop)
}

/// What the server says of a stream.
pub(crate) struct State {
    length: u64,
    added: u64,
    pub(crate) last: EntryId,
}

impl State {
    pub(crate) fn of(answer: Value) -> Option<Self> {
        let Value::Array(values) = answer else { return None };
        // The first and last entries stand among the values: only the plain ones are of use.
        let mut state = Self { length: 0, added: 0, last: EntryId::default() };
        for pair in values.chunks_exact(2) {
            let [Value::BulkString(name), value] = pair else { continue };
            let number = crate::codec::int_of(value).and_then(|n| u64::try_from(n).ok());
            match (name.as_slice(), number, value) {
                (b"length", Some(number), _) => state.length = number,
                (b"entries-added", Some(number), _) => state.added = number,
                (b"last-generated-id", _, Value::BulkString(id)) => {
                    state.last = EntryId::parse(id)?;
                }
                _ => {}
            }
        }
        Some(state)
    }
}

impl Marks {
    /// The id before which entries are too many, as far as it is known. Of a stream that nothing was
    /// added to since the last look it is not: no mark is due to come, and the server finds it.
    fn cut(&mut self, state: &State, length: u64) -> Option<EntryId> {
        if self.0.back().is_some_and(|(added, _)| *added == state.added) {
            return None;
        }
        let gone = state.added.saturating_sub(length);
        let known = self.0.partition_point(|(added, _)| *added <= gone);
        let cut = known.checked_sub(1).and_then(|at| self.0.get(at)).map(|(_, id)| *id);
        // All but the newest of those before the cut have served.
        self.0.drain(..known.saturating_sub(1));
        // A server that came back with less begins anew.
        if self.0.back().is_some_and(|(added, _)| *added > state.added) {
            self.0.clear();
        }
        self.0.push_back((state.added, state.last));
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(added: u64) -> State {
        State { length: added, added, last: EntryId { ms: added, seq: 0 } }
    }

    #[test]
    fn the_cut_leaves_at_least_the_length() {
        let mut marks = Marks::default();
        assert_eq!(marks.cut(&state(50), 100), None);
        assert_eq!(marks.cut(&state(120), 100), None);
        // The 50th was the last mark of which more than a hundred follow.
        assert_eq!(marks.cut(&state(170), 100), Some(EntryId { ms: 50, seq: 0 }));
        assert_eq!(marks.cut(&state(300), 100), Some(EntryId { ms: 170, seq: 0 }));
        // Between 170 and 300 no mark will ever come.
        assert_eq!(marks.cut(&state(300), 100), None);
    }
}
