use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed", version = 1, topic = "orders")]
#[event(version = 2)]
struct OrderPlaced;

fn main() {}
