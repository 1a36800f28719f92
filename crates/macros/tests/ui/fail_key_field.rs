use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = order)]
struct Unknown {
    order_id: String,
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = 1)]
struct OutOfRange(String);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = id)]
struct Unit;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = "order_id")]
struct Quoted {
    order_id: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key)]
struct Bare {
    order_id: String,
}

fn main() {}
