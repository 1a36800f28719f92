//! What happens when an attempt fails.

use std::time::Duration;

/// How the wait between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backoff {
    /// Always the initial delay.
    Fixed,
    /// The initial delay times the number of failed attempts.
    Linear,
    /// The initial delay, doubled by each failed attempt.
    #[default]
    Exponential,
}

/// How often an event is tried, and how long the waits are.
///
/// The waits keep the event unacknowledged at the head of its key: later events of the key wait,
/// other keys flow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Runs in all, at least 1; after the last failure the event goes to the dead letters.
    pub attempts: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The first wait; zero tries again at once.
    pub initial_delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// Whether a wait is shortened by a random part of up to half, so that failures spread out.
    pub jitter: Jitter,
}

/// Whether waits are spread out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Each wait is between half and all of what the backoff says.
    #[default]
    Half,
    /// Each wait is exactly what the backoff says.
    None,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            // Three runs cure what a lost connection or a deadlock victim needs; more would only
            // keep the key waiting for what needs a person.
            attempts: 3,
            backoff: Backoff::default(),
            // Longer than a lost packet takes to be sent again, too short for a person to notice.
            initial_delay: Duration::from_millis(100),
            // Longer waits belong to delayed redelivery, which holds no key's head.
            max_delay: Duration::from_secs(5),
            jitter: Jitter::default(),
        }
    }
}

impl RetryPolicy {
    /// `attempts` runs in all, without waits between them.
    #[must_use]
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, initial_delay: Duration::ZERO, ..Self::default() }
    }

    /// Waits between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff, initial: Duration, max: Duration) -> Self {
        self.backoff = backoff;
        self.initial_delay = initial;
        self.max_delay = max;
        self
    }

    /// Sets whether waits are spread out.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The wait after `failed` failed attempts; `random` is from 0 to 1 and spreads it.
    #[must_use]
    pub fn delay(&self, failed: u32, random: f64) -> Duration {
        let initial = self.initial_delay;
        let full = match self.backoff {
            Backoff::Fixed => initial,
            Backoff::Linear => initial.saturating_mul(failed.max(1)),
            Backoff::Exponential => {
                let doublings = failed.saturating_sub(1).min(31);
                initial.saturating_mul(1 << doublings)
            }
        };
        let full = full.min(self.max_delay);
        match self.jitter {
            Jitter::None => full,
            Jitter::Half => full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0),
        }
    }
}

/// What happens to an event whose type no handler of its group takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnhandled {
    /// It is acknowledged and counted.
    #[default]
    Ack,
    /// It goes to the dead letters.
    DeadLetter,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> RetryPolicy {
        let (initial, max) = (Duration::from_millis(100), Duration::from_millis(350));
        RetryPolicy::default().with_backoff(backoff, initial, max).with_jitter(Jitter::None)
    }

    #[test]
    fn waits_grow_as_their_backoff_says_up_to_the_longest() {
        let millis = |backoff| [1, 2, 3, 40].map(|n| policy(backoff).delay(n, 0.0).as_millis());
        assert_eq!(millis(Backoff::Fixed), [100, 100, 100, 100]);
        assert_eq!(millis(Backoff::Linear), [100, 200, 300, 350]);
        assert_eq!(millis(Backoff::Exponential), [100, 200, 350, 350]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let policy = policy(Backoff::Fixed).with_jitter(Jitter::Half);
        assert_eq!(policy.delay(1, 0.0), Duration::from_millis(100));
        assert_eq!(policy.delay(1, 1.0), Duration::from_millis(50));
    }
}
