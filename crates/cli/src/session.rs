//! What the verbs that talk to a broker have in common.

use std::path::Path;
use std::time::Duration;

use trunkline::config::{BrokerConfig, Config, StoreConfig};
use trunkline::prelude::*;

use crate::config_check;
use crate::exit::Exit;
use crate::terminal::{Chain, complain};

/// A bus over the broker of a configuration, for one run of the program.
pub(crate) struct Session {
    pub(crate) bus: EventBus,
    pub(crate) config: Config,
}

/// What a verb wants of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To publish to other processes: the store and the channels' groups are part of that.
    Publish,
    /// To receive from other processes.
    Subscribe,
    /// To look, and to change nothing.
    Look,
}

impl Session {
    /// Reads the configuration and starts a bus.
    ///
    /// # Errors
    /// The exit status, after everything that is wrong has been printed.
    pub(crate) async fn open(path: Option<&Path>, purpose: Purpose) -> Result<Self, Exit> {
        let config = configuration(path, purpose)?;
        match EventBus::from_config(&config).await {
            Ok(bus) => Ok(Self { bus, config }),
            Err(error) => Err(refuse_start(&error)),
        }
    }

    /// Closes the bus cleanly; a close that fails is a failure.
    pub(crate) async fn close(self, exit: Exit) -> Exit {
        match self.bus.close(self.close_timeout()).await {
            Ok(()) => exit,
            Err(error) => refuse(Exit::Failed, &format!("no clean close: {}", Chain(&error))),
        }
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        self.config.bus.close_timeout
    }
}

/// The configuration as the purpose needs it.
///
/// # Errors
/// The exit status, after everything that is wrong has been printed.
pub(crate) fn configuration(path: Option<&Path>, purpose: Purpose) -> Result<Config, Exit> {
    let mut config = Config::check(path).map_err(|problems| {
        config_check::complain(&problems);
        Exit::Usage
    })?;
    if purpose != Purpose::Publish {
        config.store = StoreConfig::None;
        config.channels.iter_mut().for_each(|channel| channel.consumers.clear());
    }
    if purpose != Purpose::Look {
        let outer = config.broker.outer().clone();
        if outer.is_memory() {
            return Err(refuse(Exit::Usage, NOBODY));
        }
        config.broker = BrokerConfig::Single(outer);
    }
    Ok(config)
}

const NOBODY: &str = "the broker is in memory: its events stay within one process, so that no other \
    program can publish to it or receive from it; set `broker.type`, or `broker.remote.type` of a \
    hybrid, to `redis`, `kafka` or `rabbitmq`, or see `trunkline demo`";

/// Says why nothing can be done.
pub(crate) fn refuse(exit: Exit, text: &str) -> Exit {
    complain(&format!("error: {text}"));
    exit
}

/// A wrong configuration is the person's to mend; everything else is a failure.
pub(crate) fn refuse_start(error: &Error) -> Exit {
    let exit = match error.kind() {
        ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::Invalid => Exit::Usage,
        _ => Exit::Failed,
    };
    refuse(exit, &Chain(error).to_string())
}

/// Runs the work of a verb.
pub(crate) fn block_on(work: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => refuse(Exit::Failed, &format!("cannot start the runtime: {error}")),
    }
}
