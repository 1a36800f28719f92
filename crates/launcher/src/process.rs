//! A server process, the shell that looks after it, and signals.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{LaunchError, Result};
use crate::recipe::Recipe;

/// Looks after one server; the helper, if any, ends with it.
///
/// It tells the pid, then waits: for its input to end (`owned`, which also happens when the process
/// that holds the other end is killed), or for the server to end (`detached`). A line on its input means
/// that the owner wants the server ended and keeps the folder. When this shell is gone, both are gone with
/// their ports, and then whatever else is in its group goes.
const KEEPER: &str = r#"
mode=$1 log=$2 remove=$3 helper=$4; shift 4
if [ -n "$helper" ]; then
    $helper >>"$log" 2>&1 &
    helper=$!
fi
"$@" >>"$log" 2>&1 &
server=$!
echo "$server"
exec >/dev/null 2>&1
if [ "$mode" = detached ]; then
    wait "$server"
    remove= server=
elif read -r word; then
    remove=
fi
kill -s KILL $server $helper
wait
[ -z "$remove" ] || rm -rf "$remove"
kill -s KILL 0
"#;

/// How long a signalled process may take before it is an error.
const END_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whether a server ends with the process that started it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime<'a> {
    /// It does, and this folder with it.
    Owned { remove: Option<&'a Path> },
    /// It stays until somebody ends it.
    Detached,
}

/// A server process that was started.
#[derive(Debug)]
pub(crate) struct Run {
    process: Process,
    keeper: Keeper,
}

#[derive(Debug)]
enum Keeper {
    Child {
        shell: Child,
        /// Its end of file is what ends the server.
        leash: Option<ChildStdin>,
    },
    /// Of a server that another process started.
    Stranger(Process),
}

impl Run {
    /// Starts a server, whose output goes to `log`.
    pub(crate) fn start(recipe: &Recipe, log: &Path, lifetime: Lifetime<'_>) -> Result<Self> {
        let (mode, remove) = match lifetime {
            Lifetime::Owned { remove } => ("owned", remove),
            Lifetime::Detached => ("detached", None),
        };
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh", mode]).arg(log).arg(remove.unwrap_or(Path::new("")));
        command.arg(recipe.helper.as_deref().unwrap_or(""));
        command.arg(&recipe.program).args(&recipe.arguments);
        command.envs(recipe.environment.iter().map(|(key, value)| (key, value)));
        command.current_dir(&recipe.folder).process_group(0);
        if let Some((user, group)) = recipe.user {
            command.uid(user).gid(group);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.stdin(match lifetime {
            Lifetime::Owned { .. } => Stdio::piped(),
            Lifetime::Detached => Stdio::null(),
        });
        let mut shell = command.spawn().map_err(LaunchError::io("cannot start `sh`"))?;
        let leash = shell.stdin.take();
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(LaunchError::io("cannot read from `sh`"))?;
        }
        let Ok(pid) = line.trim().parse() else {
            return Err(LaunchError::new(format!(
                "{} did not start; its log ends with:\n{}",
                recipe.program.display(),
                tail(log)
            )));
        };
        Ok(Self { process: Process::now(pid), keeper: Keeper::Child { shell, leash } })
    }

    /// A server that another process started, as that one's [`Run::processes`] told.
    pub(crate) fn found([process, keeper]: [Process; 2]) -> Self {
        Self { process, keeper: Keeper::Stranger(keeper) }
    }

    /// The server and its keeper.
    pub(crate) fn processes(&self) -> [Process; 2] {
        let keeper = match &self.keeper {
            Keeper::Child { shell, .. } => Process::now(shell.id()),
            Keeper::Stranger(keeper) => keeper.clone(),
        };
        [self.process.clone(), keeper]
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Ends whatever is left, the shell and the helper too. Files stay.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.process.lives() {
            self.process.kill()?;
        }
        match &mut self.keeper {
            Keeper::Child { shell, leash } => {
                if let Some(mut leash) = leash.take() {
                    // A shell that is gone already has nothing left to end.
                    leash.write_all(b"keep\n").ok();
                }
                shell.wait().map_err(LaunchError::io("cannot wait for the server's shell"))?;
                Ok(())
            }
            Keeper::Stranger(keeper) => keeper.wait_for_end(END_LIMIT),
        }
    }
}

/// A process, told apart from a later one with the same pid by when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In the system's ticks since boot; 0 when it was gone before it could be read.
    pub(crate) began: u64,
}

impl Process {
    fn now(pid: u32) -> Self {
        Self { pid, began: Stat::of(pid).map_or(0, |stat| stat.began) }
    }

    /// Whether it still runs; one that ended and was not waited for does not.
    pub(crate) fn lives(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.began == self.began && !stat.ended)
    }

    /// SIGKILL for the process and its children, then waits until they are gone.
    pub(crate) fn kill(&self) -> Result<()> {
        let family = self.family();
        self.signal("KILL")?;
        for process in &family {
            process.wait_for_end(END_LIMIT)?;
        }
        Ok(())
    }

    /// A signal for the process and its children.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        for process in self.family() {
            process.send(name)?;
        }
        Ok(())
    }

    /// A signal for the process alone.
    pub(crate) fn send(&self, name: &str) -> Result<()> {
        // The shell has it built in, whatever packages a machine lacks.
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &self.pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .map_err(LaunchError::io("cannot start `sh`"))?;
        if sent.success() || !self.lives() {
            return Ok(());
        }
        Err(LaunchError::new(format!("cannot send SIG{name} to process {}", self.pid)))
    }

    pub(crate) fn wait_for_end(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.lives() {
            if start.elapsed() > limit {
                return Err(LaunchError::new(format!(
                    "process {} still runs {} s after the signal to end",
                    self.pid,
                    limit.as_secs()
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// This process and everything below it; it comes first.
    fn family(&self) -> Vec<Self> {
        let all: Vec<_> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, Stat::of(pid)?)))
            .collect();
        let mut family = Vec::new();
        let mut next = VecDeque::from([self.clone()]);
        while let Some(parent) = next.pop_front() {
            let children = all.iter().filter(|(_, stat)| stat.parent == parent.pid && !stat.ended);
            next.extend(children.map(|(pid, stat)| Self { pid: *pid, began: stat.began }));
            if parent.lives() {
                family.push(parent);
            }
        }
        family
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    ended: bool,
    parent: u32,
    began: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name that may hold blanks and brackets; the rest follows its last bracket.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads: u32 = fields.nth(15)?.parse().ok()?;
        let began = fields.nth(1)?.parse().ok()?;
        // The first thread of a killed Java machine is gone before the others, which still hold its ports.
        let ended = matches!(state, "Z" | "X") && threads <= 1;
        Some(Self { ended, parent, began })
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let Ok(file) = File::open(log) else {
        return format!("(no log at {})", log.display());
    };
    let mut last = VecDeque::with_capacity(LINES);
    for line in BufReader::new(file).split(b'\n').map_while(std::result::Result::ok) {
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    last.make_contiguous().join("\n")
}
