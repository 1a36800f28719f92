//! What the hybrid does where a side cannot take an event.

use std::fmt;
use std::str::FromStr;

use trunkline_core::{Error, ErrorKind, Result};

/// The configuration of a [`HybridBroker`](crate::HybridBroker).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HybridConfig {
    /// What happens to an event for the remote broker while that cannot be reached.
    pub on_remote_down: OnRemoteDown,
    /// What happens to an event for the local broker that nobody there takes.
    pub on_no_local_subscriber: OnNoLocalSubscriber,
}

impl HybridConfig {
    /// Sets what happens while the remote broker cannot be reached.
    #[must_use]
    pub fn with_on_remote_down(mut self, choice: OnRemoteDown) -> Self {
        self.on_remote_down = choice;
        self
    }

    /// Sets what happens to a local event that nobody local takes.
    #[must_use]
    pub fn with_on_no_local_subscriber(mut self, choice: OnNoLocalSubscriber) -> Self {
        self.on_no_local_subscriber = choice;
        self
    }
}

/// What happens to an event for the remote broker while that cannot be reached.
///
/// Only an event that the remote broker certainly did not take is sent elsewhere; one whose outcome
/// is unknown is an error of class ambiguous whatever is chosen here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRemoteDown {
    /// The publisher gets the error. The default: nothing goes where it was not meant to go.
    #[default]
    Fail,
    /// The event goes to the local broker, which is counted and logged: only this process sees it.
    Local,
}

impl fmt::Display for OnRemoteDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "fail",
            Self::Local => "local",
        })
    }
}

impl FromStr for OnRemoteDown {
    type Err = Error;

    /// Reads the value of `routing.on_remote_down`.
    ///
    /// # Errors
    /// `Unsupported` for `spill`, which needs an outbox; `Invalid` for any other word.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |kind, message: &'static str| Err(Error::new(kind, "configure", message));
        match text {
            "fail" => Ok(Self::Fail),
            "local" => Ok(Self::Local),
            "spill" => refuse(
                ErrorKind::Unsupported,
                "`routing.on_remote_down = \"spill\"` needs an outbox, which this version lacks: \
                 choose \"fail\" or \"local\"",
            ),
            _ => {
                refuse(ErrorKind::Invalid, "`routing.on_remote_down` is one of \"fail\", \"local\"")
            }
        }
    }
}

/// What happens to an event for the local broker that no local group or subscriber takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnNoLocalSubscriber {
    /// The event goes to the remote broker, which is counted. The default: it may have takers there.
    #[default]
    Remote,
    /// The publisher gets the `Unroutable` of the local broker.
    Error,
}
