use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders/placed")]
struct Slash;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.*")]
struct Pattern;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(
    topic = "a23456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"
)]
struct Long;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = orders.placed)]
struct Unquoted;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "")]
struct Empty;

#[derive(Serialize, Deserialize, DomainEvent)]
struct Größe;

fn main() {}
