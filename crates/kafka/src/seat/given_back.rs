//! What comes back from a delivery that was handed out, besides its completion.

use trunkline_core::{Event, Result};

use super::{Back, Extras, Seat};

impl Seat {
    pub(crate) fn put_back(&self, token: u64, event: Event, back: Back) -> Result<()> {
        let mut desk = self.desk();
        let outcome = desk.put_back(token, event, back);
        let waker = desk.wake();
        drop(desk);
        self.tell(waker);
        outcome
    }

    /// What a delivery is made of beside its event.
    pub(crate) fn raw(&self, token: u64) -> Result<(Option<Extras>, bool)> {
        let desk = self.desk();
        desk.check(token)?;
        Ok(desk.extras(token))
    }
}
