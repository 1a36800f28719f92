//! What `#[derive(DomainEvent)]` writes, seen through the trait.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trunkline_core::{Codec, DomainEvent, Kind, Priority, Topic};
use trunkline_macros::DomainEvent;
use uuid::Uuid;

#[derive(Serialize, Deserialize, DomainEvent)]
struct PaymentFailed {
    code: u16,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(
    type = "order.placed",
    version = 2,
    topic = "orders.placed",
    key = order_id,
    stream = "order-{order_id}",
    priority = high,
    kind = command,
    source = "/orders",
    codec = msgpack
)]
struct OrderPlaced {
    order_id: String,
    cents: u64,
}

fn order() -> OrderPlaced {
    OrderPlaced { order_id: "o-17".to_owned(), cents: 4_200 }
}

fn key_of(event: &impl DomainEvent) -> Option<String> {
    event.key().map(String::from)
}

fn stream_of(event: &impl DomainEvent) -> Option<String> {
    event.stream().map(String::from)
}

#[test]
fn an_event_that_says_nothing_has_the_defaults() {
    assert_eq!(PaymentFailed::TYPE, "PaymentFailed");
    assert_eq!(PaymentFailed::TOPIC, Topic::from_static("payment-failed"));
    assert_eq!(PaymentFailed::VERSION, 1);
    assert_eq!(PaymentFailed::PRIORITY, Priority::Normal);
    assert_eq!(PaymentFailed::KIND, Kind::Domain);
    assert_eq!(PaymentFailed::SOURCE, None);
    assert_eq!(PaymentFailed::CODEC, Codec::Json);
    let event = PaymentFailed { code: 7 };
    assert_eq!((key_of(&event), stream_of(&event)), (None, None));
    let bytes = event.encode(PaymentFailed::CODEC).unwrap();
    assert_eq!(&bytes[..], br#"{"code":7}"#);
}

#[test]
fn every_key_of_the_attribute_reaches_the_trait() {
    assert_eq!(OrderPlaced::TYPE, "order.placed");
    assert_eq!(OrderPlaced::TOPIC, Topic::from_static("orders.placed"));
    assert_eq!(OrderPlaced::VERSION, 2);
    assert_eq!(OrderPlaced::PRIORITY, Priority::High);
    assert_eq!(OrderPlaced::KIND, Kind::Command);
    assert_eq!(OrderPlaced::SOURCE, Some("/orders"));
    assert_eq!(OrderPlaced::CODEC, Codec::MessagePack);
    assert_eq!(key_of(&order()).as_deref(), Some("o-17"));
    assert_eq!(stream_of(&order()).as_deref(), Some("order-o-17"));
}

#[test]
fn an_event_goes_through_its_codec_and_back() {
    for codec in [Codec::Json, Codec::MessagePack] {
        let bytes = order().encode(codec).unwrap();
        assert_eq!(OrderPlaced::decode(&bytes, codec).unwrap(), order());
    }
}

#[test]
fn words_may_be_quoted() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(priority = "critical", kind = "notification", codec = "json")]
    struct Alert;

    assert_eq!(Alert::PRIORITY, Priority::Critical);
    assert_eq!(Alert::KIND, Kind::Notification);
    assert_eq!(Alert::CODEC, Codec::Json);
}

#[test]
fn every_priority_and_kind_has_its_word() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(priority = low, kind = domain)]
    struct Low;
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(priority = normal, kind = integration)]
    struct Normal;

    assert_eq!((Low::PRIORITY, Low::KIND), (Priority::Low, Kind::Domain));
    assert_eq!((Normal::PRIORITY, Normal::KIND), (Priority::Normal, Kind::Integration));
}

#[test]
fn attributes_may_be_spread_over_lines() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "a.b")]
    #[event(version = 3)]
    struct Spread;

    assert_eq!((Spread::TOPIC, Spread::VERSION), (Topic::from_static("a.b"), 3));
}

#[test]
fn a_field_can_be_marked_as_the_key() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    struct Moved {
        from: String,
        #[event(key)]
        to: Uuid,
    }

    let event = Moved { from: String::new(), to: Uuid::from_u128(1) };
    assert_eq!(key_of(&event).as_deref(), Some("00000000-0000-0000-0000-000000000001"));
}

#[test]
fn a_key_is_whatever_has_a_text() {
    #[derive(Serialize, Deserialize)]
    struct Sku(u32);

    impl std::fmt::Display for Sku {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "sku-{}", self.0)
        }
    }

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(key = id)]
    struct Counted {
        id: i64,
    }
    #[derive(Serialize, Deserialize, DomainEvent)]
    struct Stocked(#[event(key)] Sku);
    #[derive(Serialize, Deserialize, DomainEvent)]
    struct Shared(#[event(key)] std::sync::Arc<str>);

    assert_eq!(key_of(&Counted { id: -3 }).as_deref(), Some("-3"));
    assert_eq!(key_of(&Stocked(Sku(9))).as_deref(), Some("sku-9"));
    assert_eq!(key_of(&Shared("s".into())).as_deref(), Some("s"));
}

#[test]
fn a_field_of_a_tuple_struct_is_named_by_its_number() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(key = 1, stream = "{0}/{1}")]
    struct Pair(u8, String);

    let event = Pair(4, "b".to_owned());
    assert_eq!(key_of(&event).as_deref(), Some("b"));
    assert_eq!(stream_of(&event).as_deref(), Some("4/b"));
}

