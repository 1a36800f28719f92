//! What can go wrong at RabbitMQ, and the words for it.

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::ShortString;
use trunkline_core::{Error, ErrorKind, Group, RetryClass, Topic};

use crate::limit::LIMIT;

/// The driver's error in the caller's terms. The text of an AMQP error names queues and users, and
/// never a password.
pub(crate) fn driver(operation: &'static str, cause: lapin::Error) -> Error {
    let (kind, message) = match cause.kind() {
        lapin::ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if is_away(error) => (
                ErrorKind::Disconnected,
                "the queue's node is not there yet: it comes back when the server has started",
            ),
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
                (ErrorKind::NotFound, "RabbitMQ does not know the exchange or queue: declare it")
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (
                ErrorKind::Config,
                "RabbitMQ refuses access: check user, password, virtual host and permissions",
            ),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => (
                ErrorKind::Config,
                "RabbitMQ refuses the virtual host: make it, and give the user permissions on it",
            ),
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => (
                ErrorKind::Conflict,
                "RabbitMQ has a queue or exchange of that name with other arguments: delete it, or \
                 set the same arguments",
            ),
            _ => (ErrorKind::Disconnected, "RabbitMQ has ended the channel or connection"),
        },
        lapin::ErrorKind::ChannelsLimitReached => (
            ErrorKind::Backend,
            "the connection has no channel left: close subscriptions, or raise channel_max of the \
             server",
        ),
        lapin::ErrorKind::IOError(error) if is_untrusted(error) => (
            ErrorKind::Config,
            "the certificate of the RabbitMQ server is not trusted: give the certificate of its \
             authority as `ca_file`, and the name that stands in it in the URL",
        ),
        lapin::ErrorKind::AuthProviderError(_) => {
            (ErrorKind::Config, "RabbitMQ refuses the credentials: check user and password")
        }
        _ => (ErrorKind::Disconnected, "the connection to RabbitMQ is lost"),
    };
    Error::new(kind, operation, message).because(cause)
}

/// Whether the other side could not prove who it is.
fn is_untrusted(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// Why a queue cannot be declared.
pub(crate) fn undeclared(queue: &ShortString, cause: lapin::Error) -> Error {
    let is_limit = matches!(cause.kind(), lapin::ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
            && error.get_message().as_str().contains(LIMIT));
    if !is_limit {
        return driver("declare", cause).with("queue", queue);
    }
    let message = "the queue was made with a limit of deliveries, after which RabbitMQ drops an event that \
                   is still to be retried (4.0 has one of 20 unless told otherwise): delete it when it \
                   is empty, and it is made again without one";
    Error::new(ErrorKind::Conflict, "declare", message).with("queue", queue).because(cause)
}

/// Whether "not found" means only that the queue's node is down.
fn is_away(error: &AMQPError) -> bool {
    error.get_message().as_str().contains("down or inaccessible")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the RabbitMQ broker is closed")
}

pub(crate) fn disconnected(operation: &'static str, address: &str) -> Error {
    let message = "RabbitMQ cannot be reached: check that it runs, and its address";
    Error::new(ErrorKind::Disconnected, operation, message).with("address", address)
}

pub(crate) fn unroutable(topic: &Topic) -> Error {
    let message = format!(
        "nobody takes topic `{topic}`: subscribe first, or name its groups in channels.*.consumers"
    );
    Error::new(ErrorKind::Unroutable, "publish", message).with("topic", topic)
}

/// A queue behind the exchange said no, or the server took nothing, for as long as the publisher had.
pub(crate) fn refused() -> Error {
    let message = "RabbitMQ refuses the event: a queue is over its length limit, or its leader is away, or \
                   the server is short of memory or disk";
    Error::new(ErrorKind::Full, "publish", message)
}

pub(crate) fn no_confirm(address: &str) -> Error {
    let message =
        "RabbitMQ has not confirmed in time, and may have the event: retry with the same id";
    Error::new(ErrorKind::TimedOut, "publish", message).with("address", address)
}

pub(crate) fn fenced() -> Error {
    let message =
        "the channel of the delivery is gone, and RabbitMQ gives the event to a member again";
    Error::new(ErrorKind::Fenced, "settle", message).with_retry(RetryClass::Permanent)
}

pub(crate) fn group_in_use(group: &Group) -> Error {
    let message = "the group has live members: close them first";
    Error::new(ErrorKind::Conflict, "delete group", message).with("group", group)
}

pub(crate) fn letter_gone() -> Error {
    let message = "there is no such dead letter: it was redriven or discarded before";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}

pub(crate) fn addressee_gone() -> Error {
    let message = "the group or subscriber that gave the event up is gone: discard the dead letter, \
                   or make the group again";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}

pub(crate) fn name_too_long(name: &str) -> Error {
    let message = "a name is longer than the 255 bytes of AMQP: shorten topic, group or prefix";
    Error::new(ErrorKind::Invalid, "rabbitmq", message).with("bytes", name.len())
}

pub(crate) fn close_timed_out() -> Error {
    let message = "the deadline passed before all deliveries were settled and acknowledged";
    Error::new(ErrorKind::TimedOut, "close", message)
}
