//! As much of Redis' protocol as the tests speak.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, command: &str) {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn nothing_comes(&mut self) {
        self.0.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = self.0.fill_buf().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        self.0.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
}

/// Sends one command on a connection of its own and answers the first line of what comes back.
pub(crate) fn ask(port: u16, command: &str) -> String {
    let mut connection = Connection::open(port);
    connection.send(command);
    connection.line()
}

/// The folder that a server of the launcher works in, as the server tells.
pub(crate) fn folder(port: u16) -> String {
    let mut connection = Connection::open(port);
    connection.send("CONFIG GET dir");
    let [_, _, _, _, data] = std::array::from_fn(|_| connection.line());
    data.trim_end_matches("/data").to_owned()
}
