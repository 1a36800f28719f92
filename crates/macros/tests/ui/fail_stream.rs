use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(stream = "order-{id}")]
struct Unknown {
    order_id: String,
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(stream = "order-{order_id")]
struct Unclosed {
    order_id: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(stream = "order-{order_id:?}")]
struct Formatted {
    order_id: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(stream = "order-{order_id}")]
struct Optional {
    order_id: Option<String>,
}

fn main() {}
