//! How many partitions topics are divided into.

use crate::topic::{Pattern, Topic};

/// Into how many partitions the topics of a system are divided, by the first rule that fits.
///
/// A rule is what a channel of the configuration says, so a rule without a number ends the search all
/// the same: its topics have the broker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionRules(Vec<(Vec<Pattern>, Option<u32>)>);

impl PartitionRules {
    /// Adds a rule behind those that are there.
    pub fn add(&mut self, topics: impl IntoIterator<Item = Pattern>, partitions: Option<u32>) {
        self.0.push((topics.into_iter().collect(), partitions.map(|number| number.max(1))));
    }

    /// The partitions of a topic; nothing where no rule says a number.
    #[must_use]
    pub fn of_topic(&self, topic: &Topic) -> Option<u32> {
        let fits = |(patterns, _): &&(Vec<Pattern>, _)| patterns.iter().any(|p| p.matches(topic));
        self.0.iter().find(fits)?.1
    }

    /// The partitions of a group that takes these topics, where partitions belong to groups; nothing
    /// where no rule covers all of them with a number.
    #[must_use]
    pub fn of_group(&self, topics: &[Pattern]) -> Option<u32> {
        let covered = |own: &[Pattern], topic: &Pattern| own.iter().any(|p| p.covers(topic));
        let fits = |(patterns, _): &&(Vec<Pattern>, _)| {
            !topics.is_empty() && topics.iter().all(|topic| covered(patterns, topic))
        };
        self.0.iter().find(fits)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_decides_also_when_it_has_no_number() {
        let mut rules = PartitionRules::default();
        rules.add([pattern("orders.vip"), pattern("refunds.#")], None);
        rules.add([pattern("orders.#")], Some(16));
        rules.add([pattern("#")], Some(0));
        let of = |topic| rules.of_topic(&Topic::from_static(topic));
        assert_eq!((of("orders.placed"), of("orders.vip"), of("other")), (Some(16), None, Some(1)));
        assert_eq!(rules.of_group(&[pattern("orders.*")]), Some(16));
        assert_eq!(rules.of_group(&[pattern("orders.vip"), pattern("refunds.*")]), None);
        assert_eq!(rules.of_group(&[pattern("orders.*"), pattern("refunds.*")]), Some(1));
        assert_eq!(PartitionRules::default().of_topic(&Topic::from_static("a")), None);
    }
}
