//! Backends that are broken on purpose: a suite that passes them proves nothing.

use std::future::Future;
use std::sync::Arc;

use trunkline_core::{Broker, Capabilities, Result};

use crate::broker::{self, BrokerConditions};
use crate::bus;
use crate::failure::{Check, Failure};
use crate::faults::{self, Arena};
use crate::fixture::Fixture;
use crate::suite::Suite;

impl Suite {
    /// Adds a backend that breaks one guarantee, and the properties that must find it out.
    ///
    /// `properties` are named `broker/<property>`, `bus/<property>` or `faults/<property>`. Each becomes
    /// a test `<label>/<property>`, with a label such as `kafka/mutants/ack_early`, which passes when the
    /// property fails with the `broken` factory and holds with the `sound` one.
    #[must_use]
    pub fn mutant<B, S, SFut, M, MFut>(
        mut self,
        label: &str,
        expected: &Capabilities,
        sound: S,
        broken: M,
        properties: &'static [&'static str],
    ) -> Self
    where
        B: Broker,
        S: Fn(BrokerConditions) -> SFut + Send + Sync + 'static,
        SFut: Future<Output = Result<Fixture<B>>> + Send + 'static,
        M: Fn(BrokerConditions) -> MFut + Send + Sync + 'static,
        MFut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        // Members in other processes have the fault too, so each factory has a label of its own.
        let broken = self.arena(label, expected, Arc::new(broken));
        let sound = self.arena(&format!("{label}/sound"), expected, Arc::new(sound));
        for property in properties {
            let (broken, sound) = (broken.clone(), sound.clone());
            let trial = self.trial(format!("{label}/{property}"), move || {
                match check(&broken, property) {
                    Err(failure) => println!("{property} found the mutant out: {failure}"),
                    Ok(()) => return Err(Failure::new(format!("the mutant passes {property}"))),
                }
                check(&sound, property).map_err(|failure| {
                    Failure::new(format!("a sound broker fails {property}: {failure}"))
                })
            });
            self.add_late(trial);
        }
        self
    }
}

fn check<B: Broker>(arena: &Arena<B>, property: &str) -> Check {
    let unknown = || Failure::new(format!("there is no property `{property}`"));
    let (half, name) = property.split_once('/').ok_or_else(unknown)?;
    if half == "faults" {
        let all = faults::properties::<B>();
        let found = all.iter().find(|known| known.name() == name).ok_or_else(unknown)?;
        return arena.check(found, |run| run());
    }
    let all = match half {
        "broker" => broker::properties::<B>(),
        "bus" => bus::properties::<B>(),
        _ => return Err(unknown()),
    };
    let found = all.into_iter().find(|known| known.name() == name).ok_or_else(unknown)?;
    arena.check_bare(found)
}
