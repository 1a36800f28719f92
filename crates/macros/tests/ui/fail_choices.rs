use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(priority = urgent, kind = "query", codec = 3)]
struct OrderPlaced;

fn main() {}
