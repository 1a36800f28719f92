//! CloudEvents 1.0.2 on the wire: structured JSON, and binary mode by headers.

mod binary;
mod json;

pub use binary::{
    HeaderValue, Headers, from_headers, http_decode, http_encode, to_headers, visit_headers,
};
pub use json::{STRUCTURED_JSON, from_json, to_json};
