//! What to do when an answer was lost: the server may have given entries that nobody got.

use std::sync::Arc;

use trunkline_core::Result;

use crate::codec::int_of;
use crate::consume::Partition;
use crate::member::Member;
use crate::reader::Whose;
use crate::scripts::Lua;

impl Member {
    /// An answer may be lost that brought entries.
    pub(crate) fn doubt_everything(&mut self) {
        for owned in self.owned.values_mut() {
            owned.doubt.get_or_insert(Whose::Mine);
        }
    }

    /// Takes what the last owner left or what the server has given to this member and the member never
    /// got.
    pub(crate) async fn settle_doubts(&mut self) -> Result<()> {
        let doubtful = self
            .owned
            .values()
            .filter_map(|owned| owned.doubt.map(|whose| (Arc::clone(&owned.partition), whose)));
        for (partition, whose) in doubtful.collect::<Vec<_>>() {
            if !self.renumber(&partition).await? {
                self.lose(partition.id);
                continue;
            }
            self.take_over(&partition, whose, 0).await?;
            if let Some(owned) = self.owned.get_mut(&partition.id) {
                owned.doubt = None;
                owned.is_hot = true;
            }
        }
        Ok(())
    }

    /// A transaction of which nothing was heard may still be on its way to the server, and would give
    /// entries to nobody: another fencing number stops it. Tells whether the lease still holds.
    async fn renumber(&mut self, partition: &Partition) -> Result<bool> {
        if partition.fence.is_empty() {
            return Ok(true);
        }
        let companions = &partition.companions;
        let mut call = Lua::Renumber.call(2);
        call.arg(&companions.lease).arg(&companions.fence).arg(&partition.fence);
        let fence = int_of(&self.shared.consume.one("renumber", call).await?);
        if let Some(owned) = self.owned.get_mut(&partition.id) {
            owned.fence = fence;
        }
        Ok(fence.is_some())
    }
}
