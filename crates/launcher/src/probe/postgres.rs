//! PostgreSQL: it serves once it is ready for a query of our account.

use std::io::{self, Read as _};
use std::net::TcpStream;

use super::{odd, read_block, read_u32, send};

pub(super) fn version(stream: &mut TcpStream) -> io::Result<String> {
    // Protocol 3.0.
    let startup = b"\0\x03\0\0user\0trunkline\0database\0trunkline\0\0";
    let length = u32::try_from(startup.len() + 4).map_err(io::Error::other)?;
    send(stream, &[&length.to_be_bytes(), startup])?;
    let mut version = None;
    loop {
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        let length = read_u32(stream)?;
        let body = read_block(stream, length.saturating_sub(4))?;
        match kind[0] {
            b'S' => version = version.or_else(|| parameter(&body, "server_version")),
            b'Z' => break,
            b'E' => return Err(odd(String::from_utf8_lossy(&body))),
            _ => {}
        }
    }
    version.ok_or_else(|| odd("the server names no version"))
}

/// The value of one parameter: name, NUL, value, NUL.
fn parameter(body: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let mut fields = text.split('\0');
    if fields.next()? != name {
        return None;
    }
    // Debian adds the version of its package.
    Some(fields.next()?.split_whitespace().next()?.to_owned())
}
