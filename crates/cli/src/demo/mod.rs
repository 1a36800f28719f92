//! `trunkline demo`: events from publish to handler, and a ledger that proves what became of them.
//!
//! `crate::input` reads events, `publish` sends them, `consumers` handle them and write into the `ledger`,
//! `settle` waits, `readback` reads the store, and `report` and `page` say what happened.

mod consumers;
mod kinds;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod page;
mod publish;
mod readback;
mod record;
mod report;
mod scenario;
mod settings;
mod settle;
mod stage;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trunkline::{Assembled, Position};

use self::consumers::Consumers;
use self::page::page;
use self::publish::{Sent, publish_all};
use self::readback::Reader;
use self::report::{ReadBackCounts, Report, Routed};
use self::settings::{Settings, Words};
use self::settle::{Ending, settle};
use self::stage::{Pace, Stage};
use crate::arguments::DemoOptions;
use crate::console::Console;
use crate::exit::Exit;
use crate::input::Source;
use crate::interrupt::Interrupt;
use crate::session::{block_on, refuse, refuse_start};
use crate::terminal::{Chain, Paint, coloured, complain, write_out};

/// Two groups and a broadcast subscriber.
const CONSUMERS: usize = 3;

/// Runs the demo and prints what happened.
pub(crate) fn run(options: &DemoOptions) -> Exit {
    block_on(async {
        let finished = match Box::pin(play(options)).await {
            Ok(report) => report,
            Err(exit) => return exit,
        };
        print(&finished, options.json)
    })
}

fn print(report: &Report, as_json: bool) -> Exit {
    let out = io::stdout();
    let text = if as_json {
        match serde_json::to_string(report) {
            Ok(line) => line + "\n",
            Err(error) => {
                return refuse(Exit::Failed, &format!("cannot write the report: {error}"));
            }
        }
    } else {
        page(report, Paint::new(coloured(&out)))
    };
    write_out(&mut out.lock(), text.as_bytes(), report.exit())
}

async fn play(options: &DemoOptions) -> Result<Report, Exit> {
    let interrupt = Interrupt::listen()
        .map_err(|error| refuse(Exit::Failed, &format!("cannot listen for Ctrl-C: {error}")))?;
    let source = source(options.input.as_deref()).map_err(|e| refuse(Exit::Usage, &e))?;
    let settings = Settings::load(options.config.as_deref())?;
    let words = settings.broker();
    let assembled = Assembled::from_config(&settings.config).await;
    let Assembled { bus, hybrid, .. } = assembled.map_err(|error| refuse_start(&error))?;
    let stage = Arc::new(Stage {
        bus,
        hybrid,
        only_route: words.only_route(),
        promise: settings.promise(),
        ledger: Arc::default(),
        console: Arc::new(Console::new(source.name.clone(), source.total, "settled")),
        interrupt,
        pace: Pace::new(options.rate),
    });
    let mut report = perform(&stage, source, &settings, words, options.concurrency).await;
    // Whatever happened, the broker is closed and the folder removed.
    if let Err(error) = stage.bus.close(settings.config.bus.close_timeout).await {
        stage.console.trouble(&format!("the bus did not close cleanly: {}", Chain(&error)));
    }
    if let Ok(report) = &mut report {
        report.details.troubled = stage.console.is_troubled();
    }
    drop(stage);
    if let Some(folder) = settings.folder
        && let Err(error) = folder.close()
    {
        complain(&format!("warning: the demo's temporary folder stays behind: {error}"));
    }
    report
}

/// The file, standard input, or the built-in scenario.
fn source(path: Option<&Path>) -> Result<Source, String> {
    let Some(path) = path else {
        let events = scenario::events().map_err(|error| Chain(&error).to_string())?;
        return Ok(Source::made("the order-fulfilment scenario", events));
    };
    Source::open(path)
}

