//! Real servers for async tests: [`trunkline_launcher`] off the runtime's threads.

use std::sync::Arc;

use trunkline_launcher::Server;
pub use trunkline_launcher::{Kind, LaunchError, Options, Proxied};

/// A real server of its own, that ends with the last clone of this and with the process.
///
/// No call blocks the runtime; none is cancelled by dropping its future: the step goes on to its end.
#[derive(Clone, Debug)]
pub struct LiveServer(Arc<Server>);

impl LiveServer {
    /// Starts a server on free ports with empty data, and answers once it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the server ends as soon as it has started.
    pub async fn start(kind: Kind) -> Result<Self, LaunchError> {
        Self::start_with(kind, Options::default()).await
    }

    /// Starts a server as the options say, and answers once it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with`].
    ///
    /// # Cancel safety
    ///
    /// As [`LiveServer::start`].
    pub async fn start_with(kind: Kind, options: Options) -> Result<Self, LaunchError> {
        off_the_runtime(move || Server::start_with(kind, options)).await.map(Self::from)
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The version, as the server itself says.
    #[must_use]
    pub fn version(&self) -> &str {
        self.0.version()
    }

    /// The addresses for a [`Proxy`](crate::proxy::Proxy) in front of it.
    #[must_use]
    pub fn proxied(&self) -> Proxied {
        self.0.proxied()
    }

    /// SIGKILL, as in a crash; the data stays.
    ///
    /// # Errors
    ///
    /// As [`Server::kill`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, it happens.
    pub async fn kill(&self) -> Result<(), LaunchError> {
        self.step(Server::kill).await
    }

    /// SIGSTOP: connections stay open, and nobody answers.
    ///
    /// # Errors
    ///
    /// As [`Server::pause`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, it happens.
    pub async fn pause(&self) -> Result<(), LaunchError> {
        self.step(Server::pause).await
    }

    /// SIGCONT, after [`LiveServer::pause`].
    ///
    /// # Errors
    ///
    /// As [`Server::resume`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, it happens.
    pub async fn resume(&self) -> Result<(), LaunchError> {
        self.step(Server::resume).await
    }

    /// Starts it again on the same ports and data, and answers once it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::restart`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, it happens.
    pub async fn restart(&self) -> Result<(), LaunchError> {
        self.step(Server::restart).await
    }

    /// A clean stop; the data stays.
    ///
    /// # Errors
    ///
    /// As [`Server::stop`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, it happens.
    pub async fn stop(&self) -> Result<(), LaunchError> {
        self.step(Server::stop).await
    }

    async fn step(
        &self,
        step: impl FnOnce(&Server) -> Result<(), LaunchError> + Send + 'static,
    ) -> Result<(), LaunchError> {
        let server = Arc::clone(&self.0);
        off_the_runtime(move || step(&server)).await
    }
}

impl From<Server> for LiveServer {
    fn from(server: Server) -> Self {
        Self(Arc::new(server))
    }
}

impl From<Arc<Server>> for LiveServer {
    fn from(server: Arc<Server>) -> Self {
        Self(server)
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and is about to drop this future.
            Err(_) => std::future::pending().await,
        },
    }
}
