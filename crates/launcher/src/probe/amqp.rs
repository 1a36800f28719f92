//! RabbitMQ: it serves once a virtual host can be opened.

use std::io::{self, Read as _};
use std::net::TcpStream;

use super::{odd, read_block, read_u32, send};

const FRAME_END: u8 = 0xce;
/// Class and method of each answer.
const START: [u8; 4] = [0, 10, 0, 10];
const TUNE: [u8; 4] = [0, 10, 0, 30];
const OPEN_OK: [u8; 4] = [0, 10, 0, 41];
const CLOSE_OK: [u8; 4] = [0, 10, 0, 51];

pub(super) fn version(stream: &mut TcpStream) -> io::Result<String> {
    send(stream, &[b"AMQP\x00\x00\x09\x01"])?;
    let start = answer(stream, START)?;
    // start-ok: no properties, PLAIN, NUL guest NUL guest, en_US.
    let login = b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
    method(stream, login)?;
    let tune = answer(stream, TUNE)?;
    method(stream, &[b"\0\x0a\0\x1f".as_slice(), &tune].concat())?;
    // open: virtual host "/" and two reserved fields.
    method(stream, b"\0\x0a\0\x28\x01/\0\0")?;
    answer(stream, OPEN_OK)?;
    // close: 200, no text, not about a method. Saying it keeps a warning out of the log.
    method(stream, b"\0\x0a\0\x32\0\xc8\0\0\0\0\0")?;
    answer(stream, CLOSE_OK)?;
    version_in(&start).ok_or_else(|| odd("the server names no version"))
}

/// Sends a method on channel 0.
fn method(stream: &mut TcpStream, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    send(stream, &[&[1, 0, 0], &length.to_be_bytes(), payload, &[FRAME_END]])
}

/// The arguments of the method that is expected next.
fn answer(stream: &mut TcpStream, expected: [u8; 4]) -> io::Result<Vec<u8>> {
    let mut header = [0; 3];
    stream.read_exact(&mut header)?;
    let length = read_u32(stream)?;
    let mut payload = read_block(stream, length)?;
    let mut end = [0];
    stream.read_exact(&mut end)?;
    if header != [1, 0, 0] || end != [FRAME_END] || !payload.starts_with(&expected) {
        return Err(odd(format!("another answer than {expected:?}")));
    }
    Ok(payload.split_off(expected.len()))
}

/// The value of `version` in the table of properties: `S`, a length of four bytes, the text.
fn version_in(properties: &[u8]) -> Option<String> {
    let name = b"\x07versionS";
    let start = properties.windows(name.len()).position(|window| window == name)?;
    let (length, rest) = properties.get(start + name.len()..)?.split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