#[test]
fn an_optional_field_is_a_key_when_it_holds_one() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    struct Visited {
        #[event(key)]
        user: Option<u64>,
    }
    #[derive(Serialize, Deserialize, DomainEvent)]
    struct Left(#[event(key)] Option<String>);

    assert_eq!(key_of(&Visited { user: Some(5) }).as_deref(), Some("5"));
    assert_eq!(key_of(&Visited { user: None }), None);
    assert_eq!(key_of(&Left(Some("x".to_owned()))).as_deref(), Some("x"));
}

#[test]
fn a_function_computes_the_key_of_an_enum() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "accounts", key_with = Self::account)]
    enum Account {
        Opened { id: String },
        Audited,
    }

    impl Account {
        fn account(&self) -> Option<&str> {
            match self {
                Self::Opened { id } => Some(id),
                Self::Audited => None,
            }
        }
    }

    assert_eq!(key_of(&Account::Opened { id: "a".to_owned() }).as_deref(), Some("a"));
    assert_eq!(key_of(&Account::Audited), None);
    assert_eq!(Account::TYPE, "Account");
}

#[test]
fn a_function_may_return_an_owned_key() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(key_with = warehouse_and_order)]
    struct OrderShipped {
        warehouse: u8,
        order: u8,
    }

    fn warehouse_and_order(event: &OrderShipped) -> Option<String> {
        Some(format!("{}/{}", event.warehouse, event.order))
    }

    assert_eq!(key_of(&OrderShipped { warehouse: 1, order: 2 }).as_deref(), Some("1/2"));
}

#[test]
fn a_stream_pattern_is_filled_with_fields() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(stream = "{tenant}/{{cart}}-{r#type}{type}")]
    struct Cart {
        tenant: String,
        r#type: u8,
    }
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(stream = "audit")]
    enum Audit {
        Read,
    }

    let cart = Cart { tenant: "acme".to_owned(), r#type: 1 };
    assert_eq!(stream_of(&cart).as_deref(), Some("acme/{cart}-11"));
    assert_eq!(stream_of(&Audit::Read).as_deref(), Some("audit"));
}

#[test]
fn raw_bytes_pass_through_unchanged() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
    #[event(codec = raw)]
    struct Snapshot(Bytes);
    #[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
    #[event(codec = raw)]
    struct Upload {
        content: Vec<u8>,
    }

    let data = Bytes::from_static(&[0, 159, 255]);
    assert_eq!((Snapshot::CODEC, Upload::CODEC), (Codec::Raw, Codec::Raw));
    let snapshot = Snapshot::decode(&data, Codec::Raw).unwrap();
    let shared = snapshot.encode(Codec::Raw).unwrap();
    assert_eq!(shared, data);
    assert_eq!(shared.as_ptr(), data.as_ptr(), "`Bytes` are shared, not copied");
    let upload = Upload { content: data.to_vec() };
    assert_eq!(upload.encode(Codec::Raw).unwrap(), data);
    assert_eq!(Upload::decode(&data, Codec::Raw).unwrap(), upload);
}

#[test]
fn raw_bytes_go_through_another_codec_when_it_is_asked_for() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
    #[event(codec = raw)]
    struct Frame(Vec<u8>);

    let bytes = Frame(vec![1, 2]).encode(Codec::Json).unwrap();
    assert_eq!(&bytes[..], b"[1,2]");
    assert_eq!(Frame::decode(&bytes, Codec::Json).unwrap(), Frame(vec![1, 2]));
}

#[test]
fn generics_are_taken_over() {
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[serde(bound = "")]
    #[event(key = id, topic = "changes")]
    struct Changed<T, const N: usize = 1>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        id: u8,
        value: T,
    }

    let event = Changed::<String> { id: 1, value: "v".to_owned() };
    assert_eq!(key_of(&event).as_deref(), Some("1"));
    assert_eq!(Changed::<u8, 2>::TYPE, "Changed");
}

#[test]
fn an_event_can_come_out_of_a_declarative_macro() {
    macro_rules! event {
        ($name:ident, $topic:literal, $field:ident: $ty:ty, $priority:ident) => {
            #[derive(Serialize, Deserialize, DomainEvent)]
            #[event(topic = $topic, key = $field, stream = "by-macro", priority = $priority)]
            struct $name {
                $field: $ty,
            }
        };
        (marked $name:ident, $ty:ty) => {
            #[derive(Serialize, Deserialize, DomainEvent)]
            #[event(stream = "{inner}")]
            struct $name {
                #[event(key)]
                inner: $ty,
                other: Option<$ty>,
            }
        };
    }
    event!(Made, "made.by.macro", id: Option<u8>, low);
    event!(marked Marked, u8);

    assert_eq!(Made::TOPIC, Topic::from_static("made.by.macro"));
    assert_eq!(Made::PRIORITY, Priority::Low);
    assert_eq!(key_of(&Made { id: Some(8) }).as_deref(), Some("8"));
    let marked = Marked { inner: 3, other: None };
    assert_eq!((key_of(&marked), stream_of(&marked)), (Some("3".into()), Some("3".into())));
}

#[test]
fn the_crate_can_be_named() {
    mod vendored {
        pub(super) use trunkline_core as events;
    }

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(crate = vendored::events, key = 0, stream = "s-{0}")]
    struct Named(u8);

    assert_eq!(key_of(&Named(2)).as_deref(), Some("2"));
    assert_eq!(stream_of(&Named(2)).as_deref(), Some("s-2"));
}
