//! The configuration: a TOML file, overlaid by the environment.
//!
//! Every key can come from the environment as `TRUNKLINE__SECTION__KEY`, with two underscores
//! between levels and in any case: `TRUNKLINE__BROKER__REMOTE__TYPE`,
//! `TRUNKLINE__CHANNELS__SECURITY__BUFFER_SIZE`. The value is a TOML value (`5`, `true`,
//! `["orders.#"]`), and what is none is a string. A variable replaces the whole value of its key in
//! the file; a `-` in a channel's name is written `_`, and channels that only the environment has
//! come after those of the file, by name.
//!
//! `TRUNKLINE__SECTION__KEY_FILE` names a file whose text, less line ends at its end, is the value:
//! for secrets. There is no such key in the configuration file itself. A key that is given both
//! ways is an error.
//!
//! Nothing is ignored: an unknown key, a wrong type, a key that does not fit the chosen type and
//! what this version does not do are all problems, each with its key and its place.
//!
//! ```
//! use trunkline::config::Config;
//!
//! let text = "[channels.orders]\ntopics = [\"orders.#\"]\nbufer_size = 10\n";
//! let error = Config::from_str(text, "app.toml").unwrap_err();
//! assert!(error.to_string().contains(
//!     "app.toml:3:1: channels.orders.bufer_size: unknown key; did you mean `buffer_size`?"
//! ));
//! ```

mod broker;
mod bus;
mod channel;
mod describe;
mod env;
mod kafka;
mod nearest;
mod problem;
mod property;
mod rabbitmq;
mod read;
mod redis;
mod retry;
mod routing;
mod server;
mod store;
mod tree;
mod url;

use std::ffi::OsString;
use std::path::Path;

use trunkline_core::{PartitionRules, Result, Topic};

pub use broker::{BackendConfig, BrokerConfig, HybridConfig, MemoryConfig};
pub use bus::BusConfig;
pub use channel::{ChannelConfig, OnFailure};
pub use kafka::{KafkaConfig, PartitionStrategy};
pub use problem::{Location, Problem};
pub use property::{Properties, PropertyValue};
pub use rabbitmq::{Declare, ExchangeType, QueueType, RabbitMqConfig};
pub use redis::RedisConfig;
pub use retry::RetryConfig;
pub use routing::{OnNoLocalSubscriber, OnRemoteDown, RoutingConfig, RuleConfig};
pub use server::ServerConfig;
pub use store::{RetentionConfig, SqliteConfig, StoreConfig};
pub use trunkline_bus::{Backoff, OnUnhandled};
pub use url::Url;

use describe::Page;
use problem::Problems;
use read::Section;

/// The name of a configuration that has no file, in problems.
const NO_FILE: &str = "configuration";

/// Everything that can be configured; the default is a bus in memory without a store.
///
/// `Debug` hides the passwords of URLs.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `[bus]`: what holds whatever the broker is.
    pub bus: BusConfig,
    /// `[broker]`: what moves the events.
    pub broker: BrokerConfig,
    /// `[routing]`: which of a hybrid's two brokers takes an event.
    pub routing: RoutingConfig,
    /// `[store]`: what keeps the events.
    pub store: StoreConfig,
    /// `[channels.<name>]`, in file order: the first whose patterns match a topic is its channel.
    pub channels: Vec<ChannelConfig>,
}

