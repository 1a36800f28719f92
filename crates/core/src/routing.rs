//! The decision where one event goes.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

use crate::attributes::Attributes;

/// Where one event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Stays in this process.
    Local,
    /// Goes to the remote broker.
    Remote,
    /// Goes to the remote broker, and to this process's broadcast subscribers at once.
    Both,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Both => "both",
        })
    }
}

/// A route and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The route.
    pub route: Route,
    /// The reason, such as `type OrderPlaced is in routing.local_types`.
    pub reason: Cow<'static, str>,
}

impl Decision {
    /// A decision and its reason.
    #[must_use]
    pub fn new(route: Route, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { route, reason: reason.into() }
    }
}

/// What a strategy may know beside the event's attributes: a snapshot, taken before the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteContext {
    /// Whether the remote broker works, as far as is known.
    pub remote_healthy: bool,
    /// The time of the decision.
    pub now: Timestamp,
    /// The length of the data in bytes, if bytes exist already.
    pub encoded_len: Option<usize>,
}

/// Decides where an event goes.
///
/// Synchronous, and pure in both arguments: the same event in the same context takes the same route,
/// and a decision can be explained without sending anything. Closures implement it. The order of a
/// key holds within one broker; a strategy that can send one key both ways gives up the order
/// between the two.
pub trait RoutingStrategy: Send + Sync + 'static {
    /// Decides the route of one event.
    fn route(&self, attributes: &Attributes, context: &RouteContext) -> Decision;
}

impl<F> RoutingStrategy for F
where
    F: Fn(&Attributes, &RouteContext) -> Decision + Send + Sync + 'static,
{
    fn route(&self, attributes: &Attributes, context: &RouteContext) -> Decision {
        self(attributes, context)
    }
}
