//! What a broker answers to an option that it lacks: by name, and before anything is sent.

use futures_util::FutureExt as _;
use trunkline_core::{
    Broker, Error, ErrorKind, Event, PublishOptions, RetryClass, SubscribeOptions,
};

use super::Subject;
use crate::failure::{Check, Failure, ensure_eq};

/// Fails unless a publish is refused at once, by an error that names the capability and the broker.
pub(super) fn ensure_publish_refused<B: Broker>(
    subject: &Subject<B>,
    event: Event,
    options: &PublishOptions,
    capability: &str,
) -> Check {
    let batch = [event];
    let answered = subject.broker.publish(&batch, options).now_or_never();
    ensure_refused(subject, answered.map(|result| result.into_result()), capability)
}

/// Fails unless a subscribe is refused at once, by an error that names the capability and the broker.
pub(super) fn ensure_subscribe_refused<B: Broker>(
    subject: &Subject<B>,
    options: SubscribeOptions,
    capability: &str,
) -> Check {
    let answered = subject.broker.subscribe(options).now_or_never();
    ensure_refused(subject, answered.map(|outcome| outcome.map(drop)), capability)
}

fn ensure_refused<B: Broker>(
    subject: &Subject<B>,
    answered: Option<Result<(), Error>>,
    capability: &str,
) -> Check {
    let Some(outcome) = answered else {
        return Err(Failure::new(format!("a broker without `{capability}` does I/O for it")));
    };
    let Err(error) = outcome else {
        return Err(Failure::new(format!("`{capability}` was accepted by a broker without it")));
    };
    ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of `{error}`");
    ensure_eq!(error.retry(), RetryClass::Misuse, "the retry class of `{error}`");
    ensure_eq!(error.context("capability"), Some(capability), "what `{error}` names");
    ensure_eq!(error.context("broker"), Some(subject.expected.name), "whom `{error}` names");
    Ok(())
}