impl Config {
    /// Reads the file, if there is one to read, and lays this process's environment over it.
    ///
    /// # Errors
    /// `Config` when the file cannot be read or anything in it or in the environment is wrong; the
    /// text names every problem with its key and place.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        Self::check(path).map_err(|problems| problem::to_error(&problems))
    }

    /// Reads the file alone, without the environment.
    ///
    /// # Errors
    /// `Config`, as [`Config::load`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let read = read_file(path.as_ref());
        let checked = read
            .and_then(|text| Self::check_sources(&text, &path.as_ref().to_string_lossy(), NOTHING));
        checked.map_err(|problems| problem::to_error(&problems))
    }

    /// Reads text alone, without the environment; `name` is the file's name in errors.
    ///
    /// # Errors
    /// `Config`, as [`Config::load`].
    pub fn from_str(text: &str, name: &str) -> Result<Self> {
        Self::from_sources(text, name, NOTHING)
    }

    /// Reads text and lays the given variables over it; `name` is the file's name in errors.
    ///
    /// # Errors
    /// `Config`, as [`Config::load`].
    pub fn from_sources<K, V>(
        text: &str,
        name: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let checked = Self::check_sources(text, name, variables);
        checked.map_err(|problems| problem::to_error(&problems))
    }

    /// Does what [`Config::load`] does and returns the problems one by one.
    ///
    /// # Errors
    /// Every problem that was found; syntax errors hide those of the values.
    pub fn check(path: Option<&Path>) -> Result<Self, Vec<Problem>> {
        let text = path.map(read_file).transpose()?.unwrap_or_default();
        let name = path.map_or(NO_FILE.into(), Path::to_string_lossy);
        Self::check_sources(&text, &name, std::env::vars_os())
    }

    /// Does what [`Config::from_sources`] does and returns the problems one by one.
    ///
    /// # Errors
    /// Every problem that was found; syntax errors hide those of the values.
    pub fn check_sources<K, V>(
        text: &str,
        name: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Vec<Problem>>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let problems = Problems::default();
        let mut root = tree::parse(text, name, &problems);
        if !problems.is_empty() {
            return Err(problems.into_inner());
        }
        env::merge(&mut root, variables, &problems);
        let whole = Location::File { file: name.into() };
        let config = Self::read(Section::root(&root, whole, &problems));
        if problems.is_empty() { Ok(config) } else { Err(problems.into_inner()) }
    }

    fn read(mut section: Section<'_>) -> Self {
        let bus = section.section("bus").map(BusConfig::read).unwrap_or_default();
        let broker = match section.get("broker") {
            Some(item) => item.section().and_then(BrokerConfig::read),
            None => Some(BrokerConfig::default()),
        };
        let routed = section.get("routing");
        if let (Some(BrokerConfig::Single(_)), Some(item)) = (&broker, &routed) {
            item.wrong("there is nothing to route: routes need `broker.type = \"hybrid\"`");
        }
        let routing = routed.and_then(|item| item.section()).map(RoutingConfig::read);
        let store = section.section("store").map(StoreConfig::read).unwrap_or_default();
        let channels = section.section("channels");
        let channels = channels.iter().flat_map(Section::entries);
        let channels = channels.filter_map(|item| ChannelConfig::read(&item)).collect();
        section.finish();
        Self {
            bus,
            broker: broker.unwrap_or_default(),
            routing: routing.unwrap_or_default(),
            store,
            channels,
        }
    }

    /// The channel of a topic: the first, in file order, of which a pattern matches.
    #[must_use]
    pub fn channel_of(&self, topic: &Topic) -> Option<&ChannelConfig> {
        self.channels.iter().find(|channel| channel.takes(topic))
    }

    /// Into how many partitions topics are divided, as the channels say in file order.
    #[must_use]
    pub fn partition_rules(&self) -> PartitionRules {
        let mut rules = PartitionRules::default();
        for channel in &self.channels {
            rules.add(channel.topics.iter().cloned(), channel.partitions);
        }
        rules
    }

    /// The configuration in effect as TOML, with every default written out and passwords hidden.
    ///
    /// What has no value is a comment that says what holds instead. Without a password in it the
    /// text reads back as the same configuration.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut page = Page::new();
        self.bus.describe(&mut page);
        self.broker.describe(&mut page);
        if matches!(self.broker, BrokerConfig::Hybrid(_)) {
            self.routing.describe(&mut page);
        }
        self.store.describe(&mut page);
        for channel in &self.channels {
            channel.describe(&mut page);
        }
        page.into_text()
    }
}

/// An environment without variables.
const NOTHING: [(OsString, OsString); 0] = [];

fn read_file(path: &Path) -> Result<String, Vec<Problem>> {
    let file = || path.to_string_lossy().into();
    let problem = |location, message| vec![Problem { key: String::new(), location, message }];
    let bytes = std::fs::read(path).map_err(|error| {
        problem(Location::File { file: file() }, format!("cannot read the file: {error}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let (line, column) =
            tree::place_after(&String::from_utf8_lossy(&error.as_bytes()[..valid]));
        let at = Location::Place { file: file(), line, column };
        problem(at, "the file is not UTF-8 here".to_owned())
    })
}
