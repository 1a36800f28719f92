//! What a long run says while it runs, on standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::task::JoinHandle;

use crate::terminal::{complain, harmless};

/// How often the progress is drawn: smooth to the eye, and nothing to the processor.
const REDRAW: Duration = Duration::from_millis(100);

/// The bar where the number of events is known, and where it is not.
const KNOWN: &str = "{msg} [{bar:30}] {human_pos}/{human_len}  {rate}  {eta} left";
const UNKNOWN: &str = "{spinner} {msg}  {human_pos} events  {rate}  {elapsed}";

/// Standard error, with a progress bar where that is a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    bar: ProgressBar,
    source: String,
    rejected: AtomicU64,
    troubled: AtomicBool,
}

impl Console {
    /// The console of a run over `source`, which has `total` events if that is known; `done` says what
    /// the bar counts, such as `published`.
    pub(crate) fn new(source: String, total: Option<u64>, done: &'static str) -> Self {
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()),
            false => ProgressBar::hidden(),
        };
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        bar.set_style(style(template));
        bar.set_message(done);
        Self { bar, source, rejected: AtomicU64::new(0), troubled: AtomicBool::new(false) }
    }

    /// What the input is called.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Says that a line of the input is left out, and why.
    pub(crate) fn reject(&self, line: u64, reason: &str) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let source = &self.source;
        self.say(&format!("rejected: line {line} of {source}: {}", harmless(reason)));
    }

    /// How many lines were left out.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Says that the run itself went wrong.
    pub(crate) fn trouble(&self, text: &str) {
        self.troubled.store(true, Ordering::Relaxed);
        self.say(&format!("error: {}", harmless(text)));
    }

    /// Whether the run itself went wrong.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// Says something without tearing the progress bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| complain(text));
    }

    /// Draws the progress, which `done` counts without what was rejected, until the guard is dropped.
    pub(crate) fn draw(
        self: &Arc<Self>,
        done: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Drawing {
        let console = Arc::clone(self);
        let task = (!self.bar.is_hidden()).then(|| {
            tokio::spawn(async move {
                let mut redraw = tokio::time::interval(REDRAW);
                loop {
                    redraw.tick().await;
                    console.bar.set_position(done() + console.rejected());
                    console.bar.tick();
                }
            })
        });
        Drawing { console: Arc::clone(self), task }
    }
}

#[expect(clippy::expect_used, reason = "the templates are fixed, and a test reads both")]
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is one of ours");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // Drawing has no one to tell; the next redraw tries again.
        write!(out, "{:.0}/s", state.per_sec()).unwrap_or_default();
    };
    style.with_key("rate", rate).progress_chars("=> ")
}

/// The progress as it is drawn.
pub(crate) struct Drawing {
    console: Arc<Console>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.console.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_templates() {
        for template in [KNOWN, UNKNOWN] {
            style(template);
        }
    }

    #[test]
    fn a_rejected_line_is_counted_and_no_trouble_of_the_run() {
        let console = Console::new("input".to_owned(), None, "settled");
        console.reject(3, "no event");
        assert_eq!((console.rejected(), console.is_troubled()), (1, false));
        console.trouble("the disk is full");
        assert!(console.is_troubled());
    }
}
