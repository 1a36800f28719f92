//! Ports that no other launcher takes at the same time.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::{LaunchError, Result};
use crate::folder;

/// The lowest port that is handed out.
const FIRST: u16 = 15_000;
/// Used when the system does not say where its own range begins.
const USUAL_EPHEMERAL: u16 = 32_768;

/// A port of 127.0.0.1, locked against other launchers for as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// None where a port that somebody named is locked by another value already.
    _lock: Option<File>,
}

impl Port {
    /// A free port below the range that the system gives to outgoing connections.
    ///
    /// A port in that range can be lost while its server is down, even to a client that tries to reach
    /// the dead server and gets the very same number for its own end.
    pub(crate) fn free() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let span = ephemeral_start().saturating_sub(FIRST).max(1);
        // Far apart for processes that start together, whose numbers are neighbours.
        let start = std::process::id().wrapping_mul(2_654_435_761) % u32::from(span);
        for _ in 0..span {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let Ok(offset) = u16::try_from((start + step) % u32::from(span)) else { continue };
            let number = FIRST + offset;
            let lock = try_lock(number)?;
            // Only the holder of the lock tries it out: that alone would be in the way of a server's start.
            if lock.is_some() && is_free(number) {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(LaunchError::new(format!("no port from {FIRST} on is free; end some servers")))
    }

    /// The port that was asked for, if nothing listens there.
    pub(crate) fn chosen(number: u16) -> Result<Self> {
        if is_free(number) {
            return Self::known(number);
        }
        Err(LaunchError::new(format!(
            "port {number} of 127.0.0.1 is taken by another program; end that one or choose another port"
        )))
    }

    /// A port that a server has already, or will have again: kept from others meanwhile if it can be.
    pub(crate) fn known(number: u16) -> Result<Self> {
        Ok(Self { number, _lock: try_lock(number)? })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// What a server may listen on; which ones it needs depends on its kind.
#[derive(Debug)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) main: Port,
    /// For clients that come through a proxy, where the server has to tell them apart.
    pub(crate) behind_proxy: Port,
    /// Where that proxy listens.
    pub(crate) proxy: Port,
    /// For the server's own purposes.
    pub(crate) inner: [Port; 2],
}

impl Ports {
    pub(crate) fn reserve(main: Option<u16>) -> Result<Self> {
        Ok(Self {
            main: match main {
                None | Some(0) => Port::free()?,
                Some(number) => Port::chosen(number)?,
            },
            behind_proxy: Port::free()?,
            proxy: Port::free()?,
            inner: [Port::free()?, Port::free()?],
        })
    }

    pub(crate) fn numbers(&self) -> [u16; 5] {
        let [first, second] = &self.inner;
        [&self.main, &self.behind_proxy, &self.proxy, first, second].map(Port::number)
    }

    /// The ports of a server that was started earlier, as [`Ports::numbers`] told them.
    pub(crate) fn known([main, behind_proxy, proxy, first, second]: [u16; 5]) -> Result<Self> {
        Ok(Self {
            main: Port::known(main)?,
            behind_proxy: Port::known(behind_proxy)?,
            proxy: Port::known(proxy)?,
            inner: [Port::known(first)?, Port::known(second)?],
        })
    }
}

/// The lock of a port, unless another launcher holds it.
fn try_lock(number: u16) -> Result<Option<File>> {
    let locks = folder::scratch()?.join("ports");
    folder::create(&locks)?;
    let file = folder::lock_file(&locks.join(number.to_string()))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

fn ephemeral_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let start = range.split_whitespace().next().and_then(|text| text.parse().ok());
    start.filter(|start| *start > FIRST).unwrap_or(USUAL_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_while_it_is_held() {
        let held: Vec<_> = (0..50).map(|_| Port::free().unwrap()).collect();
        let mut numbers: Vec<_> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|number| *number < ephemeral_start()));
    }

    #[test]
    fn a_chosen_port_that_somebody_has_is_refused() {
        let port = Port::free().unwrap();
        let taken = TcpListener::bind(port.address()).unwrap();
        let error = Port::chosen(port.number()).unwrap_err().to_string();
        assert!(error.contains("is taken by another program"), "{error}");
        drop(taken);
        Port::chosen(port.number()).unwrap();
    }
}
