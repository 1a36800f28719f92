//! A named promise, and how it is put to the test.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinError;
use trunkline_core::Result;

use crate::broker::PATIENCE;
use crate::failure::{Check, Failure};
use crate::fixture::Fixture;

/// How long a property may take: far more than any needs, so that what hangs fails and says so.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The same on a server, which is shared with other properties on the same machine.
pub(crate) const SERVER_TIME_LIMIT: Duration = Duration::from_secs(150);

/// The same where servers and processes are started and killed on the way.
pub(crate) const FAULT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// A promise with a name that is a sentence, about a subject made under `conditions`.
pub struct Property<T, C> {
    name: &'static str,
    conditions: C,
    run: fn(T) -> BoxFuture<'static, Check>,
}

impl<T: Send + 'static, C: Clone> Property<T, C> {
    pub(crate) fn new(name: &'static str, run: fn(T) -> BoxFuture<'static, Check>) -> Self
    where
        C: Default,
    {
        Self { name, conditions: C::default(), run }
    }

    pub(crate) fn under(mut self, conditions: C) -> Self {
        self.conditions = conditions;
        self
    }

    /// The name: a sentence with underscores.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the subject has to be made for.
    #[must_use]
    pub fn conditions(&self) -> &C {
        &self.conditions
    }

    /// Puts a fresh subject of `factory` to the test, on a runtime of its own.
    ///
    /// # Errors
    /// A [`Failure`] when the property does not hold, panics or has not ended within `limit`.
    pub fn check<F, Fut, U>(&self, factory: F, limit: Duration) -> Check
    where
        F: FnOnce(C) -> Fut,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
        U: Into<T> + Send + 'static,
    {
        // So that a property says itself what it missed, before its time is up.
        self.check_with_patience(factory, limit, limit / 2)
    }

    /// The same, where `patience` is the most that is waited for anything.
    pub(crate) fn check_with_patience<F, Fut, U>(
        &self,
        factory: F,
        limit: Duration,
        patience: Duration,
    ) -> Check
    where
        F: FnOnce(C) -> Fut,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
        U: Into<T> + Send + 'static,
    {
        run_alone(limit, PATIENCE.scope(patience, self.checked(factory)))
    }

    /// Puts a fresh subject of `factory` to the test, and cleans up after it.
    pub(crate) fn checked<F, Fut, U>(
        &self,
        factory: F,
    ) -> impl Future<Output = Check> + Send + 'static + use<F, Fut, U, T, C>
    where
        F: FnOnce(C) -> Fut,
        Fut: Future<Output = Result<Fixture<U>>> + Send + 'static,
        U: Into<T> + Send + 'static,
    {
        let making = factory(self.conditions.clone());
        let run = self.run;
        async move {
            let made = making.await.map_err(Failure::unmade)?;
            let Fixture { subject, kept, endings, .. } = made;
            let mut outcome = run(subject.into()).await;
            for ending in endings {
                outcome = outcome.and(ending.await);
            }
            drop(kept);
            outcome
        }
    }
}

impl<T, C: fmt::Debug> fmt::Debug for Property<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Property")
            .field("name", &self.name)
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

/// Registers a function as the property of its name.
macro_rules! property {
    ($property:ident) => {
        $crate::property::Property::new(stringify!($property), |subject| {
            Box::pin($property(subject))
        })
    };
}

pub(crate) use property;

/// Runs `check` on a runtime of its own with two workers.
///
/// It runs as a task, so that even one that never yields cannot keep the limit from being noticed.
pub(crate) fn run_alone(
    limit: Duration,
    check: impl Future<Output = Check> + Send + 'static,
) -> Check {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|cause| Failure::new(format!("the runtime does not start: {cause}")))?;
    let task = runtime.spawn(check);
    let ended = runtime.block_on(async { tokio::time::timeout(limit, task).await });
    runtime.shutdown_background();
    match ended {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(stopped)) => Err(Failure::new(panic_text(stopped))),
        Err(_) => Err(Failure::new(format!("it has not ended after {limit:?}"))),
    }
}

fn panic_text(stopped: JoinError) -> String {
    let Ok(panic) = stopped.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = text_of(&*panic);
    format!("it panicked: {text}")
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_panics_fails_with_its_text() {
        let failure = run_alone(TIME_LIMIT, async { panic!("no {}", "luck") }).unwrap_err();
        assert_eq!(failure.to_string(), "it panicked: no luck");
    }

    #[test]
    fn a_property_that_hangs_or_never_yields_fails_at_the_limit() {
        let limit = Duration::from_millis(20);
        let hangs = run_alone(limit, std::future::pending()).unwrap_err();
        assert_eq!(hangs.to_string(), "it has not ended after 20ms");
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let spins = run_alone(limit, async move {
            // Ends when the test drops its end, so that no thread spins for ever.
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                std::thread::yield_now();
            }
            Ok(())
        });
        drop(stop);
        assert!(spins.is_err());
    }
}
