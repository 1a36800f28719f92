//! The runner: properties become tests of a `harness = false` binary.

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use trunkline_core::{Broker, Capabilities, EventStore, Result};
use trunkline_launcher::Kind;

use crate::broker::{self, BrokerConditions, BrokerProperty, Need, QUIET};
use crate::bus;
use crate::failure::{Check, ensure};
use crate::faults::{self, Arena, Lanes, OwnServer};
use crate::fixture::Fixture;
use crate::ground::Ground;
use crate::member::Members;
#[cfg(doc)]
use crate::property::TIME_LIMIT;
use crate::property::{Property, run_alone};
use crate::record::Record;
use crate::store::{self, StoreLimits};

/// The tests of a backend; runs them as `cargo test` does, with its flags and filters.
pub struct Suite {
    trials: Vec<Trial>,
    /// Run after the others, which would take the time that their bounds are about.
    faults: Vec<Trial>,
    skipped: Vec<Skip>,
    may_skip: Vec<&'static str>,
    ground: Arc<Ground>,
    grounds: Vec<Arc<Ground>>,
    clients: Arc<Mutex<()>>,
    server: Arc<OwnServer>,
    members: Members,
    record: Arc<Record>,
}

/// A property that is left out, and what the backend lacks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Skip {
    name: String,
    lacks: &'static str,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skip {}: {}", self.name, self.lacks)
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            trials: Vec::new(),
            faults: Vec::new(),
            skipped: Vec::new(),
            may_skip: Vec::new(),
            ground: Arc::new(Ground::in_process()),
            grounds: Vec::new(),
            clients: Arc::default(),
            server: Arc::default(),
            members: Members::default(),
            record: Arc::default(),
        }
    }
}

impl Suite {
    /// A suite without tests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added from now on runs against a server of this kind.
    ///
    /// The properties of one test binary share it: it is started before the first that needs it and
    /// killed at the end. Each gets its URL and a prefix of its own in its [`BrokerConditions`], and its
    /// broker is closed when it has ended.
    #[must_use]
    pub fn on(mut self, kind: Kind) -> Self {
        self.ground = Arc::new(Ground::on(kind));
        self.grounds.push(Arc::clone(&self.ground));
        self
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

    /// Adds what a broker within this process promises beyond the others, and a bus over it, named
    /// `<label>/in_process/<property>`: its own buffers make publishers wait, values pass by pointer.
    ///
    /// `factory` and `expected` are as in [`Suite::broker`]. A backend on a server has no part in it.
    #[must_use]
    pub fn in_process<B, F, Fut>(self, label: &str, expected: &Capabilities, factory: F) -> Self
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        let mut properties = broker::in_process_properties::<B>();
        properties.extend(bus::in_process_properties::<B>());
        self.half(label, "in_process", properties, expected, factory)
    }

    /// States what this backend may lack. A property that is excused by anything else fails the test
    /// `skips_only_what_it_may`; without a statement, every excuse does.
    #[must_use]
    pub fn may_skip(mut self, needs: &[Need]) -> Self {
        self.may_skip.extend(needs.iter().map(|need| need.name()));
        self
    }

