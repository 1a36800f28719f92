//! The SQL event stores of trunkline.
//!
//! [`SqliteStore`] keeps events in one SQLite file: durable, with nothing to install or to run.

#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteStore, Synchronous};
