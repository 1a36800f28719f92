//! Waiting for news on streams, on a connection of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Pipeline, Value};

use crate::broker::Shared;
use crate::codec::{EntryId, streams_of};
use crate::link::{Link, backoff};

/// How long one wait blocks: the longest that a close may have to wait for it.
const BLOCK: Duration = Duration::from_millis(1_000);

type Waiting = Pin<Box<dyn Future<Output = Result<Vec<Value>, redis::RedisError>> + Send>>;

/// A plain read that takes nothing: it only tells that there is something. What is read for good is
/// read by a script, which a member that has lost its partition cannot run.
pub(crate) struct Waiter {
    /// It blocks, so nothing else goes through it.
    link: Arc<Link>,
    commands: Arc<Link>,
    /// A plain read takes nothing, so it may be dropped. The lock only lets others borrow the member.
    waiting: Mutex<Option<Waiting>>,
    watched: BTreeSet<String>,
    failures: u32,
}

impl Waiter {
    pub(crate) fn new(shared: &Shared) -> Self {
        let patience = BLOCK + shared.config.response_timeout.min(Duration::from_secs(2));
        let link = Link::new(&shared.config, patience, &shared.vitals);
        Self {
            link: Arc::new(link),
            commands: Arc::clone(&shared.consume),
            waiting: Mutex::default(),
            watched: BTreeSet::new(),
            failures: 0,
        }
    }

    /// Whether a wait is under way.
    pub(crate) fn is_waiting(&mut self) -> bool {
        self.waiting().is_some()
    }

    fn waiting(&mut self) -> &mut Option<Waiting> {
        self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets ready to wait for what comes after these ids; a wait that knows all of the streams goes on.
    pub(crate) async fn watch<'a>(&mut self, streams: impl Iterator<Item = (&'a str, EntryId)>) {
        let streams: BTreeMap<&str, EntryId> = streams.collect();
        if self.is_waiting() {
            if !streams.keys().all(|stream| self.watched.contains(*stream)) {
                self.unblock().await;
            }
            return;
        }
        self.watched = streams.keys().map(|stream| (*stream).to_owned()).collect();
        let mut pipe = Pipeline::with_capacity(1);
        pipe.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis().to_string());
        pipe.arg("STREAMS");
        for stream in streams.keys() {
            pipe.arg(*stream);
        }
        for id in streams.values() {
            pipe.arg(id.to_string());
        }
        let (link, failures) = (Arc::clone(&self.link), self.failures);
        // Polled by the member itself: a task in between would cost each event a wake-up.
        *self.waiting() = Some(Box::pin(async move {
            if failures > 0 {
                tokio::time::sleep(backoff(failures)).await;
            }
            link.run(&pipe).await
        }));
    }

    /// Ends the wait on the server, so that it comes back without news.
    async fn unblock(&self) {
        let Some(id) = self.link.client_id() else { return };
        let mut command = redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(id);
        // Where it fails the wait ends by itself within a second.
        if let Err(error) = self.commands.one("unblock", command).await {
            tracing::debug!(%error, "a wait was not cut short");
        }
    }

    /// The streams that have something new; none where the wait was over first, and `None` when the
    /// connection failed.
    ///
    /// # Cancel safety
    /// The wait goes on when the call is dropped. It begins when this is called first.
    pub(crate) async fn news(&mut self) -> Option<Vec<String>> {
        let Some(waiting) = self.waiting() else { return pending().await };
        let answer = waiting.await;
        *self.waiting() = None;
        let answer = answer.ok().and_then(|mut values| values.pop());
        let streams = match answer {
            Some(Value::Nil) => Some(Vec::new()),
            Some(Value::ServerError(_)) | None => None,
            Some(answer) => streams_of(answer)
                .map(|streams| streams.into_iter().map(|(stream, _)| stream).collect()),
        };
        self.failures = if streams.is_some() { 0 } else { self.failures + 1 };
        streams
    }
}
