//! Generated code names everything in full, so that nothing of the user's can get in its way.
#![no_implicit_prelude]
#![deny(warnings)]

mod user {
    // Names that generated code must not pick up.
    #[allow(dead_code, reason = "they only have to be there")]
    struct Option;
    #[allow(dead_code, reason = "they only have to be there")]
    struct Result;
    #[allow(dead_code, reason = "they only have to be there")]
    struct String;

    #[derive(::serde::Serialize, ::serde::Deserialize, ::trunkline_macros::DomainEvent)]
    #[event(topic = "orders.placed", source = "/orders", stream = "order-{order_id}", kind = command)]
    pub struct OrderPlaced {
        #[event(key)]
        pub order_id: u64,
    }

    #[derive(::serde::Serialize, ::serde::Deserialize, ::trunkline_macros::DomainEvent)]
    #[event(codec = raw)]
    pub struct Snapshot(pub ::std::vec::Vec<u8>);
}

fn main() {
    fn is_event<T: ::trunkline_core::DomainEvent>(event: T) {
        ::std::assert!(event.key().is_none() || event.stream().is_some());
    }
    is_event(user::OrderPlaced { order_id: 1 });
    is_event(user::Snapshot(::std::vec::Vec::new()));
}
