//! `cargo xtask brokers`: real servers on their usual ports, for people.
//!
//! They outlive this program; what it notes in their folders is how a later call finds them.

use std::path::{Path, PathBuf};

use trunkline_launcher::{Kind, LaunchError, Options, Server};

use crate::workspace::{Failure, Workspace};

/// Where data and logs are kept, unless told otherwise.
const FOLDER: &str = "target/brokers";
/// Tells otherwise.
const FOLDER_VARIABLE: &str = "TRUNKLINE_BROKERS_DIR";

/// What is to be done with which servers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    action: Action,
    kinds: Vec<Kind>,
    /// Instead of the usual one.
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Up,
    Down,
    Kill,
    Restart,
    Status(Form),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// What there is to tell of one server.
#[derive(Debug)]
struct Row {
    kind: Kind,
    url: String,
    /// None while it is down.
    pid: Option<u32>,
    version: String,
}

/// Reads what follows `brokers` on the command line.
pub(crate) fn parse(words: &[String]) -> Result<Order, Failure> {
    let mut words = words.iter();
    let mut action = match words.next().map(String::as_str) {
        Some("up") => Action::Up,
        Some("down") => Action::Down,
        Some("kill") => Action::Kill,
        Some("restart") => Action::Restart,
        Some("status") => Action::Status(Form::Text),
        other => {
            return Err(Failure::new(format!(
                "`brokers` takes up, down, status, kill or restart, not `{}`",
                other.unwrap_or("")
            )));
        }
    };
    let (mut kind, mut port) = (None, None);
    while let Some(word) = words.next() {
        match (word.as_str(), action) {
            ("--json", Action::Status(_)) => action = Action::Status(Form::Json),
            ("--port", Action::Up) => port = Some(parse_port(words.next())?),
            (name, _) if kind.is_none() && !name.starts_with('-') => {
                kind = Some(name.parse::<Kind>().map_err(|error| Failure::new(error.to_string()))?);
            }
            (unknown, _) => {
                return Err(Failure::new(format!(
                    "this `brokers` command does not take `{unknown}`; `cargo xtask help` lists the options"
                )));
            }
        }
    }
    if port.is_some() && kind.is_none() {
        return Err(Failure::new("--port is for one server: name it"));
    }
    let kinds = kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    Ok(Order { action, kinds, port })
}

fn parse_port(word: Option<&String>) -> Result<u16, Failure> {
    let port = word.and_then(|word| word.parse().ok());
    port.ok_or_else(|| Failure::new("--port takes a number up to 65535, or 0 for any that is free"))
}

/// Carries out an order on all its servers, also when one of them fails.
pub(crate) fn run(workspace: &Workspace, order: &Order) -> Result<(), Failure> {
    let folder = std::env::var_os(FOLDER_VARIABLE)
        .map_or_else(|| workspace.path(FOLDER), |told| workspace.path(PathBuf::from(told)));
    let (text, failure) = carry_out(&folder, order);
    print!("{text}");
    failure.map_or(Ok(()), Err)
}

/// What to print, and what went wrong.
fn carry_out(folder: &Path, order: &Order) -> (String, Option<Failure>) {
    // At the same time: together they take as long as the slowest alone.
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let steps = order.kinds.iter().map(|kind| scope.spawn(|| step(folder, order, *kind)));
        // All are started before the first is waited for.
        let steps: Vec<_> = steps.collect();
        steps.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(Ok(row)) => rows.extend(row),
            Ok(Err(error)) => failures.push(error.to_string()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let text = match order.action {
        Action::Status(Form::Json) => json(&rows),
        _ => table(&rows),
    };
    (text, (!failures.is_empty()).then(|| Failure::new(failures.join("\n"))))
}

fn step(folder: &Path, order: &Order, kind: Kind) -> Result<Option<Row>, LaunchError> {
    let options = Options::default().with_directory(folder.join(kind.name())).detached();
    let found = Server::attach(kind, &options)?;
    let server = match (order.action, found) {
        (Action::Status(_), found) => found,
        (Action::Up, Some(server)) if server.pid().is_some() => Some(server),
        (Action::Up | Action::Restart, None) | (Action::Up, Some(_)) => {
            let port = order.port.unwrap_or(kind.usual_port());
            Some(Server::start_with(kind, options.with_port(port))?)
        }
        (Action::Restart, Some(server)) => {
            server.restart()?;
            Some(server)
        }
        (Action::Down, Some(server)) => {
            server.stop()?;
            Some(server)
        }
        (Action::Kill, Some(server)) => {
            server.kill()?;
            Some(server)
        }
        // Nothing to end.
        (Action::Down | Action::Kill, None) => None,
    };
    Ok(server.map(|server| Row {
        kind,
        url: server.url(),
        pid: server.pid(),
        version: server.version().to_owned(),
    }))
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no broker was started here; `cargo xtask brokers up` starts them\n".to_owned();
    }
    rows.iter()
        .map(|Row { kind, url, pid, version }| match pid {
            Some(pid) => format!("{kind:<9} up    {version:<8} pid {pid:<8} {url}\n"),
            None => format!("{kind:<9} down  {version:<8} {:<12} {url}\n", ""),
        })
        .collect()
}

