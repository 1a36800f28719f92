//! Payload codecs and content types.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result, RetryClass};

/// How a typed payload becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`, structs as maps with field names.
    MessagePack,
    /// `application/octet-stream`: the payload is bytes already.
    Raw,
}

impl Codec {
    /// The media type that says so on the wire.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Raw => "application/octet-stream",
        }
    }

    /// The codec that reads `content_type`; absent means JSON, as CloudEvents has it.
    ///
    /// Media types are matched without regard to case or parameters.
    #[must_use]
    pub fn for_content_type(content_type: Option<&str>) -> Self {
        let Some(content_type) = content_type else { return Self::Json };
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let media = media.to_ascii_lowercase();
        match media.as_str() {
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Self::MessagePack
            }
            media if media.ends_with("/json") || media.ends_with("+json") => Self::Json,
            _ => Self::Raw,
        }
    }

    /// Encodes `value`.
    ///
    /// # Errors
    /// `Encode` when serde refuses the value, and always for [`Codec::Raw`], which only payload types
    /// that are bytes themselves implement.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Bytes> {
        let encoded = match self {
            Self::Json => serde_json::to_vec(value).map_err(|e| encode_error(self).because(e)),
            Self::MessagePack => {
                rmp_serde::to_vec_named(value).map_err(|e| encode_error(self).because(e))
            }
            Self::Raw => Err(encode_error(self).with("hint", "derive with `codec = raw`")),
        };
        encoded.map(Bytes::from)
    }

    /// Decodes a `T` from `data`.
    ///
    /// # Errors
    /// `Decode`, permanent, when the bytes are not a `T` in this codec.
    pub fn decode<T: DeserializeOwned>(self, data: &[u8]) -> Result<T> {
        match self {
            Self::Json => serde_json::from_slice(data).map_err(|e| decode_error(self).because(e)),
            Self::MessagePack => {
                rmp_serde::from_slice(data).map_err(|e| decode_error(self).because(e))
            }
            Self::Raw => Err(decode_error(self).with("hint", "derive with `codec = raw`")),
        }
    }
}

fn encode_error(codec: Codec) -> Error {
    let message = "the payload cannot be encoded";
    Error::new(ErrorKind::Encode, "encode", message).with("codec", codec.content_type())
}

fn decode_error(codec: Codec) -> Error {
    Error::new(ErrorKind::Decode, "decode", "the data is not what its handler expects")
        .with_retry(RetryClass::Permanent)
        .with("codec", codec.content_type())
}

/// The encoded data of an event: bytes, or none, and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Data {
    /// The bytes; `None` is an event without data, which is not the same as empty data.
    pub bytes: Option<Bytes>,
    /// The media type of the bytes.
    pub content_type: Option<SmolStr>,
}

impl Data {
    /// No data at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { bytes: None, content_type: None }
    }

    /// JSON text, taken as it is.
    #[must_use]
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self::of(Codec::Json, text.into())
    }

    /// Bytes of another media type.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>, content_type: impl Into<SmolStr>) -> Self {
        Self { bytes: Some(bytes.into()), content_type: Some(content_type.into()) }
    }

    pub(crate) fn of(codec: Codec, bytes: Bytes) -> Self {
        let content_type = SmolStr::new_static(codec.content_type());
        Self { bytes: Some(bytes), content_type: Some(content_type) }
    }

    /// The bytes, empty when there are none.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_matched_without_case_or_parameters() {
        let cases = [
            (None, Codec::Json),
            (Some("Application/JSON; charset=utf-8"), Codec::Json),
            (Some("application/vnd.order+json"), Codec::Json),
            (Some("application/vnd.msgpack"), Codec::MessagePack),
            (Some("text/plain"), Codec::Raw),
            (Some(""), Codec::Raw),
        ];
        for (content_type, codec) in cases {
            assert_eq!(Codec::for_content_type(content_type), codec, "{content_type:?}");
        }
    }

    #[test]
    fn message_pack_round_trips_with_field_names() {
        #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Placed {
            order: u64,
        }
        let bytes = Codec::MessagePack.encode(&Placed { order: 7 }).unwrap();
        assert!(bytes.windows(5).any(|window| window == b"order"));
        assert_eq!(Codec::MessagePack.decode::<Placed>(&bytes).unwrap(), Placed { order: 7 });
    }
}
