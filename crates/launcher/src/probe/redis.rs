//! Redis: it answers PING only after the append-only file is loaded.

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::TcpStream;

use super::{odd, read_block, send};

pub(super) fn version(stream: &mut TcpStream) -> io::Result<String> {
    send(stream, &[b"PING\r\nINFO server\r\n"])?;
    let mut reader = BufReader::new(stream);
    let pong = line(&mut reader)?;
    if pong != "+PONG" {
        return Err(odd(pong));
    }
    let header = line(&mut reader)?;
    let length = header.strip_prefix('$').and_then(|length| length.parse().ok());
    let length = length.ok_or_else(|| odd(header.as_str()))?;
    let info = read_block(&mut reader, length)?;
    let info = String::from_utf8_lossy(&info);
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version.map(str::to_owned).ok_or_else(|| odd("INFO holds no redis_version"))
}

fn line(reader: &mut BufReader<impl Read>) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
