use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(version = 0)]
struct Zero;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(version = "2")]
struct Quoted;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(version = 4294967296)]
struct TooLarge;

fn main() {}
