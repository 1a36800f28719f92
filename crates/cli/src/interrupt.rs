//! Ctrl-C, and the signal that asks a service to stop.

use std::io;

use tokio::sync::watch;

/// Whether somebody has asked the program to stop, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<u32>);

impl Interrupt {
    /// Starts listening; from here on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the operating system does not let the program listen.
    pub(crate) fn listen() -> io::Result<Self> {
        let (count, receiver) = watch::channel(0);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            while signals.next().await {
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    /// Whether the program is to stop taking in work and finish what it has.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until the program is asked to stop.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub(crate) async fn asked(&self) {
        self.reached(1).await;
    }

    /// Waits until the program is asked a second time, by somebody who does not want to wait.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub(crate) async fn insisted(&self) {
        self.reached(2).await;
    }

    async fn reached(&self, times: u32) {
        let mut count = self.0.clone();
        if count.wait_for(|count| *count >= times).await.is_err() {
            // No signal can come any more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn next(&mut self) -> bool {
        tokio::select! {
            signal = self.interrupt.recv() => signal.is_some(),
            signal = self.terminate.recv() => signal.is_some(),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
