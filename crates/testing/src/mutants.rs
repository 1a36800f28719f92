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
    /// property fails with the `broken` factory, in words that hold those beside its name, and holds
    /// with the `sound` one. Any other failure is not the fault's: a time limit, a broker that cannot be
    /// made, a server that does not start.
    #[must_use]
    pub fn mutant<B, S, SFut, M, MFut>(
        mut self,
        label: &str,
        expected: &Capabilities,
        sound: S,
        broken: M,
        properties: &'static [(&'static str, &'static str)],
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
        for (property, words) in properties {
            let (broken, sound) = (broken.clone(), sound.clone());
            let trial = self.trial(format!("{label}/{property}"), move || {
                is_found_out(property, words, check(&broken, property))?;
                check(&sound, property).map_err(|failure| {
                    Failure::new(format!("a sound broker fails {property}: {failure}"))
                })
            });
            self.add_late(trial);
        }
        self
    }
}

/// Fails unless a property has failed of the fault, and says so in these words.
fn is_found_out(property: &str, words: &str, checked: Check) -> Check {
    match checked {
        Ok(()) => Err(Failure::new(format!("the mutant passes {property}"))),
        Err(failure) if failure.is_unmade() => {
            Err(failure.after(format_args!("{property} was not put to the test: ")))
        }
        Err(failure) if failure.to_string().contains(words) => {
            println!("{property} found the mutant out: {failure}");
            Ok(())
        }
        Err(failure) => {
            let text = format!("{property} fails, but not with `{words}`: {failure}");
            Err(Failure::new(text))
        }
    }
}

fn check<B: Broker>(arena: &Arena<B>, property: &str) -> Check {
    let unknown = || Failure::unmade(Failure::new(format!("there is no property `{property}`")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_failure_finds_a_mutant_out() {
        let found = |checked| is_found_out("broker/order", "came twice", checked);
        assert_eq!(found(Err(Failure::new("number 3 came twice"))), Ok(()));
        assert!(found(Ok(())).is_err());
        assert!(found(Err(Failure::new("it has not ended after 30s"))).is_err());
        let unmade = found(Err(Failure::unmade(Failure::new("number 3 came twice")))).unwrap_err();
        assert!(unmade.to_string().contains("was not put to the test"), "{unmade}");
    }
}
