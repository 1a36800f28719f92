//! The other forms of a payload: encoded bytes and decoded values, each made at most once.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::codec::Codec;
use crate::error::Result;

/// Forms are made under a lock, so that two threads never encode or decode the same event twice.
///
/// Decoding may have to encode a value of another type first: it takes the locks in that order.
#[derive(Default)]
pub(crate) struct Forms {
    encoded: Mutex<Vec<(Codec, Bytes)>>,
    decoded: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
}

/// A serde implementation may panic under the lock; what was made before it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forms {
    pub(crate) fn encoded(
        &self,
        codec: Codec,
        encode: impl FnOnce() -> Result<Bytes>,
    ) -> Result<Bytes> {
        let mut encoded = lock(&self.encoded);
        if let Some((_, bytes)) = encoded.iter().find(|(made, _)| *made == codec) {
            return Ok(bytes.clone());
        }
        let bytes = encode()?;
        encoded.push((codec, bytes.clone()));
        Ok(bytes)
    }

    pub(crate) fn encoded_len(&self, codec: Codec) -> Option<usize> {
        let encoded = lock(&self.encoded);
        encoded.iter().find(|(made, _)| *made == codec).map(|(_, bytes)| bytes.len())
    }

    pub(crate) fn decoded<T: Any + Send + Sync>(
        &self,
        decode: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let mut decoded = lock(&self.decoded);
        let known = decoded.iter().find(|(made, _)| *made == TypeId::of::<T>());
        if let Some(Ok(value)) = known.map(|(_, value)| Arc::clone(value).downcast::<T>()) {
            return Ok(value);
        }
        let value = Arc::new(decode()?);
        let shared: Arc<dyn Any + Send + Sync> = Arc::<T>::clone(&value);
        decoded.push((TypeId::of::<T>(), shared));
        Ok(value)
    }
}
