//! `trunkline publish --ndjson`: events from a file or a pipe.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;
use tokio::sync::mpsc;
use trunkline::Identity;

use super::batch::Batch;
use crate::arguments::PublishOptions;
use crate::console::Console;
use crate::exit::Exit;
use crate::input::{Item, Source};
use crate::interrupt::Interrupt;
use crate::session::{Purpose, Session, refuse};
use crate::terminal::{complain, write_out};

/// The most events of one batch: enough that a round trip to the server is shared by many.
const BATCH: usize = 256;
/// How many identities are remembered, to tell a line that repeats one: a pipe may never end.
const REMEMBERED: usize = 1_000_000;

pub(super) async fn publish(path: &Path, options: &PublishOptions) -> Exit {
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return refuse(Exit::Failed, &format!("cannot listen for Ctrl-C: {error}")),
    };
    let source = match Source::open(path) {
        Ok(source) => source,
        Err(reason) => return refuse(Exit::Usage, &reason),
    };
    let session = match Session::open(options.config.as_deref(), Purpose::Publish).await {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let console = Arc::new(Console::new(source.name.clone(), source.total, "published"));
    let mut run = Run { session, interrupt, console, published: Arc::default(), ended: None };
    let began = Instant::now();
    match source.start(run.session.config.bus.max_event_bytes) {
        Ok(items) => run.publish_all(items).await,
        Err(error) => run.fail(&format!("cannot start a thread: {error}")),
    }
    let exit = run.report(began, options.json);
    run.session.close(exit).await
}

struct Run {
    session: Session,
    interrupt: Interrupt,
    console: Arc<Console>,
    published: Arc<AtomicU64>,
    /// Why the run ends before the input does.
    ended: Option<Exit>,
}

impl Run {
    async fn publish_all(&mut self, mut items: mpsc::Receiver<Item>) {
        let counter = Arc::clone(&self.published);
        let _drawing = self.console.draw(move || counter.load(Ordering::Relaxed));
        let mut known = Known::default();
        while self.ended.is_none() {
            let first = tokio::select! {
                biased;
                () = self.interrupt.asked() => {
                    self.ended = Some(Exit::Interrupted);
                    return;
                }
                first = items.recv() => first,
            };
            let Some(first) = first else { return };
            let mut batch = Batch::default();
            self.take(first, &mut known, &mut batch);
            // What has been read already goes along; what has not is not waited for.
            while batch.events.len() < BATCH
                && self.ended.is_none()
                && let Ok(item) = items.try_recv()
            {
                self.take(item, &mut known, &mut batch);
            }
            self.send(batch).await;
        }
    }

    fn take(&mut self, item: Item, known: &mut Known, batch: &mut Batch) {
        match item {
            Item::Event { line, event } => {
                let identity = event.attributes().identity();
                if known.add(&identity) {
                    batch.add(line, event);
                } else {
                    let reason = format!(
                        "the identity {identity} was on an earlier line: an id is used once per \
                         source"
                    );
                    self.console.reject(line, &reason);
                }
            }
            Item::Invalid { line, reason } => self.console.reject(line, &reason),
            Item::Broken(error) => {
                let name = self.console.source().to_owned();
                self.fail(&format!("cannot read {name} to its end: {error}"));
            }
        }
    }

    async fn send(&mut self, batch: Batch) {
        if batch.events.is_empty() {
            return;
        }
        let outcome = batch.publish(&self.session.bus, &self.interrupt).await;
        self.published.fetch_add(outcome.accepted, Ordering::Relaxed);
        for (line, reason) in outcome.refused {
            self.console.reject(line, &reason);
        }
        if let Some(reason) = outcome.given_up {
            self.fail(&format!("{reason}; the rest of the input is left out"));
        }
    }

    fn fail(&mut self, reason: &str) {
        self.console.trouble(reason);
        self.ended = Some(Exit::Failed);
    }

    fn report(&self, began: Instant, as_json: bool) -> Exit {
        let published = self.published.load(Ordering::Relaxed);
        let rejected = self.console.rejected();
        let exit = match self.ended {
            Some(exit) => exit,
            None if rejected > 0 => Exit::Rejected,
            None => Exit::Fine,
        };
        if !as_json {
            complain(&format!("published {published}, rejected {rejected}"));
            return exit;
        }
        let seconds = began.elapsed().as_secs_f64();
        // Far fewer events than a float counts exactly.
        let rate = (published as f64 / seconds).round();
        let interrupted = self.ended == Some(Exit::Interrupted);
        let report = json!({
            "published": published,
            "rejected": rejected,
            "events_per_s": rate,
            "interrupted": interrupted,
        });
        write_out(&mut io::stdout().lock(), format!("{report}\n").as_bytes(), exit)
    }
}

/// The identities of the newest lines.
#[derive(Debug, Default)]
struct Known {
    all: HashSet<Identity>,
    in_order: VecDeque<Identity>,
}

impl Known {
    /// Remembers an identity; whether it is new.
    fn add(&mut self, identity: &Identity) -> bool {
        if !self.all.insert(identity.clone()) {
            return false;
        }
        self.in_order.push_back(identity.clone());
        if self.in_order.len() > REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.all.remove(&oldest);
        }
        true
    }
}
