//! A server that runs as a process of this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{LaunchError, Result};
use crate::folder;
use crate::kind::Kind;
use crate::options::Options;
use crate::ports::{Port, Ports};
use crate::probe;
use crate::process::{Lifetime, Process, Run, tail};
use crate::recipe::{self, Place};

/// How long a server may take to serve; RabbitMQ takes a quarter of a minute on an idle machine.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long a clean end may take before it is an error.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A server that runs as a process of this machine.
#[derive(Debug)]
pub(crate) struct Native {
    kind: Kind,
    folder: PathBuf,
    /// Whether the folder is left behind.
    kept: bool,
    detached: bool,
    settings: Vec<(String, String)>,
    ports: Ports,
    /// The signal that ends it cleanly.
    stop: &'static str,
    run: Option<Run>,
}

impl Native {
    pub(crate) fn start(kind: Kind, options: &Options, ports: Ports) -> Result<(Self, String)> {
        let folder = match &options.directory {
            Some(folder) => std::path::absolute(folder)
                .map_err(LaunchError::io(format!("{} is no path", folder.display())))?,
            None => {
                let own = folder::scratch()?.join(format!("{kind}-{}", ports.main.number()));
                // What an earlier server left that had the same port, which is ours alone now.
                folder::remove(&own)?;
                own
            }
        };
        folder::create(&folder)?;
        let mut server = Self {
            kind,
            folder,
            kept: options.directory.is_some(),
            detached: options.detached,
            settings: options.settings.clone(),
            ports,
            stop: "TERM",
            run: None,
        };
        match server.launch() {
            Ok(version) => Ok((server, version)),
            Err(error) => {
                server.end()?;
                Err(error)
            }
        }
    }

    /// The server that a detached start left in this folder, running or not.
    pub(crate) fn found(
        kind: Kind,
        options: &Options,
        folder: PathBuf,
        record: &str,
    ) -> Option<(Self, String)> {
        let mut words = record.split_whitespace();
        let mut process = || {
            let (pid, began) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Process { pid, began })
        };
        let processes = [process()?, process()?];
        let stop = if words.next()? == "INT" { "INT" } else { "TERM" };
        let version = words.next()?.to_owned();
        let ports: Vec<u16> = words.filter_map(|word| word.parse().ok()).collect();
        let server = Self {
            kind,
            folder,
            kept: true,
            detached: true,
            settings: options.settings.clone(),
            ports: Ports::known(ports.try_into().ok()?).ok()?,
            stop,
            run: Some(Run::found(processes)),
        };
        Some((server, version))
    }

    /// What [`Native::found`] reads.
    pub(crate) fn record(&self, version: &str) -> Option<String> {
        let processes = self.run.as_ref()?.processes();
        let processes = processes.map(|process| format!("{} {}", process.pid, process.began));
        let ports = self.ports.numbers().map(|number| number.to_string()).join(" ");
        Some(format!("{} {} {version} {ports}", processes.join(" "), self.stop))
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let process = self.run.as_ref()?.process();
        process.lives().then_some(process.pid)
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.run.as_ref().map_or(Ok(()), |run| run.process().kill())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        match self.run.as_ref().map(Run::process) {
            Some(process) if process.lives() => process.signal(name),
            _ => Err(LaunchError::new(format!("{} does not run: restart it first", self.kind))),
        }
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let process = run.process();
        if process.lives() {
            // A paused server would not take the other signal.
            process.signal("CONT")?;
            process.send(self.stop)?;
            process.wait_for_end(STOP_LIMIT)?;
        }
        Ok(())
    }

    /// Starts it again on the same data and ports, and answers once it serves.
    pub(crate) fn restart(&mut self) -> Result<String> {
        self.stop()?;
        self.launch()
    }

    /// Ends it at once; the folder goes unless it is kept.
    pub(crate) fn end(&mut self) -> Result<()> {
        if let Some(run) = self.run.take() {
            run.finish()?;
        }
        if self.kept { Ok(()) } else { folder::remove(&self.folder) }
    }

    fn launch(&mut self) -> Result<String> {
        if let Some(run) = self.run.take() {
            run.finish()?;
        }
        // Somebody else may have taken it while the server was down; its own message would be in the log only.
        Port::chosen(self.ports.main.number()).map(drop)?;
        let place = Place { folder: &self.folder, ports: &self.ports, settings: &self.settings };
        let recipe = recipe::prepare(self.kind, place)?;
        self.stop = recipe.stop;
        let log = self.folder.join("server.log");
        let lifetime = match (self.detached, self.kept) {
            (true, _) => Lifetime::Detached,
            (false, kept) => Lifetime::Owned { remove: (!kept).then_some(self.folder.as_path()) },
        };
        let run = self.run.insert(Run::start(&recipe, &log, lifetime)?);
        serving(self.kind, self.ports.main.number(), || {
            if run.process().lives() {
                return Ok(());
            }
            Err(format!("it ended; its log ends with:\n{}", tail(&log)))
        })
        .map_err(|why| match why {
            Silence::Ended(why) => LaunchError::new(format!("{} did not start: {why}", self.kind)),
            Silence::TooLong(last) => LaunchError::new(format!(
                "{} does not serve after {} s ({last}); its log ends with:\n{}",
                self.kind,
                START_LIMIT.as_secs(),
                tail(&log)
            )),
        })
    }
}

/// Why a server was not heard of.
pub(crate) enum Silence {
    Ended(String),
    /// With what the last attempt met.
    TooLong(String),
}

/// Asks until the server serves and answers its version, or until `alive` says that there is no point.
pub(crate) fn serving(
    kind: Kind,
    port: u16,
    alive: impl Fn() -> Result<(), String>,
) -> Result<String, Silence> {
    let start = Instant::now();
    loop {
        // Before the question: another program may answer in the place of one that has ended.
        alive().map_err(Silence::Ended)?;
        match probe::version(kind, port) {
            Ok(version) => return Ok(version),
            Err(error) if start.elapsed() > START_LIMIT => {
                return Err(Silence::TooLong(error.to_string()));
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Where a detached server is remembered.
pub(crate) fn record_path(folder: &Path) -> PathBuf {
    folder.join("server.run")
}
