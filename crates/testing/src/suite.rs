//! The runner: properties become tests of a `harness = false` binary.

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use trunkline_core::{Broker, Capabilities, EventStore, Result};

use crate::broker::{self, BrokerConditions, BrokerProperty, Subject};
use crate::bus;
use crate::failure::Check;
use crate::fixture::Fixture;
use crate::property::{Property, TIME_LIMIT, run_alone};
use crate::store::{self, StoreLimits};

/// The tests of a backend; runs them as `cargo test` does, with its flags and filters.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
    skipped: Vec<String>,
}

impl Suite {
    /// A suite without tests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every property of event stores, named `<label>/store/<property>`.
    ///
    /// `factory` makes a fresh, empty store that keeps to the limits it is given.
    #[must_use]
    pub fn store<S, F, Fut>(mut self, label: &str, factory: F) -> Self
    where
        S: EventStore,
        F: Fn(StoreLimits) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<S>>> + Send + 'static,
    {
        let factory = Arc::new(factory);
        for property in store::properties::<S>() {
            let factory = Arc::clone(&factory);
            // Nothing in the contract of a store is optional.
            self.add(label, "store", property, None, move |limits| factory(limits));
        }
        self
    }

    /// Adds every property of brokers, named `<label>/broker/<property>`.
    ///
    /// `factory` makes a broker of its own for each property, which keeps to the conditions it is
    /// given. `expected` are the capabilities that the broker must declare, no more and no less: a
    /// property that needs another one is excused, by name and counted.
    #[must_use]
    pub fn broker<B, F, Fut>(self, label: &str, expected: &Capabilities, factory: F) -> Self
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        self.half(label, "broker", broker::properties::<B>(), expected, factory)
    }

    /// Adds every property of a bus over such a broker, named `<label>/bus/<property>`.
    ///
    /// `factory` and `expected` are as in [`Suite::broker`].
    #[must_use]
    pub fn bus<B, F, Fut>(self, label: &str, expected: &Capabilities, factory: F) -> Self
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        self.half(label, "bus", bus::properties::<B>(), expected, factory)
    }

    fn half<B, F, Fut>(
        mut self,
        label: &str,
        half: &str,
        properties: Vec<BrokerProperty<B>>,
        expected: &Capabilities,
        factory: F,
    ) -> Self
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        let factory = Arc::new(factory);
        for property in properties {
            let lacking = property.lacking(expected);
            let (factory, expected) = (Arc::clone(&factory), expected.clone());
            let make = move |conditions| {
                let making = factory(conditions);
                async move { Ok(making.await?.map(|broker| Subject::new(broker, expected))) }
            };
            self.add(label, half, property.into_inner(), lacking, make);
        }
        self
    }

    /// Adds one more test of a backend, such as that its data survives a restart.
    ///
    /// It runs as the properties do: on a runtime of its own, within [`TIME_LIMIT`].
    #[must_use]
    pub fn case<Fut>(mut self, name: &str, check: impl FnOnce() -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Check> + Send + 'static,
    {
        let run = move || run_alone(TIME_LIMIT, check()).map_err(Failed::from);
        self.trials.push(Trial::test(name, run));
        self
    }

    /// Adds a property, or its name to the excused ones when the subject lacks a capability for it.
    pub(crate) fn add<T, U, C, F, Fut>(
        &mut self,
        label: &str,
        group: &str,
        property: Property<T, C>,
        lacking: Option<&str>,
        factory: F,
    ) where
        T: Send + 'static,
        U: Into<T> + Send + 'static,
        C: Clone + Send + 'static,
        F: FnOnce(C) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
    {
        let name = format!("{label}/{group}/{}", property.name());
        match lacking {
            Some(capability) => self.skipped.push(format!("skip {name}: {capability}")),
            None => {
                let run = move || property.check(factory, TIME_LIMIT).map_err(Failed::from);
                self.trials.push(Trial::test(name, run));
            }
        }
    }

    /// Runs what the command line asks for and prints it as `cargo test` does.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        // Properties wait more than they compute.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        arguments.test_threads.get_or_insert(4 * cores);
        if !arguments.list && !self.skipped.is_empty() {
            for line in &self.skipped {
                println!("{line}");
            }
            println!("{} properties are excused", self.skipped.len());
        }
        libtest_mimic::run(&arguments, self.trials).exit_code()
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.trials.iter().map(Trial::name);
        f.debug_struct("Suite")
            .field("tests", &names.collect::<Vec<_>>())
            .field("skipped", &self.skipped)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::property::property;

    async fn holds(_subject: u8) -> Check {
        Ok(())
    }

    #[test]
    fn a_property_is_excused_only_by_a_capability_and_by_name() {
        let mut suite = Suite::new();
        let factory = |()| async { Ok(Fixture::new(0_u8)) };
        suite.add::<u8, u8, (), _, _>("paper/value", "broker", property!(holds), None, factory);
        let lacking = Some("delay");
        suite.add::<u8, u8, (), _, _>("paper/boxed", "broker", property!(holds), lacking, factory);
        assert_eq!(suite.skipped, ["skip paper/boxed/broker/holds: delay"]);
        assert_eq!(suite.trials.len(), 1);
        assert_eq!(suite.trials[0].name(), "paper/value/broker/holds");
    }
}
