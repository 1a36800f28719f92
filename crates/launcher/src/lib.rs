//! Real servers for tests: started on free ports, killed, paused and restarted at will.
//!
//! ```no_run
//! use trunkline_launcher::{Kind, Server};
//!
//! # fn main() -> Result<(), trunkline_launcher::LaunchError> {
//! let server = Server::start(Kind::Redis)?;
//! println!("{} serves at {}", server.version(), server.url());
//! server.kill()?; // SIGKILL, as a crash would
//! server.restart()?; // the same port and the same data
//! # Ok(())
//! # }
//! ```
//!
//! A [`Server`] has a folder and ports of its own, so any number of them run side by side, also from
//! test binaries that run at the same time. It ends with the value, and with the process that started it,
//! even when that one is killed: a small shell holds the other end of a pipe and cleans up once it closes.
//!
//! # Where the servers come from
//!
//! | | native | docker |
//! |---|---|---|
//! | Redis | Debian's `redis-server` | `redis:7` |
//! | Kafka | Apache Kafka from Maven Central, on Java 17 or later | `apache/kafka:4.2.0` |
//! | RabbitMQ | Debian's `rabbitmq-server` | `rabbitmq:3-management` |
//! | PostgreSQL | Debian's `postgresql` | `postgres:15` |
//!
//! Docker is used when an engine answers, native programs otherwise; `TRUNKLINE_LAUNCHER=native` or
//! `TRUNKLINE_LAUNCHER=docker` decides. The docker path has only been tested against a stand-in for the
//! `docker` program so far, never against an engine.
//!
//! Native programs that are missing are installed with `apt-get` when this runs as root; otherwise the
//! error holds the command to type. Kafka's jars are fetched once and kept in `target/servers` of the
//! workspace, or wherever `TRUNKLINE_SERVERS_DIR` points.
//!
//! Everything here blocks. `trunkline-testing` wraps it for async tests.

mod docker;
mod error;
mod folder;
mod install;
mod jars;
mod kind;
mod native;
mod options;
mod ports;
mod probe;
mod process;
mod recipe;
mod server;

pub use error::{LaunchError, Result};
pub use install::{build_tools, program};
pub use kind::Kind;
pub use options::Options;
pub use server::{Proxied, Server};
