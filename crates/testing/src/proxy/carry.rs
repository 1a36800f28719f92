//! One connection through the proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Mode, Modes};

const READ: usize = 16 * 1024;
/// Reads that may be on their way; with more the sender is held back, as by a full window.
const ON_THE_WAY: usize = 256;
/// A low rate is kept to in steps of this length.
const STEP: Duration = Duration::from_millis(20);
const STEPS_PER_SECOND: u32 = 50;

/// What was read at once, and from when on it may arrive.
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
}

/// One direction of [`Modes`].
type Pick = fn(&Modes) -> Mode;

/// Carries bytes both ways until both sides have ended, one failed, or the connection is cut.
pub(super) async fn connection(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut modes: watch::Receiver<Modes>,
    number: u64,
) {
    let mut server = None;
    let ended = tokio::select! {
        // First, so that nothing passes after a cut.
        biased;
        () = cut(modes.clone()) => Err(io::ErrorKind::ConnectionAborted.into()),
        ended = both_ways(&mut client, &mut server, upstream, &mut modes, number) => ended,
    };
    if ended.is_err() {
        // Already gone is as good as reset.
        client.set_zero_linger().ok();
        server.and_then(|server| server.set_zero_linger().ok());
    }
}

/// Ends when the connection is cut, or the proxy is gone.
async fn cut(mut modes: watch::Receiver<Modes>) {
    modes.wait_for(|modes| modes.cut).await.ok();
}

async fn both_ways(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    upstream: SocketAddr,
    modes: &mut watch::Receiver<Modes>,
    number: u64,
) -> io::Result<()> {
    // A client in front of a black hole is connected, whether or not there is a server behind it.
    open(modes, |modes| modes.to_server).await?;
    let server = server.insert(TcpStream::connect(upstream).await?);
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        one_way(from_client, to_server, modes.clone(), |modes| modes.to_server, number),
        one_way(from_server, to_client, modes.clone(), |modes| modes.to_client, number),
    )?;
    Ok(())
}

async fn one_way(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    modes: watch::Receiver<Modes>,
    pick: Pick,
    number: u64,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    tokio::try_join!(
        read(from, sender, modes.clone(), pick, number),
        deliver(to, receiver, modes, pick)
    )?;
    Ok(())
}

async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<Piece>,
    mut modes: watch::Receiver<Modes>,
    pick: Pick,
    number: u64,
) -> io::Result<()> {
    let mut chance = Chance(number);
    let mut buffer = vec![0; READ];
    let mut last = Instant::now();
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) => {
                open(&mut modes, pick).await?;
                return Err(error);
            }
        };
        if count == 0 {
            return Ok(());
        }
        // A later piece never overtakes.
        let mode = pick(&modes.borrow());
        last = last.max(Instant::now() + later(mode, &mut chance));
        let piece = Piece { bytes: buffer[..count].to_vec(), due: last };
        if queue.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

fn later(mode: Mode, chance: &mut Chance) -> Duration {
    match mode {
        Mode::Latency { delay, jitter } => delay + jitter.mul_f64(chance.next()),
        _ => Duration::ZERO,
    }
}

async fn deliver(
    mut to: WriteHalf<'_>,
    mut queue: mpsc::Receiver<Piece>,
    modes: watch::Receiver<Modes>,
    pick: Pick,
) -> io::Result<()> {
    let mut gate = Gate { mode: Mode::Pass, left: 0, modes, pick };
    while let Some(piece) = queue.recv().await {
        let mut rest = piece.bytes.as_slice();
        while !rest.is_empty() {
            let allowed = gate.allowance(rest.len(), piece.due).await?;
            let (now, after) = rest.split_at(allowed);
            to.write_all(now).await?;
            rest = after;
            gate.passed(now.len()).await?;
        }
    }
    open(&mut gate.modes, pick).await?;
    to.shutdown().await
}

/// How much may pass now, by the mode of one direction.
struct Gate {
    mode: Mode,
    /// Until the cut, in bytes.
    left: u64,
    modes: watch::Receiver<Modes>,
    pick: Pick,
}

impl Gate {
    fn look(&mut self) {
        let mode = (self.pick)(&self.modes.borrow_and_update());
        if mode == self.mode {
            return;
        }
        self.mode = mode;
        if let Mode::CutAfter { bytes } = mode {
            self.left = bytes;
        }
    }

    async fn change(&mut self) -> io::Result<()> {
        self.modes.changed().await.map_err(io::Error::other)
    }

    /// Waits until something may pass and answers how many of `wanted` bytes.
    async fn allowance(&mut self, wanted: usize, due: Instant) -> io::Result<usize> {
        loop {
            self.look();
            match self.mode {
                Mode::Blackhole => self.change().await?,
                Mode::Latency { .. } if Instant::now() < due => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        changed = self.change() => changed?,
                    }
                }
                Mode::Pass | Mode::Latency { .. } => return Ok(wanted),
                Mode::Throttle { bytes_per_second } => {
                    let step = bytes_per_second.div_ceil(STEPS_PER_SECOND).max(1);
                    return Ok(wanted.min(step as usize));
                }
                Mode::CutAfter { .. } => {
                    if self.left == 0 {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    return Ok(wanted.min(usize::try_from(self.left).unwrap_or(wanted)));
                }
            }
        }
    }

    /// Accounts for what has passed.
    async fn passed(&mut self, count: usize) -> io::Result<()> {
        match self.mode {
            Mode::Throttle { bytes_per_second } => {
                let seconds = count as f64 / f64::from(bytes_per_second.max(1));
                let pause = Duration::from_secs_f64(seconds).max(STEP / 4);
                tokio::select! {
                    () = tokio::time::sleep(pause) => Ok(()),
                    changed = self.change() => changed,
                }
            }
            Mode::CutAfter { .. } => {
                self.left -= count as u64;
                if self.left == 0 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Waits until the end of the connection may pass.
async fn open(modes: &mut watch::Receiver<Modes>, pick: Pick) -> io::Result<()> {
    modes.wait_for(|modes| pick(modes) != Mode::Blackhole).await.map_err(io::Error::other)?;
    Ok(())
}

/// A number sequence that looks like chance and is the same in every run.
struct Chance(u64);

impl Chance {
    /// The next one, from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64) / f64::from(1_u32 << 31)
    }
}
