use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = order_id)]
struct TypeAndField {
    order_id: String,
    #[event(key)]
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
struct TwoFields {
    #[event(key)]
    order_id: String,
    #[event(key)]
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = order_id, key_with = Self::compute)]
struct FieldAndFunction {
    order_id: String,
}

fn main() {}
