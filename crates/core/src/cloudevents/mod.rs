//! CloudEvents 1.0.2 on the wire: structured JSON, and binary mode by headers.

mod binary;
mod json;

pub use binary::{
    HeaderValue, Headers, from_headers, http_decode, http_encode, to_headers, visit_headers,
};
pub use json::{STRUCTURED_JSON, from_json, to_json};

/// How a broker writes events; it reads both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContentMode {
    /// Attributes as headers, and the data as it is.
    #[default]
    Binary,
    /// The whole event as one JSON text; data that is no JSON grows by a third.
    Structured,
}
