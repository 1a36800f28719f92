use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(type = 1, source = "\n", key_with = "f", crate = "trunkline")]
struct Kinds;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic)]
struct NoValue;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = )]
struct NothingAfter;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event = "orders.placed"]
struct NoList;

fn main() {}