fn json(rows: &[Row]) -> String {
    // Names, addresses and versions hold nothing that JSON would want escaped.
    let objects: Vec<_> = rows
        .iter()
        .map(|Row { kind, url, pid, version }| {
            let pid = pid.map_or_else(|| "null".to_owned(), |pid| pid.to_string());
            format!(r#"{{"name":"{kind}","url":"{url}","pid":{pid},"version":"{version}"}}"#)
        })
        .collect();
    format!("[{}]\n", objects.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words).map_err(|failure| failure.to_string())
    }

    fn order(line: &str) -> Order {
        parsed(line).unwrap()
    }

    #[test]
    fn no_name_means_all_of_them() {
        assert_eq!(order("up").kinds, Kind::ALL);
        assert_eq!(order("restart kafka").kinds, [Kind::Kafka]);
        assert_eq!(order("status --json").action, Action::Status(Form::Json));
        assert_eq!(order("up redis --port 7000").port, Some(7000));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (line, reason) in [
            ("", "takes up, down, status, kill or restart"),
            ("start", "not `start`"),
            ("up nats", "there is no server `nats`"),
            ("up --json", "does not take `--json`"),
            ("up --port 7000", "name it"),
            ("up redis --port 70000", "up to 65535"),
            ("up redis kafka", "does not take `kafka`"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn a_server_is_found_by_every_later_call() {
        let folder = Folder::new("life");
        let (text, failure) = carry_out(&folder.0, &order("status"));
        assert!(failure.is_none() && text.contains("no broker was started"), "{text}");

        let up = order("up redis --port 0");
        let shown = folder.done(&up);
        let first = pid(&shown).expect("it runs");
        let url = shown.split_whitespace().last().unwrap();
        assert_eq!(pid(&folder.done(&up)), Some(first), "a second `up` changes nothing");

        let killed = folder.done(&order("kill redis"));
        assert_eq!(pid(&killed), None);
        let second = pid(&folder.done(&order("restart redis"))).expect("it runs again");
        assert_ne!(second, first);

        let json = folder.done(&order("status --json"));
        let start = format!(r#"[{{"name":"redis","url":"{url}","pid":{second},"#);
        assert!(json.starts_with(&start), "{json}");
        assert_eq!(pid(&folder.done(&order("down"))), None);
    }

    #[test]
    fn a_taken_port_is_said_to_be_taken() {
        let folder = Folder::new("taken");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (_, failure) = carry_out(&folder.0, &order(&format!("up redis --port {port}")));
        let error = failure.unwrap().to_string();
        assert!(error.contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
    }

    /// The pid in a line of the table.
    fn pid(text: &str) -> Option<u32> {
        text.split_once("pid ")?.1.split_whitespace().next()?.parse().ok()
    }

    /// A folder of its own whose servers end with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("trunkline-xtask-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn done(&self, order: &Order) -> String {
            let (text, failure) = carry_out(&self.0, order);
            assert!(failure.is_none(), "{failure:?}");
            text
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            carry_out(&self.0, &order("kill"));
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}
