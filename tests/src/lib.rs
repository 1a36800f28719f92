//! What the tests across crates share.
//!
//! [`rules`] holds the rules of the workspace as pure functions, so that a test can prove that a broken rule is caught.

pub mod rules;
