//! The property's side: a member in a process of its own, which can be stopped and killed.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

use super::orders::{Line, Orders, VARIABLE};
use crate::broker::SOON;
use crate::failure::{Check, Failure, ensure};

/// What a member printed, and which member it was.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) member: usize,
    pub(crate) line: Line,
}

/// A member in a process of its own; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct MemberProcess {
    member: usize,
    child: Child,
    pid: String,
    /// When this closes, the member ends at once; to wait for the child would close it.
    _leash: ChildStdin,
}

/// What all members of a property print, in the order in which it came.
#[derive(Debug)]
pub(crate) struct Reports {
    sender: UnboundedSender<Report>,
    receiver: UnboundedReceiver<Report>,
    started: usize,
}

impl Reports {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { sender, receiver, started: 0 }
    }

    /// Starts a member; returns at once, before it has joined.
    pub(crate) fn start(&mut self, orders: &Orders) -> Result<MemberProcess, Failure> {
        let failed = |cause: String| Failure::new(format!("a member does not start: {cause}"));
        let binary = std::env::current_exe().map_err(|cause| failed(cause.to_string()))?;
        let text = serde_json::to_string(orders).map_err(|cause| failed(cause.to_string()))?;
        let mut child = Command::new(binary)
            .env(VARIABLE, text)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| failed(cause.to_string()))?;
        let pid = child.id().ok_or_else(|| failed("it has ended".to_owned()))?.to_string();
        let output = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
        let leash = child.stdin.take().ok_or_else(|| failed("it has no input".to_owned()))?;
        let (member, sender) = (self.started, self.sender.clone());
        self.started += 1;
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(text)) = lines.next_line().await {
                let Some(line) = Line::parse(&text) else { continue };
                if sender.send(Report { member, line }).is_err() {
                    return;
                }
            }
        });
        Ok(MemberProcess { member, child, pid, _leash: leash })
    }

    /// The next line of any member; a member that gave up is a failure.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> Result<Option<Report>, Failure> {
        match timeout(limit, self.receiver.recv()).await {
            Ok(Some(Report { member, line: Line::Failed(text), .. })) => {
                Err(Failure::new(format!("member {member} gave up: {text}")))
            }
            Ok(report) => Ok(report),
            Err(_) => Ok(None),
        }
    }

    /// The lines up to and including the first that `wanted` is about.
    pub(crate) async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Report) -> bool,
    ) -> Result<Vec<Report>, Failure> {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(report) = self.next_within(left).await? else {
                let count = seen.len();
                let message = format!("after {limit:?} and {count} lines still not: {what}");
                return Err(Failure::new(message));
            };
            let found = wanted(&report);
            seen.push(report);
            if found {
                return Ok(seen);
            }
        }
    }
}

impl MemberProcess {
    /// Its number: how many were started before it.
    pub(crate) fn number(&self) -> usize {
        self.member
    }

    async fn signal(&self, name: &str) -> Check {
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &self.pid])
            .status()
            .await;
        let sent = sent.is_ok_and(|status| status.success());
        ensure!(sent, "SIG{name} did not reach member {}", self.member);
        Ok(())
    }

    /// Asks it to leave cleanly.
    pub(crate) async fn terminate(&self) -> Check {
        self.signal("TERM").await
    }

    /// Stops it, as a machine that stands still would.
    pub(crate) async fn stop(&self) -> Check {
        self.signal("STOP").await
    }

    /// Has it end the handlers of what it holds; one that is stopped does so as soon as it goes on.
    pub(crate) async fn let_go(&self) -> Check {
        self.signal("USR1").await
    }

    /// Lets it go on.
    pub(crate) async fn go_on(&self) -> Check {
        self.signal("CONT").await
    }

    /// Ends it without a word.
    pub(crate) async fn kill(mut self) -> Check {
        let killed = self.child.kill().await;
        killed.map_err(|cause| Failure::new(format!("member {} lives: {cause}", self.member)))
    }

    /// Waits until it has ended, which has to be soon and a success.
    pub(crate) async fn ended(mut self) -> Check {
        let member = self.member;
        match timeout(2 * SOON, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::new(format!("member {member} ended with {status}"))),
            Ok(Err(cause)) => Err(Failure::new(format!("member {member} is lost: {cause}"))),
            Err(_) => Err(Failure::new(format!("member {member} has not left after SIGTERM"))),
        }
    }
}
