//! Events that are too large are refused before anything else happens.

use trunkline_core::{Broker, Data, ErrorKind, Event};

use super::{BrokerConditions, BrokerProperty, Subject, promise};
use crate::failure::{Check, Failure, ensure_eq};

/// The limit that the broker is made with.
const LIMIT: usize = 64 << 10;

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    let small = || BrokerConditions { max_event_bytes: Some(LIMIT), ..Default::default() };
    vec![
        promise!(data_above_the_limit_is_too_large_and_goes_nowhere).under(small()),
        promise!(data_of_just_the_limit_is_accepted).under(small()),
    ]
}

fn event_of<B: Broker>(subject: &Subject<B>, bytes: usize) -> Result<Event, Failure> {
    let data = Data::raw(vec![b'x'; bytes], "text/plain");
    Ok(Event::from_data("Sized", subject.topic("a")?, data).build()?)
}

async fn data_above_the_limit_is_too_large_and_goes_nowhere<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let event = event_of(&subject, LIMIT + 1)?;
    let result = subject.broker.publish(&[event], &Default::default()).await;
    let kind = result.error(0).map(trunkline_core::Error::kind);
    ensure_eq!(kind, Some(ErrorKind::TooLarge), "the answer to an event that is too large");
    member.nothing().await?;
    listener.nothing().await
}

async fn data_of_just_the_limit_is_accepted<B: Broker>(subject: Subject<B>) -> Check {
    let mut member = subject.join("g", &subject.topic("a")?).await?;
    subject.publish_one(&event_of(&subject, LIMIT)?).await?;
    let got = member.event().await?;
    ensure_eq!(got.data()?.as_slice().len(), LIMIT, "the length of the data");
    Ok(())
}
