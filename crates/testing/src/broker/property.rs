//! A promise of brokers, and what it takes to be put to the test.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use trunkline_core::{Broker, Capabilities, Durability, Result};

use super::{BrokerConditions, Subject};
use crate::failure::Check;
use crate::fixture::Fixture;
use crate::property::Property;

/// A promise of a broker, or of a bus over it, that may need an optional capability.
pub struct BrokerProperty<B> {
    property: Property<Subject<B>, BrokerConditions>,
    needs: &'static [Need],
}

/// What a property needs of a broker that may lack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The capability `delay`.
    Delay,
    /// The capability `priority_lanes`.
    PriorityLanes,
    /// The capability `drop_oldest`.
    DropOldest,
    /// The capability `dead_letters`.
    DeadLetters,
    /// The capability `cancel`.
    Cancel,
    /// A server that other processes reach too, and that can be killed.
    Server,
    /// A server that foreign programs write to, and what they write need be no event.
    ForeignWriter,
}

impl Need {
    /// The name of what `capabilities` lacks of this, if it lacks it.
    #[must_use]
    pub fn missing(self, capabilities: &Capabilities) -> Option<&'static str> {
        let has = match self {
            Self::Delay => capabilities.delay,
            Self::PriorityLanes => capabilities.priority_lanes,
            Self::DropOldest => capabilities.drop_oldest,
            Self::DeadLetters => capabilities.dead_letters,
            Self::Cancel => capabilities.cancel,
            Self::Server | Self::ForeignWriter => capabilities.durability != Durability::Process,
        };
        (!has).then_some(self.name())
    }

    /// What an excuse is printed as.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::PriorityLanes => "priority_lanes",
            Self::DropOldest => "drop_oldest",
            Self::DeadLetters => "dead_letters",
            Self::Cancel => "cancel",
            Self::Server => "server, connection and process faults",
            Self::ForeignWriter => "server faults: bytes of a foreign writer",
        }
    }
}

impl<B: Broker> BrokerProperty<B> {
    pub(crate) fn of(property: Property<Subject<B>, BrokerConditions>) -> Self {
        Self { property, needs: &[] }
    }

    pub(crate) fn under(mut self, conditions: BrokerConditions) -> Self {
        self.property = self.property.under(conditions);
        self
    }

    pub(crate) fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// The name: a sentence with underscores.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.property.name()
    }

    /// What the broker has to be made for.
    #[must_use]
    pub fn conditions(&self) -> &BrokerConditions {
        self.property.conditions()
    }

    /// What a broker of these capabilities lacks for the property, if it lacks anything.
    #[must_use]
    pub fn lacking(&self, capabilities: &Capabilities) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.missing(capabilities))
    }

    /// Puts a fresh broker of `factory` to the test, on a runtime of its own.
    ///
    /// # Errors
    /// A [`crate::Failure`] when the property does not hold, panics or has not ended within `limit`.
    pub fn check<F, Fut, U>(&self, factory: F, limit: Duration) -> Check
    where
        F: FnOnce(BrokerConditions) -> Fut,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
        U: Into<Subject<B>> + Send + 'static,
    {
        self.property.check(factory, limit)
    }

    /// The same, where `patience` is the most that is waited for anything: what is broken is found out
    /// sooner, and still has the time to come as far as its fault.
    ///
    /// # Errors
    /// As [`BrokerProperty::check`].
    pub fn check_with_patience<F, Fut, U>(
        &self,
        factory: F,
        limit: Duration,
        patience: Duration,
    ) -> Check
    where
        F: FnOnce(BrokerConditions) -> Fut,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
        U: Into<Subject<B>> + Send + 'static,
    {
        self.property.check_with_patience(factory, limit, patience)
    }

    pub(crate) fn into_inner(self) -> Property<Subject<B>, BrokerConditions> {
        self.property
    }
}

impl<B> fmt::Debug for BrokerProperty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerProperty").field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// Registers a function as the broker property of its name.
macro_rules! promise {
    ($property:ident) => {
        $crate::broker::BrokerProperty::of($crate::property::property!($property))
    };
}

pub(crate) use promise;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_has_excuses_nothing() {
        let mut capabilities = Capabilities::minimal("paper", Durability::Server);
        capabilities.delay = true;
        assert_eq!(Need::Delay.missing(&capabilities), None);
        assert_eq!(Need::Server.missing(&capabilities), None);
        assert_eq!(Need::Cancel.missing(&capabilities), Some("cancel"));
    }
}
