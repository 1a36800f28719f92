//! Kafka: it serves once its own list of brokers holds a broker.
//!
//! A node that was killed does not until its old registration has expired, though its port is open.

use std::io;
use std::net::TcpStream;

use super::{odd, read_block, read_u32, send};
use crate::jars::KAFKA;

/// Metadata, version 1, number 7, from a client without a name, about no topic.
const REQUEST: [u8; 14] = [0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];

pub(super) fn version(stream: &mut TcpStream) -> io::Result<String> {
    send(stream, &[&14_u32.to_be_bytes(), &REQUEST])?;
    let length = read_u32(stream)?;
    let answer = read_block(stream, length)?;
    let mut rest = answer.as_slice();
    if read_u32(&mut rest)? != 7 {
        return Err(odd("an answer to another request"));
    }
    if read_u32(&mut rest)? == 0 {
        return Err(odd("no broker is registered yet"));
    }
    // Kafka does not tell its version to clients; this is the one that is started.
    Ok(KAFKA.to_owned())
}
