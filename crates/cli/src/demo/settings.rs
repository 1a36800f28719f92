//! The configuration of a run.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use tempfile::TempDir;
use trunkline::config::{BrokerConfig, ChannelConfig, Config};
use trunkline::{Order, Pattern, Route};

use super::scenario::LOCAL_TYPE;
use crate::config_check;
use crate::exit::Exit;
use crate::terminal::complain;

/// The configuration of a run, and the folder of its store where that is a temporary one.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) folder: Option<TempDir>,
}

impl Settings {
    /// Reads the file, or makes the demo's own configuration; the environment is laid over either.
    ///
    /// # Errors
    /// The exit status, after everything that is wrong has been printed.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, Exit> {
        let (checked, folder) = match path {
            Some(path) => (Config::check(Some(path)), None),
            None => {
                let folder = tempfile::Builder::new().prefix("trunkline-demo-").tempdir();
                let folder = folder.map_err(|error| {
                    complain(&format!("error: cannot make a folder for the demo's store: {error}"));
                    Exit::Failed
                })?;
                let text = match chooses_broker(std::env::vars_os().map(|(name, _)| name)) {
                    true => store(folder.path()),
                    false => built_in(folder.path()),
                };
                let name = "the demo's own configuration";
                (Config::check_sources(&text, name, std::env::vars_os()), Some(folder))
            }
        };
        match checked {
            Ok(config) => Ok(Self { config, folder }),
            Err(problems) => {
                config_check::complain(&problems);
                Err(Exit::Usage)
            }
        }
    }

    /// The word for the broker, and for both of its sides where it is a hybrid.
    pub(super) fn broker(&self) -> Words {
        let effective = config_check::effective(&self.config);
        let word = |pointer: &str| {
            let word = effective.pointer(pointer).and_then(|word| word.as_str());
            word.unwrap_or("unknown").to_owned()
        };
        let kind = word("/broker/type");
        let sides = matches!(self.config.broker, BrokerConfig::Hybrid(_))
            .then(|| (word("/broker/local/type"), word("/broker/remote/type")));
        Words { kind, sides, store: word("/store/type") }
    }

    /// The channel that applies to consumers of every topic.
    fn channel(&self) -> Option<&ChannelConfig> {
        let all = Pattern::all();
        self.config.channels.iter().find(|channel| channel.topics.iter().any(|t| t.covers(&all)))
    }

    /// What order the consumers can expect.
    pub(super) fn promise(&self) -> Promise {
        match self.channel() {
            Some(channel) if channel.order == Order::None => Promise::None,
            Some(channel) if channel.lanes => Promise::PerKeyAndPriority,
            _ => Promise::PerKey,
        }
    }
}

/// What order is promised to consumers of every topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// That of each key.
    PerKey,
    /// That of each key within a priority.
    PerKeyAndPriority,
    /// None: the channel gives it up.
    None,
}

/// The words of the configuration for what it chose.
#[derive(Debug, Clone)]
pub(super) struct Words {
    /// The broker.
    pub(super) kind: String,
    /// The local and the remote side of a hybrid.
    pub(super) sides: Option<(String, String)>,
    /// The store.
    pub(super) store: String,
}

impl Words {
    /// Where everything goes when there is nothing to decide: a broker in memory is local.
    pub(super) fn only_route(&self) -> Route {
        if self.kind == "memory" { Route::Local } else { Route::Remote }
    }
}

/// Two brokers in memory, so that routes show, and a store in a file.
fn built_in(folder: &Path) -> String {
    format!(
        "[broker]\n\
         type = \"hybrid\"\n\
         [broker.local]\n\
         type = \"memory\"\n\
         [broker.remote]\n\
         type = \"memory\"\n\
         [routing]\n\
         local_types = [\"{LOCAL_TYPE}\"]\n\
         local_from_priority = \"high\"\n\
         default = \"remote\"\n{}",
        store(folder)
    )
}

/// A store in a file.
fn store(folder: &Path) -> String {
    let url = sqlite_url(&folder.join("events.db"));
    format!("[store]\ntype = \"sqlite\"\nurl = \"{url}\"\n")
}

/// Whether the environment says which broker, so that the demo's own has no say.
fn chooses_broker(names: impl Iterator<Item = OsString>) -> bool {
    let mut names = names.map(|name| name.to_string_lossy().to_uppercase());
    names.any(|name| name == "TRUNKLINE__BROKER__TYPE" || name == "TRUNKLINE__BROKER")
}

/// The URL of a file; what a URL or TOML would misread is percent-encoded.
fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                url.push(char::from(*byte));
            }
            byte => write!(url, "%{byte:02X}").unwrap_or_default(),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_configuration_is_valid_and_routes_both_ways() {
        let text = built_in(Path::new("/tmp/a \"b\"/ü"));
        let config = Config::from_str(&text, "built-in").unwrap();
        assert!(config.describe().contains("sqlite:///tmp/a%20%22b%22/%C3%BC/events.db"));
        let settings = Settings { config, folder: None };
        let words = settings.broker();
        assert_eq!((words.kind.as_str(), words.store.as_str()), ("hybrid", "sqlite"));
        assert_eq!(words.sides, Some(("memory".to_owned(), "memory".to_owned())));
        assert_eq!(settings.promise(), Promise::PerKey);
    }

    #[test]
    fn the_channel_of_every_topic_says_which_order_can_be_expected() {
        let promise = |text: &str| {
            let config = Config::from_str(text, "test").unwrap();
            Settings { config, folder: None }.promise()
        };
        assert_eq!(promise("[channels.a]\ntopics = [\"#\"]\norder = \"none\""), Promise::None);
        assert_eq!(promise("[channels.a]\ntopics = [\"a.#\"]\norder = \"none\""), Promise::PerKey);
        let lanes = promise("[channels.a]\ntopics = [\"#\"]\nlanes = true");
        assert_eq!(lanes, Promise::PerKeyAndPriority);
    }
}
