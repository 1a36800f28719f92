//! What the broker says it can do, and what it answers when asked for more.

use std::time::Duration;

use trunkline_core::{Broker, ErrorKind, OnFull, Pattern, PublishOptions, SubscribeOptions};

use super::refusal::{ensure_publish_refused, ensure_subscribe_refused};
use super::{BrokerProperty, Subject, numbered, promise};
use crate::failure::{Check, ensure, ensure_eq};
use crate::ground::PASSWORD;

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(it_declares_exactly_the_pinned_capabilities),
        promise!(an_option_that_it_lacks_is_refused_by_name),
        promise!(a_subscription_without_topics_or_prefetch_is_invalid),
        promise!(its_debug_output_holds_no_credential),
    ]
}

async fn it_declares_exactly_the_pinned_capabilities<B: Broker>(subject: Subject<B>) -> Check {
    ensure_eq!(*subject.broker.capabilities(), subject.expected, "the declared capabilities");
    Ok(())
}

async fn an_option_that_it_lacks_is_refused_by_name<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let plain = || subject.member_of("g", &topic);
    let lacked = &subject.expected;
    let options = [
        (lacked.priority_lanes, "priority_lanes", plain()?.with_lanes()),
        (lacked.drop_oldest, "drop_oldest", plain()?.with_buffer(1, OnFull::DropOldest)),
        (lacked.buffer, "buffer", plain()?.with_buffer(1, OnFull::Block)),
    ];
    for (has, capability, options) in options {
        if !has {
            ensure_subscribe_refused(&subject, options, capability)?;
        }
    }
    if !lacked.delay {
        let _member = subject.join("g", &topic).await?;
        let options = PublishOptions::default().with_delay(Duration::from_millis(50));
        ensure_publish_refused(&subject, numbered(&topic, None, 0)?, &options, "delay")?;
    }
    Ok(())
}

async fn a_subscription_without_topics_or_prefetch_is_invalid<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = Pattern::from(subject.topic("a")?);
    let options = [
        SubscribeOptions::group(subject.group("g")?, []),
        SubscribeOptions::broadcast([]),
        SubscribeOptions::broadcast([topic]).with_prefetch(0),
    ];
    for options in options {
        match subject.broker.subscribe(options.clone()).await {
            Err(error) => ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of `{error}`"),
            Ok(_) => ensure!(false, "these options were accepted: {options:?}"),
        }
    }
    Ok(())
}

async fn its_debug_output_holds_no_credential<B: Broker>(subject: Subject<B>) -> Check {
    let debug = format!("{:?}", subject.broker);
    let health = format!("{:?}", subject.broker.health().await);
    for text in [debug, health] {
        ensure!(!text.contains(PASSWORD), "the password is shown");
        // The user part of a URL: `scheme://user:password@host`.
        for url in text.split("://").skip(1) {
            let authority = url.split(['/', '"', ' ']).next().unwrap_or_default();
            let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
            ensure!(password.is_none(), "a password is shown after `://`");
        }
    }
    Ok(())
}
