use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders placed", version = -1, stream = "order-{id}", prio = high)]
struct OrderPlaced {
    #[event(keys)]
    order_id: String,
}

fn main() {}
