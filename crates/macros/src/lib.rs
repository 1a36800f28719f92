//! The derive macro of trunkline: [`DomainEvent`](macro@DomainEvent).
//!
//! Users reach it through the facade, `trunkline::DomainEvent`. It reads the attribute (`attributes`,
//! `values`), checks it against the type (`checks`, `shape`, `owned`, `pattern`, `names`) and writes
//! the implementation (`expand`). Everything that can be wrong is found before anything is written,
//! and all of it is reported at once.

mod attributes;
mod checks;
mod errors;
mod expand;
mod krate;
mod names;
mod owned;
mod pattern;
mod shape;
mod values;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `DomainEvent` for a struct or an enum that is the payload of an event.
///
/// The type must also be `Serialize`, `DeserializeOwned`, `Send`, `Sync` and `'static`: an event is
/// owned.
///
/// ```
/// # use trunkline_core as trunkline;
/// use serde::{Deserialize, Serialize};
/// use trunkline::{DomainEvent, Priority};
/// # use trunkline_macros::DomainEvent;
///
/// #[derive(Serialize, Deserialize, DomainEvent)]
/// #[event(topic = "orders.placed", version = 2, priority = high, stream = "order-{order_id}")]
/// struct OrderPlaced {
///     #[event(key)]
///     order_id: String,
///     total_cents: u64,
/// }
///
/// let order = OrderPlaced { order_id: "o-17".to_owned(), total_cents: 4_200 };
/// assert_eq!(OrderPlaced::TYPE, "OrderPlaced");
/// assert_eq!(OrderPlaced::VERSION, 2);
/// assert_eq!(OrderPlaced::PRIORITY, Priority::High);
/// assert_eq!(order.key().as_deref(), Some("o-17"));
/// assert_eq!(order.stream().as_deref(), Some("order-o-17"));
/// ```
///
/// # Keys of `#[event(…)]` on the type
///
/// All of them are optional.
///
/// | key | value | without it |
/// |---|---|---|
/// | `type` | the `CloudEvents` type, a string | the name of the type as written, `OrderPlaced` |
/// | `version` | the version of the payload, a whole number from 1 | 1 |
/// | `topic` | where it is published, a string | the name of the type in kebab case, `order-placed` |
/// | `key` | the field whose text is the ordering key; `0` in a tuple struct | no key, no order |
/// | `key_with` | the path of a `fn(&Self) -> Option<impl Into<SmolStr>>` that computes the key | |
/// | `stream` | the stream in an event store, a string with `{field}` placeholders | the bus's choice: topic and key |
/// | `priority` | `low`, `normal`, `high` or `critical` | `normal` |
/// | `kind` | `command`, `domain`, `integration` or `notification` | `domain` |
/// | `source` | the `CloudEvents` source, a string | the bus's own source |
/// | `codec` | `json`, `msgpack` or `raw` | `json` |
/// | `crate` | the path of `trunkline` or `trunkline-core`, where it is re-exported | found in `Cargo.toml` |
///
/// `#[event(key)]` on a field does the same as `key = field` on the type; one event has one key.
///
/// # Keys and streams
///
/// A key field is anything that implements `Display`: a string, a number, a `Uuid`, a new type of
/// yours. An `Option` is a key when it holds one. In a `stream` pattern, `{{` and `}}` stand for
/// braces; an optional field cannot be part of one, because a stream's name needs all of its parts.
///
/// An enum has no fields of its own, so its key is computed:
///
/// ```
/// # use trunkline_core as trunkline;
/// # use serde::{Deserialize, Serialize};
/// # use trunkline::DomainEvent;
/// # use trunkline_macros::DomainEvent;
/// #[derive(Serialize, Deserialize, DomainEvent)]
/// #[event(topic = "payments", key_with = Self::payment_id)]
/// enum Payment {
///     Authorised { id: String },
///     Captured { id: String, cents: u64 },
/// }
///
/// impl Payment {
///     fn payment_id(&self) -> Option<&str> {
///         match self {
///             Self::Authorised { id } | Self::Captured { id, .. } => Some(id),
///         }
///     }
/// }
///
/// let payment = Payment::Authorised { id: "p-1".to_owned() };
/// assert_eq!(payment.key().as_deref(), Some("p-1"));
/// ```
///
/// # Raw bytes
///
/// `codec = raw` publishes the bytes of the struct's only field, a `Bytes` or a `Vec<u8>`, as they
/// are. Asked for another codec, such a type goes through serde like any other.
///
/// # Generic events
///
/// Type parameters, their bounds and the `where` clause are taken over, so the bounds must make the
/// type an event. With serde's own derive, `#[serde(bound = "")]` keeps it from adding the same
/// bounds twice.
#[proc_macro_derive(DomainEvent, attributes(event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    checks::checked(&input)
        .map_or_else(syn::Error::into_compile_error, |event| expand::implementation(&event))
        .into()
}
