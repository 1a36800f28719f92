//! What handles events: a type, an async closure, or a plain function.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use trunkline_core::{DomainEvent, Error, ErrorKind, Event, Result, Topic, Typed};

use crate::context::Context;

/// What a handler takes: [`Typed`] for one payload type, [`Event`] for every type.
pub trait Incoming: Sized + Send + 'static {
    /// The CloudEvents type that is taken; `None` takes every type that has no handler of its own.
    const TYPE: Option<&'static str>;
    /// The `dataversion` that is taken.
    const VERSION: u32;
    /// The topic to subscribe to where the consumer names none.
    const TOPIC: Option<Topic>;

    /// Makes the message of an event.
    ///
    /// # Errors
    /// `Decode` when the data is not what the handler expects.
    fn from_event(event: &Event) -> Result<Self>;
}

impl<T: DomainEvent> Incoming for Typed<T> {
    const TYPE: Option<&'static str> = Some(T::TYPE);
    const VERSION: u32 = T::VERSION;
    const TOPIC: Option<Topic> = Some(T::TOPIC);

    fn from_event(event: &Event) -> Result<Self> {
        event.typed()
    }
}

impl Incoming for Event {
    const TYPE: Option<&'static str> = None;
    const VERSION: u32 = 0;
    const TOPIC: Option<Topic> = None;

    fn from_event(event: &Event) -> Result<Self> {
        Ok(event.clone())
    }
}

/// Handles messages of one type.
///
/// Ok acknowledges the event; an error, a panic or a time-out is a failed attempt, and the consumer's
/// policy says what follows. Events of one topic and key are handled in order and never at the same
/// time. Delivery is at least once: the same event may come again after a crash.
///
/// Middleware is a handler around a handler: the two become one future, boxed once per worker and not
/// once per event.
///
/// ```
/// use trunkline_bus::{Context, Handler, HandlerError};
///
/// struct Logged<H>(H);
///
/// impl<M: Send + 'static, H: Handler<M>> Handler<M> for Logged<H> {
///     async fn handle(&self, message: M) -> Result<(), HandlerError> {
///         let outcome = self.0.handle(message).await;
///         if let Some(context) = Context::current() {
///             let word = if outcome.is_ok() { "done" } else { "failed" };
///             println!("{}, attempt {}: {word}", context.event().id(), context.attempt());
///         }
///         outcome
///     }
/// }
/// ```
///
/// # Cancel safety
/// The future is dropped when a time limit passes or a close runs out of time; the event is then
/// delivered again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{M}`",
    note = "write `async |message: Typed<YourEvent>| {{ … }}` as `|message: Typed<YourEvent>| async move {{ … }}`, or implement `Handler<Typed<YourEvent>>`"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// Whether dropping the future stops the work; a plain function goes on until it returns.
    const CANCELLABLE: bool = true;

    /// Handles one message. [`Context::current`] says of which event, and which attempt this is.
    fn handle(&self, message: M) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Why an attempt failed.
pub struct HandlerError {
    permanent: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl HandlerError {
    /// A failure that another attempt may cure.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { permanent: false, source: source.into() }
    }

    /// A failure that no attempt can cure: the event goes to the dead letters at once.
    #[must_use]
    pub fn permanent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { permanent: true, source: source.into() }
    }

    /// Whether no attempt can succeed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    pub(crate) fn into_error(self) -> Error {
        Error::new(ErrorKind::HandlerFailed, "handle", "the handler failed").because(self.source)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("permanent", &self.permanent)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

/// What a handler closure may return: nothing, or a result.
pub trait Outcome {
    /// The result of the attempt.
    ///
    /// # Errors
    /// The handler's own error.
    fn into_result(self) -> Result<(), HandlerError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: Into<HandlerError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// What can be made a handler of `M`: a [`Handler`], or a closure of a message and perhaps a
/// [`Context`]. `Marker` tells the cases apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "this is no handler",
    label = "needs a closure `|message: Typed<YourEvent>| async move {{ … }}` that returns `()` or `Result<(), E>`",
    note = "annotate the closure's argument with `Typed<YourEvent>` or `Event`; wrap a function that is not async in `plain`"
)]
pub trait IntoHandler<M, Marker> {
    /// The handler.
    type Handler: Handler<M>;

    /// Makes the handler.
    fn into_handler(self) -> Self::Handler;
}

/// Marks what implements [`Handler`] itself.
#[derive(Debug)]
pub struct Itself;

/// Marks an async closure of the message.
#[derive(Debug)]
pub struct OfMessage;

/// Marks an async closure of the message and the context.
#[derive(Debug)]
pub struct OfMessageAndContext;

impl<M, H: Handler<M>> IntoHandler<M, Itself> for H {
    type Handler = H;

    fn into_handler(self) -> H {
        self
    }
}

/// An async closure of the message as a handler.
#[derive(Debug)]
pub struct MessageFn<F>(F);

impl<M, F, Fut> Handler<M> for MessageFn<F>
where
    M: Send + 'static,
    F: Fn(M) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome> + Send,
{
    async fn handle(&self, message: M) -> Result<(), HandlerError> {
        (self.0)(message).await.into_result()
    }
}

impl<M, F, Fut> IntoHandler<M, OfMessage> for F
where
    M: Send + 'static,
    F: Fn(M) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome> + Send,
{
    type Handler = MessageFn<F>;

    fn into_handler(self) -> MessageFn<F> {
        MessageFn(self)
    }
}

/// An async closure of the message and the context as a handler.
#[derive(Debug)]
pub struct ContextFn<F>(F);

impl<M, F, Fut> Handler<M> for ContextFn<F>
where
    M: Send + 'static,
    F: Fn(M, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome> + Send,
{
    async fn handle(&self, message: M) -> Result<(), HandlerError> {
        (self.0)(message, current_context()?).await.into_result()
    }
}

impl<M, F, Fut> IntoHandler<M, OfMessageAndContext> for F
where
    M: Send + 'static,
    F: Fn(M, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome> + Send,
{
    type Handler = ContextFn<F>;

    fn into_handler(self) -> ContextFn<F> {
        ContextFn(self)
    }
}

/// The context that the runtime sets for every attempt.
fn current_context() -> Result<Context, HandlerError> {
    Context::current().ok_or_else(|| HandlerError::new("a handler runs in a consumer of a bus"))
}

/// Makes a handler of a function that is not async; see [`Plain`].
#[must_use]
pub fn plain<F>(function: F) -> Plain<F> {
    Plain(Arc::new(function))
}

/// A function that is not async, run off the async threads.
///
/// It cannot be stopped: a time limit does not apply to it, and its key stays closed until it
/// returns, also through a close that runs out of time. [`Context::current`] works inside it.
#[derive(Debug)]
pub struct Plain<F>(Arc<F>);

impl<M, F, O> Handler<M> for Plain<F>
where
    M: Send + 'static,
    F: Fn(M) -> O + Send + Sync + 'static,
    O: Outcome,
{
    const CANCELLABLE: bool = false;

    async fn handle(&self, message: M) -> Result<(), HandlerError> {
        let (function, context) = (Arc::clone(&self.0), current_context()?);
        let work = move || context.run(|| function(message).into_result());
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => Err(HandlerError::new(cancelled)),
            },
        }
    }
}