    /// Adds every property about what dies on the way: processes, connections and the server itself,
    /// named `<label>/faults/<property>`.
    ///
    /// `factory` and `expected` are as in [`Suite::broker`]; members in other processes are this test
    /// binary, started again, and use the same factory. Those that kill the server have one of their
    /// own. A broker within this process is excused by name. Each runs once. With the variable
    /// `TRUNKLINE_TEST_ALL` set to 1 each runs in three variations, which differ in when the fault happens,
    /// how often and how long; two about secrets and the one about what is left behind have no such moment.
    #[must_use]
    pub fn faults<B, F, Fut>(mut self, label: &str, expected: &Capabilities, factory: F) -> Self
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        let arena = self.arena(label, expected, Arc::new(factory));
        for property in faults::properties::<B>() {
            let name = format!("{label}/faults/{}", property.name());
            match property.lacking(expected) {
                Some(capability) => self.excuse(&name, capability),
                None => {
                    let arena = arena.clone();
                    let (record, timed) = (Arc::clone(&self.record), name.clone());
                    let check = move || arena.check(&property, |run| record.time(&timed, run));
                    self.add_late(Trial::test(name, move || check().map_err(Failed::from)));
                }
            }
        }
        self
    }

    /// Where fault properties of a label run, and how its members in other processes are made.
    pub(crate) fn arena<B, F, Fut>(
        &mut self,
        label: &str,
        expected: &Capabilities,
        factory: Arc<F>,
    ) -> Arena<B>
    where
        B: Broker,
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        self.members.add(label, Arc::clone(&factory));
        let lanes = Lanes { clients: Arc::clone(&self.clients), server: Arc::clone(&self.server) };
        Arena::new(label, expected, Arc::clone(&self.ground), lanes, factory)
    }

    /// Adds a test that is run after the properties which compete for the same time.
    pub(crate) fn add_late(&mut self, trial: Trial) {
        self.faults.push(trial);
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
            let ground = Arc::clone(&self.ground);
            let make = move |conditions| {
                // Starts the server when this is the first property that needs it.
                let making = ground.place(conditions).map(|placed| factory(placed));
                async move { Ok(ground.prepare(making?.await?, expected)) }
            };
            self.add(label, half, property.into_inner(), lacking, make);
        }
        self
    }

    /// Adds one more test of a backend, such as that its data survives a restart.
    ///
    /// It runs as the properties do: on a runtime of its own, within [`TIME_LIMIT`], or within five times
    /// as long after [`Suite::on`], as it may start a server.
    #[must_use]
    pub fn case<Fut>(mut self, name: &str, check: impl FnOnce() -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Check> + Send + 'static,
    {
        let limit = self.ground.limit();
        let trial = self.trial(name.to_owned(), move || run_alone(limit, check()));
        self.trials.push(trial);
        self
    }

    /// Adds a property, or its name to the excused ones when the subject lacks a capability for it.
    pub(crate) fn add<T, U, C, F, Fut>(
        &mut self,
        label: &str,
        group: &str,
        property: Property<T, C>,
        lacking: Option<&'static str>,
        factory: F,
    ) where
        T: Send + 'static,
        U: Into<T> + Send + 'static,
        C: Clone + Send + 'static,
        F: FnOnce(C) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
    {
        let name = format!("{label}/{group}/{}", property.name());
        if let Some(capability) = lacking {
            self.excuse(&name, capability);
            return;
        }
        let (limit, quiet) = (self.ground.limit(), self.ground.quiet());
        let trial = self.trial(name, move || match quiet {
            Some(quiet) => run_alone(limit, QUIET.scope(quiet, property.checked(factory))),
            None => property.check(factory, limit),
        });
        self.trials.push(trial);
    }

    fn excuse(&mut self, name: &str, lacks: &'static str) {
        self.record.excuse(name, lacks);
        self.skipped.push(Skip { name: name.to_owned(), lacks });
    }

    /// Fails when a property is excused by what nobody said that the backend may lack.
    fn skips_only_what_it_may(&self) -> Check {
        let undue = self.skipped.iter().filter(|skip| !self.may_skip.contains(&skip.lacks));
        let undue: Vec<String> = undue.map(Skip::to_string).collect();
        ensure!(undue.is_empty(), "`may_skip` allows none of these: {}", undue.join("; "));
        Ok(())
    }

    /// A test that writes down how long it took.
    pub(crate) fn trial(
        &self,
        name: String,
        check: impl FnOnce() -> Check + Send + 'static,
    ) -> Trial {
        let record = Arc::clone(&self.record);
        let run = {
            let name = name.clone();
            move || record.time(&name, check).map_err(Failed::from)
        };
        Trial::test(name, run)
    }

    /// Runs what the command line asks for and prints it as `cargo test` does.
    ///
    /// In a process that a property started as a member of a group, it is that member instead.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        if let Some(ended) = self.members.serve() {
            return ended;
        }
        let mut arguments = Arguments::from_args();
        // Properties wait more than they compute; a server computes beside them.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let each = if self.grounds.is_empty() { 4 } else { 2 };
        arguments.test_threads.get_or_insert(each * cores);
        if !arguments.list && !self.skipped.is_empty() {
            for skip in &self.skipped {
                println!("{skip}");
            }
            println!("{} properties are excused", self.skipped.len());
        }
        let skips = self.skips_only_what_it_may();
        let is_due = move || skips.map_err(Failed::from);
        self.trials.push(Trial::test("skips_only_what_it_may", is_due));
        self.trials.append(&mut self.faults);
        let is_whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        self.grounds.iter().for_each(|ground| ground.stop());
        faults::end(&self.server);
        if is_whole && let Err(cause) = self.record.save() {
            eprintln!("the times of the properties cannot be written: {cause}");
        }
        conclusion.exit_code()
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.trials.iter().chain(&self.faults).map(Trial::name);
        f.debug_struct("Suite")
            .field("tests", &names.collect::<Vec<_>>())
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
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
        let skipped: Vec<String> = suite.skipped.iter().map(Skip::to_string).collect();
        assert_eq!(skipped, ["skip paper/boxed/broker/holds: delay"]);
        assert_eq!(suite.trials.len(), 1);
        assert_eq!(suite.trials[0].name(), "paper/value/broker/holds");
        let undue = suite.skips_only_what_it_may().unwrap_err();
        assert!(undue.to_string().contains("skip paper/boxed/broker/holds: delay"), "{undue}");
        let undue = suite.may_skip(&[Need::Cancel]);
        assert!(undue.skips_only_what_it_may().is_err());
        assert_eq!(undue.may_skip(&[Need::Delay]).skips_only_what_it_may(), Ok(()));
    }
}
