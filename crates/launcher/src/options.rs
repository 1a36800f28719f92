//! What may be chosen about a server.

use std::path::PathBuf;

/// What may be chosen about a server; the default is free ports, a folder of its own and nothing kept.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) port: Option<u16>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) detached: bool,
    pub(crate) native: bool,
    pub(crate) settings: Vec<(String, String)>,
}

impl Options {
    /// The port for clients; 0 is a free one, as without this.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The folder for data, configuration and log, which then outlives the server.
    ///
    /// Data of an earlier run in it is used on.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Lets the server outlive the value and the process that started it.
    ///
    /// [`Server::attach`](crate::Server::attach) finds it again by its directory, which must be given.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Runs it as a process of this machine also where an engine for containers answers, for settings that
    /// name files of this machine.
    #[must_use]
    pub fn native(mut self) -> Self {
        self.native = true;
        self
    }

    /// One more line for the server's own configuration; it wins over what is set otherwise.
    ///
    /// Redis: `maxmemory`, `10mb`. Kafka: `log.retention.ms`, `1000`. RabbitMQ (`rabbitmq.conf`):
    /// `consumer_timeout`, `60000`. PostgreSQL: `max_connections`, `20`.
    ///
    /// For Kafka, a key that begins with `--` is an option of the tool that formats a new node's folder,
    /// and only a native server has it: `--add-scram`, `SCRAM-SHA-256=[name=user,password=secret]`.
    #[must_use]
    pub fn with_setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }
}
