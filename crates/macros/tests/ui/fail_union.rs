use trunkline_macros::DomainEvent;

#[derive(DomainEvent)]
union Bits {
    whole: u32,
    float: f32,
}

fn main() {}
