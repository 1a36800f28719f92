//! Switches that break one guarantee each, for tests that show that the suite notices.

use crate::config::RabbitMqConfig;

/// A guarantee that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    not(feature = "mutants"),
    expect(unreachable_pub, reason = "public with the feature `mutants` only")
)]
pub enum Mutant {
    /// Acknowledges a delivery as it is read.
    AckEarly,
    /// Publishes without the mandatory flag.
    NoMandatory,
    /// Lets the ladder of delays drop what dies in the wrong moment.
    AtMostOnceDelay,
    /// Hands a queue over with `basic.cancel`.
    HandOverByCancel,
    /// Leaves the alternate exchange of groups out.
    NoAlternateExchange,
    /// Closes a channel right after its acknowledgements.
    NoBarrier,
    /// Sends acknowledgements only when there are many, and closes without waiting for them or for
    /// confirms.
    NoFlushOnClose,
}

impl Mutant {
    /// Never without the feature `mutants`.
    pub(crate) fn is_on(self, config: &RabbitMqConfig) -> bool {
        cfg!(feature = "mutants") && config.mutant == Some(self)
    }
}
