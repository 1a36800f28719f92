//! A server that is owned by a value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::docker::{self, Container};
use crate::error::{LaunchError, Result};
use crate::folder;
use crate::kind::Kind;
use crate::native::{Native, record_path};
use crate::options::Options;
use crate::ports::Ports;

/// A server of its own, that ends and takes its files with it when this is dropped.
///
/// All methods take `&self` and may be called from several threads; each waits for the one before.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: u16,
    version: String,
    proxied: Proxied,
    /// Where to remember it, when it outlives this value.
    record: Option<PathBuf>,
    host: Mutex<Host>,
}

/// Where a proxy in front of a server should listen and what clients then connect to.
///
/// The port is reserved as long as the server lives. Kafka tells clients where to go on, so it
/// has a listener of its own for those that come through the proxy; a proxy at another address would be
/// bypassed.
#[derive(Clone, Debug)]
pub struct Proxied {
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// Where the proxy connects to.
    pub upstream: SocketAddr,
    /// What clients connect to, as [`Server::url`].
    pub url: String,
}

#[derive(Debug)]
enum Host {
    Native(Native),
    Docker(Container),
}

impl Server {
    /// Starts a server on free ports with empty data, and answers once it serves.
    ///
    /// # Errors
    ///
    /// The server or what it runs on is missing and cannot be installed, or it does not serve within
    /// two minutes: then the error holds the end of its log.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, Options::default())
    }

    /// Starts a server as the options say, and answers once it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start`]; also when a chosen port is taken, or a detached server has no directory.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are made for one call, as with a builder"
    )]
    pub fn start_with(kind: Kind, options: Options) -> Result<Self> {
        if options.detached && options.directory.is_none() {
            return Err(LaunchError::new(
                "a detached server needs a directory, or nobody finds it again",
            ));
        }
        let ports = Ports::reserve(options.port)?;
        let (host, version) = if !options.native && docker::wanted()? {
            let (container, version) = Container::start(kind, &options, ports)?;
            (Host::Docker(container), version)
        } else {
            let (native, version) = Native::start(kind, &options, ports)?;
            (Host::Native(native), version)
        };
        let server = Self::new(kind, version, &options, host);
        server.remember()?;
        Ok(server)
    }

    /// The detached server that was started in the directory of these options, running or not.
    ///
    /// # Errors
    ///
    /// The options name no directory, or what was noted there cannot be read.
    pub fn attach(kind: Kind, options: &Options) -> Result<Option<Self>> {
        let Some(folder) = &options.directory else {
            return Err(LaunchError::new("a server is found by its directory: name it"));
        };
        let path = record_path(folder);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(LaunchError::io(format!("cannot read {}", path.display())))?,
        };
        let options = options.clone().detached();
        let found = match text.split_once(' ') {
            Some(("native", rest)) => Native::found(kind, &options, folder.clone(), rest)
                .map(|(native, version)| (Host::Native(native), version)),
            Some(("docker", rest)) => Container::found(kind, rest)
                .map(|(container, version)| (Host::Docker(container), version)),
            _ => None,
        };
        let (host, version) = found.ok_or_else(|| {
            LaunchError::new(format!("{} is damaged; end the server and remove it", path.display()))
        })?;
        Ok(Some(Self::new(kind, version, &options, host)))
    }

    fn new(kind: Kind, version: String, options: &Options, host: Host) -> Self {
        let ports = host.ports();
        let upstream = if kind == Kind::Kafka { &ports.behind_proxy } else { &ports.main };
        let proxied = Proxied {
            listen: ports.proxy.address(),
            upstream: upstream.address(),
            url: kind.url(ports.proxy.number()),
        };
        let port = ports.main.number();
        let folder = options.directory.as_deref().filter(|_| options.detached);
        let record = folder.map(record_path);
        Self { kind, port, version, proxied, record, host: Mutex::new(host) }
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a client connects to, with the credentials that the server knows.
    #[must_use]
    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// The port for clients, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that serves; none while it is down.
    ///
    /// For RabbitMQ this is the Erlang machine, and with docker the process as the host sees it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &*self.host() {
            Host::Native(native) => native.pid(),
            Host::Docker(container) => container.pid(),
        }
    }

    /// The version, as the server itself says; Kafka says none, so it is the version that was started.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The addresses for a proxy in front of it.
    #[must_use]
    pub fn proxied(&self) -> Proxied {
        self.proxied.clone()
    }

    /// SIGKILL, as in a crash; the data stays. Returns once the process is gone.
    ///
    /// # Errors
    ///
    /// The signal could not be sent.
    pub fn kill(&self) -> Result<()> {
        match &*self.host() {
            Host::Native(native) => native.kill(),
            Host::Docker(container) => container.kill(),
        }
    }

    /// SIGSTOP: connections stay open, and nobody answers.
    ///
    /// # Errors
    ///
    /// The server does not run, or the signal could not be sent.
    pub fn pause(&self) -> Result<()> {
        match &*self.host() {
            Host::Native(native) => native.signal("STOP"),
            Host::Docker(container) => container.pause(),
        }
    }

    /// SIGCONT, after [`Server::pause`].
    ///
    /// # Errors
    ///
    /// The server does not run, or the signal could not be sent.
    pub fn resume(&self) -> Result<()> {
        match &*self.host() {
            Host::Native(native) => native.signal("CONT"),
            Host::Docker(container) => container.resume(),
        }
    }

    /// Starts it again on the same ports and data; one that still runs is stopped first. Returns once it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&self) -> Result<()> {
        match &mut *self.host() {
            Host::Native(native) => native.restart()?,
            Host::Docker(container) => container.restart()?,
        };
        self.remember()
    }

    /// A clean stop; the data stays for [`Server::restart`]. Returns once the process is gone.
    ///
    /// # Errors
    ///
    /// The signal could not be sent, or the server did not end within a minute.
    pub fn stop(&self) -> Result<()> {
        match &mut *self.host() {
            Host::Native(native) => native.stop(),
            Host::Docker(container) => container.stop(),
        }
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        // A panic elsewhere leaves no half-made change behind: each step is one command.
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a detached server is.
    fn remember(&self) -> Result<()> {
        let Some(path) = &self.record else { return Ok(()) };
        let text = match &*self.host() {
            Host::Native(native) => {
                native.record(&self.version).map(|record| format!("native {record}"))
            }
            Host::Docker(container) => Some(format!("docker {}", container.record(&self.version))),
        };
        if let Some(folder) = path.parent() {
            folder::create(folder)?;
        }
        text.map_or(Ok(()), |text| folder::write(path, text))
    }
}

impl Host {
    fn ports(&self) -> &Ports {
        match self {
            Self::Native(native) => native.ports(),
            Self::Docker(container) => container.ports(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.record.is_some() {
            return;
        }
        let ended = match &mut *self.host() {
            Host::Native(native) => native.end(),
            Host::Docker(container) => container.end(),
        };
        if let Err(error) = ended {
            eprintln!("{} at port {} was not cleaned up: {error}", self.kind, self.port);
        }
    }
}
