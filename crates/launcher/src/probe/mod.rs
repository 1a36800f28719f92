//! Whether a server really serves: each is asked in its own protocol, since an open port says little.

mod amqp;
mod kafka;
mod postgres;
mod redis;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::kind::Kind;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server that serves says of its version.
pub(crate) fn version(kind: Kind, port: u16) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match kind {
        Kind::Redis => redis::version(&mut stream),
        Kind::Kafka => kafka::version(&mut stream),
        Kind::RabbitMq => amqp::version(&mut stream),
        Kind::Postgres => postgres::version(&mut stream),
    }
}

/// A complaint about an answer.
fn odd(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// A number of four bytes, the highest first, as all the binary protocols here write it.
fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// As many bytes as were announced, unless that is absurd.
fn read_block(stream: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    const MOST: u32 = 1 << 20;
    if length > MOST {
        return Err(odd(format!("an answer of {length} bytes")));
    }
    let mut block = vec![0; length as usize];
    stream.read_exact(&mut block)?;
    Ok(block)
}

fn send(stream: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    stream.write_all(&parts.concat())
}
