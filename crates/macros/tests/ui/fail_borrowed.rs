use std::borrow::Cow;

use serde::Serialize;
use trunkline_macros::DomainEvent;

#[derive(Serialize, DomainEvent)]
struct Borrowed<'a> {
    order_id: &'a str,
    parts: &'a [u8],
    note: Cow<'a, str>,
    total: u64,
}

#[derive(Serialize, DomainEvent)]
enum Either<'a> {
    One(&'a u64),
}

fn main() {}
