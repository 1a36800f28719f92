//! What has been handled without a gap, where a broker counts deliveries.

use std::collections::VecDeque;

/// Deliveries of one partition, by numbers that ascend: which one is the last of those that are handled
/// without a gap?
#[derive(Debug, Default)]
pub struct Track {
    /// The number of the first in `handled`.
    first: u64,
    handled: VecDeque<bool>,
}

impl Track {
    /// Adds a delivery; a number that was left out needs no handling.
    pub fn add(&mut self, number: u64) {
        if self.handled.is_empty() {
            self.first = number;
        }
        let length = number.saturating_sub(self.first);
        self.handled.resize(usize::try_from(length).unwrap_or(usize::MAX), true);
        self.handled.push_back(false);
    }

    /// Notes that a delivery was handled.
    pub fn done(&mut self, number: u64) {
        let at = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(handled) = self.handled.get_mut(at) {
            *handled = true;
        }
    }

    /// The last number of those that are handled without a gap, if there are new ones since the last call.
    pub fn advance(&mut self) -> Option<u64> {
        let before = self.first;
        while self.handled.front() == Some(&true) {
            self.handled.pop_front();
            self.first += 1;
        }
        (self.first > before).then(|| self.first - 1)
    }
}