async fn perform(
    stage: &Arc<Stage>,
    source: Source,
    settings: &Settings,
    words: Words,
    concurrency: u16,
) -> Result<Report, Exit> {
    let typed = source.is_made();
    let began_at = match stage.bus.store() {
        Some(store) => store.head().await.map_err(|error| refuse_start(&error))?,
        None => Position::START,
    };
    let consumers = Consumers::subscribe(&stage.bus, &stage.ledger, concurrency.into(), typed)
        .await
        .map_err(|error| refuse_start(&error))?;
    let ledger = Arc::clone(&stage.ledger);
    let drawing = stage.console.draw(move || ledger.settlements() / CONSUMERS as u64);
    let items = source.start(settings.config.bus.max_event_bytes);
    let items =
        items.map_err(|error| refuse(Exit::Failed, &format!("cannot start a thread: {error}")))?;
    let sent = publish_all(stage, items).await;
    let ending = settle(stage, &consumers).await.unwrap_or_else(|error| {
        stage.console.trouble(&Chain(&error).to_string());
        Ending::GivenUp
    });
    drop(drawing);
    let mut report = Report { broker: words.kind, store: words.store, ..Report::default() };
    report.details.sides = words.sides;
    report.details.temporary = settings.folder.is_some() && report.store == "sqlite";
    let parties = consumers.parties.clone();
    close(stage, consumers, settings.config.bus.close_timeout).await;
    let last_settled = match ending {
        Ending::Settled(at) => at,
        Ending::GivenUp => stage.ledger.last_settled(),
    };
    report.time(&stage.ledger.timing(), last_settled);
    report.count(parties.into_iter().zip(stage.ledger.totals()));
    say_what_is_missing(stage, &report);
    report.read_back = read_back(stage, &sent, typed, began_at).await;
    fill(&mut report, stage, &sent);
    Ok(report)
}

async fn close(stage: &Stage, consumers: Consumers, deadline: Duration) {
    for trouble in consumers.dissolve(&stage.bus, deadline).await {
        stage.console.trouble(&trouble);
    }
}

/// Names events that somebody lacks, so that they can be looked for.
fn say_what_is_missing(stage: &Stage, report: &Report) {
    const NAMED: usize = 10;
    for (line, consumer, identity) in stage.ledger.missing(NAMED) {
        let name = report.details.parties.get(consumer).map_or("", |(party, _)| &party.name);
        stage.console.say(&format!("lost: line {line} ({identity}) was not settled by {name}"));
    }
}

async fn read_back(stage: &Stage, sent: &Sent, typed: bool, began_at: Position) -> ReadBackCounts {
    let Some(store) = stage.bus.store() else { return ReadBackCounts::default() };
    let (ledger, console) = (&*stage.ledger, &*stage.console);
    let reader = Reader { store: &**store, ledger, console, typed, began_at };
    match reader.read(&sent.streams).await {
        Ok(read) => read.into(),
        Err(error) => {
            console.trouble(&format!("the store cannot be read back: {}", Chain(&error)));
            ReadBackCounts::default()
        }
    }
}

fn fill(report: &mut Report, stage: &Stage, sent: &Sent) {
    let kinds = sent.kinds.all();
    report.published = kinds.iter().map(|kind| kind.published()).sum();
    report.rejected = stage.console.rejected();
    report.interrupted = stage.interrupt.is_asked();
    report.routed = match &stage.hybrid {
        Some(hybrid) => {
            let counters = hybrid.counters();
            Routed {
                routed_local: counters.routed_local,
                routed_remote: counters.routed_remote,
                routed_both: counters.routed_both,
            }
        }
        None => Routed::all(stage.only_route, report.published),
    };
    let details = &mut report.details;
    details.source = stage.console.source().to_owned();
    details.kinds = kinds
        .iter()
        .map(|kind| (kind.event_type.clone(), kind.topic.to_string(), kind.route, kind.published()))
        .collect();
}
