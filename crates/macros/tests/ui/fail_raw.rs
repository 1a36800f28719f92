use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(codec = raw)]
struct Text(String);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(codec = raw)]
struct TwoFields {
    name: String,
    content: Vec<u8>,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(codec = raw)]
enum Choice {
    Bytes(Vec<u8>),
}

fn main() {}
