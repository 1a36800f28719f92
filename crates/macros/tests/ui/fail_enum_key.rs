use serde::{Deserialize, Serialize};
use trunkline_macros::DomainEvent;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(key = id)]
enum Named {
    Opened { id: String },
}

#[derive(Serialize, Deserialize, DomainEvent)]
enum Marked {
    Opened {
        #[event(key)]
        id: String,
    },
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(stream = "account-{id}")]
enum Streamed {
    Opened { id: String },
}

fn main() {}
