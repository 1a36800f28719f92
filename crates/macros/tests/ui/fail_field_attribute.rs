use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
struct OrderPlaced {
    #[event(key = order_id)]
    order_id: String,
    #[event(topic = "orders.placed")]
    customer: String,
}

fn main() {}
