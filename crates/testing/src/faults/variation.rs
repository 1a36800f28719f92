//! The same property with its fault at another moment.

use std::fmt;
use std::time::Duration;

/// How many variations of each fault property are run where all are asked for.
const ALL: usize = 3;

/// How many variations of each fault property are to be run.
pub(super) fn variations() -> usize {
    let is_all = std::env::var("TRUNKLINE_TEST_ALL").is_ok_and(|value| value == "1");
    if is_all { ALL } else { 1 }
}

/// Which timing of its fault a run of a property has; the first is the one that is always run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Variation(u64);

impl Variation {
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }

    /// How often something dies: once, then two times more in each variation.
    pub(super) fn kills(self) -> u64 {
        1 + 2 * self.0
    }

    /// How many rounds of deaths there are: one, and one more in each variation.
    pub(super) fn rounds(self) -> u64 {
        1 + self.0
    }

    /// `count` in the first variation, more by `step` in each later one: after how many events, or
    /// bytes, something dies.
    pub(super) fn later(self, count: u64, step: u64) -> u64 {
        count + self.0 * step
    }

    /// `span` in the first variation, a fifth of it in the next and three times it in the last: how long
    /// something is away.
    pub(super) fn span(self, span: Duration) -> Duration {
        match self.0 {
            0 => span,
            1 => span / 5,
            _ => 3 * span,
        }
    }
}

/// Nothing for the first, which is the only one of most runs.
impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            number => write!(f, "in its variation {number}: "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variation_has_another_moment() {
        let all: Vec<Variation> = (0..).map(Variation::new).take(ALL).collect();
        let moments = |of: fn(Variation) -> u64| all.iter().map(|v| of(*v)).collect::<Vec<_>>();
        assert_eq!(moments(Variation::kills), [1, 3, 5]);
        assert_eq!(moments(Variation::rounds), [1, 2, 3]);
        assert_eq!(moments(|v| v.later(50, 17)), [50, 67, 84]);
        let span = |v: Variation| v.span(Duration::from_secs(5)).as_secs();
        assert_eq!(moments(span), [5, 1, 15]);
        assert_eq!(all[0].to_string(), "");
    }
}
