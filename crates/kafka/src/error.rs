//! What can go wrong on Kafka, in the words of the contract.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use trunkline_core::{Error, ErrorKind, Group, RetryClass, Topic};

use crate::client::Refusal;

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the Kafka broker is closed")
}

/// Another member owns the partition by now, or the subscription is closed.
pub(crate) fn fenced() -> Error {
    let message = "the delivery's partition has gone to another member of the group, or its \
                   subscription was closed: the event is delivered again";
    Error::new(ErrorKind::Fenced, "settle", message)
}

pub(crate) fn disconnected(operation: &'static str, servers: &str, cause: &KafkaError) -> Error {
    let message = "no Kafka server answers: check that it runs, its address and listeners, and TLS and \
                   SASL settings";
    Error::new(ErrorKind::Disconnected, operation, message)
        .with("servers", servers)
        .because(cause.clone())
}

/// Servers turn this program away: it is the same until settings here or there are others.
pub(crate) fn refused_connection(refusal: Refusal, servers: &str, cause: &KafkaError) -> Error {
    Error::new(ErrorKind::Config, "connect", refusal.advice())
        .with("servers", servers)
        .because(cause.clone())
}

pub(crate) fn missing_topic(topic: &Topic) -> Error {
    let message = format!(
        "there is no Kafka topic for `{topic}`, and this broker creates none: create it, or allow \
         `create_topics`"
    );
    Error::new(ErrorKind::Unroutable, "publish", message).with("topic", topic)
}

pub(crate) fn no_such_partition(topic: &Topic, partition: u32, partitions: u32) -> Error {
    let message = format!("topic `{topic}` has no partition {partition}: it has {partitions}");
    Error::new(ErrorKind::Invalid, "publish", message)
}

/// Too many events wait for their confirmation.
pub(crate) fn full(limit: usize) -> Error {
    let message = "too many published events wait for Kafka's confirmation: publish more slowly, or \
                   raise max_unconfirmed";
    Error::new(ErrorKind::Full, "publish", message).with("max_unconfirmed", limit)
}

pub(crate) fn unconfirmed() -> Error {
    let message = "Kafka has not confirmed the event in time; it may still be accepted: publish it again \
                   with the same id";
    Error::new(ErrorKind::TimedOut, "publish", message)
}

pub(crate) fn group_in_use(group: &Group) -> Error {
    let message = "the group has live members: close them first";
    Error::new(ErrorKind::Conflict, "delete group", message).with("group", group)
}

pub(crate) fn letter_gone() -> Error {
    let message = "there is no such dead letter: it was redriven or discarded before";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}

pub(crate) fn subscriber_gone() -> Error {
    let message = "the group or subscriber that gave the event up is gone, or the subscriber lives in \
                   another process: discard the dead letter, make the group again, or redrive it there";
    Error::new(ErrorKind::NotFound, "settle dead letter", message)
}

/// A setting that librdkafka refuses; the error names the property and never its value.
pub(crate) fn settings(cause: KafkaError) -> Error {
    let config = |message| Error::new(ErrorKind::Config, "connect", message);
    let is_secure = |name: &str| {
        ["security.protocol", "sasl.", "ssl."].iter().any(|start| name.starts_with(start))
    };
    match cause {
        KafkaError::ClientConfig(_, _, property, _)
            if cfg!(not(feature = "tls")) && is_secure(&property) =>
        {
            config(
                "TLS and SASL are not compiled in: enable the feature `tls` of `trunkline-kafka`, and \
                 see librdkafka's list for the values of this property",
            )
            .with("property", property)
        }
        KafkaError::ClientConfig(_, _, property, _) => {
            config("librdkafka refuses this property: see its list of properties and values")
                .with("property", property)
        }
        other => config("librdkafka refuses the settings").because(other),
    }
}

fn code_of(cause: &KafkaError) -> Option<Code> {
    match cause {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The producer could not go on, and what waited in it is lost with it.
pub(crate) fn purged(is_ambiguous: bool) -> Error {
    let (message, retry) = match is_ambiguous {
        true => (
            "the Kafka producer had to be made anew; the event may have been accepted: publish it again \
             with the same id",
            RetryClass::Ambiguous,
        ),
        false => (
            "the Kafka producer had to be made anew before the event was sent: publish it again",
            RetryClass::Transient,
        ),
    };
    Error::new(ErrorKind::Disconnected, "publish", message).with_retry(retry)
}

/// Why a record was not accepted.
pub(crate) fn unaccepted(cause: &KafkaError) -> Error {
    let publish = |kind, message: &'static str| Error::new(kind, "publish", message);
    let error = match code_of(cause) {
        Some(Code::MessageTimedOut | Code::RequestTimedOut) => unconfirmed(),
        Some(Code::MessageSizeTooLarge) => publish(
            ErrorKind::TooLarge,
            "the Kafka topic takes no record of this size: raise its max.message.bytes",
        ),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => publish(
            ErrorKind::Unroutable,
            "the Kafka topic has vanished: publish again, and it is made anew where this broker creates \
             topics",
        )
        .with_retry(RetryClass::Transient),
        Some(Code::PurgeQueue) => closed("publish"),
        Some(Code::PurgeInflight) => closed("publish").with_retry(RetryClass::Ambiguous),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure) => {
            publish(ErrorKind::Disconnected, "no Kafka server answers")
        }
        Some(Code::Fatal) => purged(true),
        _ => publish(ErrorKind::Backend, "Kafka does not accept the event"),
    };
    error.because(cause.clone())
}

/// A request that is no publish has failed.
pub(crate) fn request(operation: &'static str, cause: KafkaError) -> Error {
    let kind = match code_of(&cause) {
        Some(
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ReplicaNotAvailable
            | Code::WaitingForCoordinator,
        ) => ErrorKind::Disconnected,
        _ => ErrorKind::Backend,
    };
    let message = match kind {
        ErrorKind::Disconnected => "no Kafka server answers in time: try again",
        _ => "Kafka refuses the request: see the cause",
    };
    Error::new(kind, operation, message).because(cause)
}

/// The same about one topic or group of a request, where Kafka gives a code only.
pub(crate) fn refused(operation: &'static str, name: &str, code: Code) -> Error {
    request(operation, KafkaError::AdminOp(code)).with("name", name)
}
