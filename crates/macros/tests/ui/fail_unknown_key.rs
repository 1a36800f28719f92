use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topik = "orders.placed")]
struct OrderPlaced;

fn main() {}
