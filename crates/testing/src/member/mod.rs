//! Members of a group in processes of their own.
//!
//! A property cannot kill a part of itself, so the test binary is started again with an environment
//! variable that makes it a member: it builds the same broker, joins, handles, and prints a line when a
//! handler begins and when it ends.

mod orders;
mod process;
mod serve;

pub(crate) use orders::{Line, Orders, Role};
pub(crate) use process::{MemberProcess, Report, Reports};
pub(crate) use serve::Members;
